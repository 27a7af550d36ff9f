"""Stored rows: made of predictions, put together, written and read."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.errors import InputError
from pixelrobust.files import replacing
from pixelrobust.outcomes.kinds import IMAGE_SIZE, KINDS, OUTCOMES, faulty_columns
from pixelrobust.outcomes.manifest import read_manifest
from pixelrobust.perturbation.grid import Cell

_KEYS = list(dict.fromkeys(key for kind in KINDS.values() for key in kind.keys))
_CATEGORIES = ["model", "image", "change", "layer", "images_are", "against", "method"]


def make_outcomes(
    model: str,
    keys: Sequence[str],
    labels: NDArray[np.int64],
    predictions: Mapping[Cell, NDArray[np.int64]],
) -> pd.DataFrame:
    """Return one row for each cell, image and draw.

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
    """Return the rows with the columns of a cell."""
    return rows.assign(
        num=np.int32(cell.num),
        amplitude=pd.array([cell.amplitude], dtype="Int16").repeat(len(rows)),
        area=pd.array([cell.area], dtype="Int32").repeat(len(rows)),
    )


def cell_of(rows: pd.DataFrame) -> Cell:
    """Return the cell that all these rows belong to."""
    return cell_in(rows.iloc[0])


def cell_in(row: "Mapping[Any, Any] | pd.Series[Any]") -> Cell:
    """Return the cell of one row, from its columns num, amplitude and area."""
    limits = (None if pd.isna(row[key]) else int(row[key]) for key in ("amplitude", "area"))
    return Cell(int(row["num"]), *limits)


def pixels_as_text(places: NDArray[np.int64], values: NDArray[np.uint8]) -> str:
    """Return changed pixels as text, such as "12,200:ff00ff 5,6:00ffff".

    Args:
        places: (K, 2) row and column of each, from the top left.
        values: (K, C) of each channel after the change.
    """
    return " ".join(
        f"{row},{column}:{bytes(value).hex()}"
        for (row, column), value in zip(places, np.ascontiguousarray(values), strict=True)
    )


def pixels_from_text(text: str) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the places and values that `pixels_as_text` wrote.

    Raises:
        InputError: the text is no such.
    """
    try:
        parts = [
            re.fullmatch(r"([0-9]{1,5}),([0-9]{1,5}):((?:[0-9a-f]{2})+)", one)
            for one in text.split(" ")
        ]
        places = [(int(one[1]), int(one[2])) for one in parts if one]
        values = [list(bytes.fromhex(one[3])) for one in parts if one]
        if len(places) < len(parts):
            raise ValueError
        return np.array(places, dtype=np.int64), np.array(values, dtype=np.uint8)
    except ValueError:
        raise InputError(f"{text!r:.60} is stored as changed pixels, which it is not.") from None


def correct_before(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of images that every model classifies correctly before any change.

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
    """Put rows of several models or cells, all of one kind, into one frame, each row once."""
    combined = pd.concat(parts)
    keys = combined.columns.intersection(_KEYS, sort=False).tolist()
    return _compact(combined.drop_duplicates(keys, ignore_index=True))


def write_outcomes(outcomes: pd.DataFrame, path: Path) -> None:
    """Write rows as Parquet, whole or not at all."""
    # The run's record holds what else there is to say of them.
    rows = outcomes.copy(deep=False)
    rows.attrs = {}
    with replacing(path) as temporary:
        rows.to_parquet(temporary, index=False, compression="zstd")


def read_outcomes(path: Path, kind: str = OUTCOMES.name) -> pd.DataFrame:
    """Read rows from a Parquet file.

    The size of their images is taken from the record of the run, where that lies beside it.

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
    record = path.with_suffix(".json")
    # Beside somebody's own Parquet file it may be anything.
    with suppress(InputError):
        outcomes.attrs[IMAGE_SIZE] = read_manifest(record).image_size
    return _compact(outcomes)


def _compact(rows: pd.DataFrame) -> pd.DataFrame:
    """Make names categories, in the order of the rows."""
    for column in rows.columns.intersection(_CATEGORIES):
        values = rows[column].astype(object)
        rows[column] = pd.Categorical(values, categories=list(dict.fromkeys(values)))
    return rows
