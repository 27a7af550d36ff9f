"""Which values columns of outcomes may have: files of them come from anyone."""

from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

_COUNT = (0, 2**31 - 1)
_DRAW = (0, 2**32 - 1)
# Least and largest whole number of a column.
_WHOLE = {
    "num": _COUNT,
    "draw": _DRAW,
    "label": _COUNT,
    "prediction": (-1, 2**31 - 1),
    "adversarial": (-1, 2**31 - 1),
    "training_seed": (0, 2**63 - 1),
    "depth": _COUNT,
}
# The same where a value may be missing.
_LIMITS = {"amplitude": (0, 255), "area": (1, 2**31 - 1)}
_FLAGS = ("wrong", "rounded", "matched")
_REAL = (
    "size",
    "relative_change",
    "norm_mismatch",
    "distance",
    "measured",
)


def faulty_columns(outcomes: pd.DataFrame) -> list[str]:
    """The columns in which some value is none that a run writes."""
    return [str(name) for name in outcomes if not _is_sound(str(name), outcomes[name])]


def _is_sound(name: str, values: "pd.Series[Any]") -> bool:
    if name in _WHOLE:
        return _are_whole(values, *_WHOLE[name])
    if name in _LIMITS:
        return _are_whole(values.dropna(), *_LIMITS[name])
    if name in _FLAGS:
        return bool(is_bool_dtype(values))
    if name in _REAL:
        return bool(is_numeric_dtype(values))
    return all(isinstance(one, str) for one in values.unique())


def _are_whole(values: "pd.Series[Any]", least: int, most: int) -> bool:
    """Whether values are integers in a range, and none is missing."""
    if not len(values):
        return True
    if not is_integer_dtype(values) or values.isna().any():
        return False
    return bool(values.min() >= least and values.max() <= most)
