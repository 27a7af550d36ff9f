"""Outcomes, and other per-image rows that every table and figure is computed from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

from pixelrobust.errors import InputError
from pixelrobust.files import replacing
from pixelrobust.perturbation.grid import Cell

CELL_COLUMNS = ["num", "amplitude", "area"]

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

KINDS = {
    kind.name: kind
    for kind in (OUTCOMES, ADVERSARIAL, ACTIVATIONS, RETRAINING, TRANSFER, DISTANCES)
}
"""Every kind of stored rows, by its name."""

_CATEGORIES = ["model", "image", "change", "layer", "images_are", "against"]


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


def make_outcomes(
    model: str,
    keys: Sequence[str],
    labels: NDArray[np.int64],
    predictions: Mapping[Cell, NDArray[np.int64]],
) -> pd.DataFrame:
    """One row for each cell, image and draw.

    Args:
        model: name of the model.
        keys: N image keys.
        labels: (N,) true classes.
        predictions: for each cell, (N, draws) predicted classes.

    Returns:
        Columns model, num, amplitude and area (missing: unlimited), image, draw, label, prediction,
        wrong (prediction differs from label).
    """
    images = pd.Categorical(list(keys), categories=list(keys))
    parts = []
    for cell, table in predictions.items():
        draws = table.shape[1]
        part = pd.DataFrame(
            {
                "image": images.repeat(draws),
                "draw": np.tile(np.arange(draws, dtype=np.int32), len(keys)),
                "label": labels.repeat(draws).astype(np.int32),
                "prediction": table.ravel().astype(np.int32),
            }
        )
        parts.append(with_cell(part, cell))
    outcomes = pd.concat(parts, ignore_index=True)
    outcomes["model"] = pd.Categorical([model]).repeat(len(outcomes))
    outcomes["wrong"] = outcomes["label"] != outcomes["prediction"]
    return outcomes[OUTCOMES.columns]


def with_cell(rows: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """The rows with the columns of a cell."""
    return rows.assign(
        num=np.int32(cell.num),
        amplitude=pd.array([cell.amplitude], dtype="Int16").repeat(len(rows)),
        area=pd.array([cell.area], dtype="Int32").repeat(len(rows)),
    )


def cell_of(outcomes: pd.DataFrame) -> Cell:
    """The cell that all these rows belong to."""
    first = outcomes.iloc[0]
    amplitude, area = (
        None if pd.isna(first[key]) else int(first[key]) for key in ("amplitude", "area")
    )
    return Cell(int(first["num"]), amplitude, area)


def correct_before(outcomes: pd.DataFrame) -> pd.DataFrame:
    """The rows of images that every model classifies correctly before any change.

    Only these take part, as in the paper (Section 6.1.1).

    Args:
        outcomes: as from `pixelrobust.evaluate`, of one or several models, with num 0.

    Raises:
        InputError: no image is left, or a model lacks its unchanged images.
    """
    control = outcomes[outcomes["num"] == 0]
    models, images = (outcomes[column].nunique() for column in ("model", "image"))
    if len(control[["model", "image"]].drop_duplicates()) < models * images:
        raise InputError("the outcomes lack unchanged images (num 0) of some model; evaluate them.")
    right = set(control["image"]) - set(control.loc[control["wrong"], "image"])
    if not right:
        raise InputError(
            "no image is left: none is classified correctly by every model before any change; check "
            "that labels fit the models' outputs."
        )
    return _compact(outcomes[outcomes["image"].isin(list(right))].reset_index(drop=True))


def concatenate(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put rows of several models or cells into one frame, each row once."""
    combined = pd.concat(parts)
    keys = dict.fromkeys(key for kind in KINDS.values() for key in kind.keys)
    return _compact(combined.drop_duplicates(_held(combined, keys), ignore_index=True))


def write_outcomes(outcomes: pd.DataFrame, path: Path) -> None:
    """Write outcomes as Parquet, whole or not at all."""
    with replacing(path) as temporary:
        outcomes.to_parquet(temporary, index=False, compression="zstd")


def read_outcomes(path: Path, kind: str = OUTCOMES.name) -> pd.DataFrame:
    """Read outcomes from a Parquet file.

    Args:
        path: the file.
        kind: name of the kind of rows that it holds; `kind_of` tells it from a manifest's config.

    Raises:
        InputError: the file is missing, or holds anything but rows of this kind.
    """
    try:
        outcomes = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"outcomes {path} cannot be read ({error}); run the experiment again."
        ) from error
    if list(outcomes.columns) != KINDS[kind].columns:
        raise InputError(
            f"{path} does not hold outcomes, of kind {kind}: its columns are {list(outcomes.columns)}; "
            "run the experiment again."
        )
    faulty = faulty_columns(outcomes)
    if faulty:
        raise InputError(
            f"{path} does not hold outcomes: {' and '.join(faulty)} of some rows cannot be such; run the "
            "experiment again."
        )
    return _compact(outcomes)


def _compact(outcomes: pd.DataFrame) -> pd.DataFrame:
    for column in _held(outcomes, _CATEGORIES):
        values = outcomes[column].astype(object)
        outcomes[column] = pd.Categorical(values, categories=list(dict.fromkeys(values)))
    return outcomes


def _held(outcomes: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    return [column for column in columns if column in outcomes]


# Which values columns of outcomes may have: files of them come from anyone.

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
