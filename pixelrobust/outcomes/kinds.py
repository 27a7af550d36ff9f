"""Kinds of stored rows, which all tables and figures are computed from, and their columns' values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

from pixelrobust.errors import InputError

CELL_COLUMNS = ["num", "amplitude", "area"]

IMAGE_SIZE = "image_size"
"""What rows in memory call the (height, width) of their images, in pixels, among their `attrs`."""

ORIGINAL = " (original)"
UNCHANGED = "-unchanged"
ALL_CLASSES = " (all classes)"
"""How rows call networks that were not retrained, retrained on unchanged images, or kept all classes,
at the end of their names."""

SAME = "same"
HELDOUT = "heldout"
"""What rows call the images that networks were retrained on, and others."""


@dataclass(frozen=True)
class Kind:
    """One kind of rows that runs store; columns stand in the order of the file.

    Attributes:
        name: as the config calls it, by `measure` or by its attack.
        keys: columns that tell a row from every other.
        values: columns that hold what was found.
        columns: all of them.
    """

    name: str
    keys: list[str]
    values: list[str]
    columns: list[str]


_OUTCOME = ["model", *CELL_COLUMNS, "image", "draw"]
_FOUND = ["label", "prediction", "wrong"]
OUTCOMES = Kind("outcomes", _OUTCOME, _FOUND, [*_OUTCOME, *_FOUND])
ADVERSARIAL = Kind(
    "adversarial",
    [*_OUTCOME, "epsilon", "rounded"],
    [*_FOUND, "size", "adversarial"],
    [*OUTCOMES.columns, "epsilon", "size", "rounded", "adversarial"],
)
_LAYER = ["model", *CELL_COLUMNS, "image", "change", "layer"]
_CHANGE = ["depth", "relative_change", "norm_mismatch", "matched"]
ACTIVATIONS = Kind("activations", _LAYER, _CHANGE, [*_LAYER, *_CHANGE])
_TRAINED = ["images_are", "training_seed"]
RETRAINING = Kind("retraining", [*_OUTCOME, *_TRAINED], _FOUND, [*OUTCOMES.columns, *_TRAINED])
_SHOWN = ["model", "training_seed", "against", "epsilon"]
TRANSFER = Kind(
    "transfer",
    [*_SHOWN, "rounded", "image"],
    ["size", *_FOUND],
    [*_SHOWN, "size", "rounded", "image", *_FOUND],
)
_MEASURED = ["model", "training_seed", "images_are", "image"]
_DISTANCE = ["distance", "measured"]
DISTANCES = Kind("distances", _MEASURED, _DISTANCE, [*_MEASURED, *_DISTANCE])

RANDOM = "random"
EXTREMES = "extremes"
SEARCH = "search"
"""What rows call how a change was come by: at random, at random with extreme values, or by a search."""
_TRIED = [*_OUTCOME, "method"]
_BROKEN = [*_FOUND, "query", "margin", "pixels"]
WORST_CASE = Kind("worst_case", _TRIED, _BROKEN, [*_TRIED, *_BROKEN])

KINDS = {
    kind.name: kind
    for kind in (OUTCOMES, ADVERSARIAL, ACTIVATIONS, RETRAINING, TRANSFER, DISTANCES, WORST_CASE)
}
"""Every kind of stored rows, by its name."""

_COUNT = (0, 2**31 - 1)
# Least and largest whole number of a column, of which no value may be missing.
_WHOLE = {
    "num": _COUNT,
    "draw": (0, 2**32 - 1),
    "label": _COUNT,
    "prediction": (-1, 2**31 - 1),
    "adversarial": (-1, 2**31 - 1),
    "training_seed": (0, 2**63 - 1),
    "depth": _COUNT,
    "query": _COUNT,
}
# The same where a missing value says that nothing limits a change.
_LIMITS = {"amplitude": (0, 255), "area": (1, 2**31 - 1)}
_FLAGS = ("wrong", "rounded", "matched")
_REAL = ("size", "relative_change", "norm_mismatch", "distance", "measured", "margin")


def kind_of(config: Mapping[str, Any]) -> Kind:
    """Return the kind of rows that a run stores.

    Args:
        config: of the run, as its manifest holds it (`RunSettings.identity`).

    Raises:
        InputError: it names no kind that there is.
    """
    measure = config.get("measure", OUTCOMES.name)
    if measure == OUTCOMES.name and "attack" in config:
        return ADVERSARIAL
    if measure not in KINDS or measure == ADVERSARIAL.name:
        raise InputError(
            f"a run of measure={measure!r} stores no rows that this version knows; run it again."
        )
    return KINDS[measure]


def faulty_columns(rows: pd.DataFrame) -> list[str]:
    """Name the columns in which some value is none that a run writes: files come from anyone."""
    return [str(name) for name in rows if not _is_sound(str(name), rows[name])]


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
    """Tell whether values are integers in a range, and none is missing."""
    if not len(values):
        return True
    if not is_integer_dtype(values) or values.isna().any():
        return False
    return bool(values.min() >= least and values.max() <= most)
