"""Kinds of values that several sections of the config have."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt

from pixelrobust.grid import as_tuple

# Upper bounds keep what no computer could finish, or hold in memory, from being tried.
_LARGEST_COUNT = 10**9
_MAX_DRAWS = 10**6
_MAX_SIDE = 4096
_MAX_BATCH = 65_536
# Seeds are kept in 64-bit columns.
_MAX_SEED = 2**63 - 1

Positive = Annotated[StrictInt, Field(ge=1, le=_LARGEST_COUNT)]
NotNegative = Annotated[StrictInt, Field(ge=0, le=_LARGEST_COUNT)]
Seed = Annotated[StrictInt, Field(ge=0, le=_MAX_SEED)]
Draws = Annotated[StrictInt, Field(ge=1, le=_MAX_DRAWS)]
Side = Annotated[StrictInt, Field(ge=1, le=_MAX_SIDE)]
Batch = Annotated[StrictInt, Field(ge=1, le=_MAX_BATCH)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Parts255 = Annotated[Real, Field(gt=0, le=255)]


def checked(check: Any) -> Any:
    """A tuple field that takes a scalar too, and whose every item passes the check."""

    def convert(value: Any) -> tuple[Any, ...]:
        items = as_tuple(value)
        for item in items:
            check(item)
        return items

    return BeforeValidator(convert)


class Section(BaseModel):
    """Typed values of one section of the config; unknown keys are refused, nothing can be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
