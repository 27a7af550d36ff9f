"""A network as a section of the config, and what it is called."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, StrictStr

from pixelrobust.grid import as_tuple
from pixelrobust.settings.fields import Real, Section

PACKAGE_PREFIX = "package:"
"""What `weights` begins with where an installed package carries the file."""

_LONGEST_NAME = 100
# Upper bounds keep what no computer could finish, or hold in memory, from being tried.
_MAX_CLASSES = 100_000


def _of_each_channel(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) not in (1, 3):
        raise ValueError("give one number for all channels, or three: red, green, blue.")
    return values


_CHANNELS = BeforeValidator(as_tuple), AfterValidator(_of_each_channel)


class ModelSettings(Section):
    """A network, its weights, and what it expects of its input."""

    source: Literal["torchvision", "timm", "checkpoint", "huggingface"]
    name: StrictStr
    path: Path | None = None
    weights: StrictStr
    match: Literal["names", "order"]
    classes: Annotated[StrictInt, Field(ge=1, le=_MAX_CLASSES)]
    mean: Annotated[tuple[Annotated[Real, Field(ge=0, le=1)], ...], *_CHANNELS] | None
    std: Annotated[tuple[Annotated[Real, Field(gt=0, le=1)], ...], *_CHANNELS] | None
    labels: Path | Literal["order"] | None = None
    label: StrictStr | None = None


def model_label(key: str, model: ModelSettings) -> str:
    """What tables call a model: its label where it has one, else its key under `models`."""
    return model.label or key


def is_plain_name(name: str) -> bool:
    """Whether a name can stand in tables, figures and paths, and is no formula of a spreadsheet."""
    if not name[:1].isalnum() or len(name) > _LONGEST_NAME:
        return False
    return name.isprintable() and not set(name) & set("/\\")


def is_weights_file(weights: Any) -> bool:
    """Whether a `weights` value names a file, rather than published weights or a package's file."""
    if not isinstance(weights, str) or weights.startswith(PACKAGE_PREFIX):
        return False
    return weights.lower().endswith((".safetensors", ".pth", ".pt", ".bin"))
