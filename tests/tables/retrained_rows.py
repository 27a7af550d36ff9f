"""Made-up rows of retrained networks, that the tests of their tables and claims share."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pixelrobust.outcomes.kinds import DISTANCES, RETRAINING, TRANSFER
from pixelrobust.outcomes.rows import concatenate, make_outcomes
from pixelrobust.perturbation.grid import Cell

ORIGINAL, CONTROL, FOUR, MANY = "net (original)", "net-unchanged", "net-4", "net-64"
ALL = "net (all classes)"


def keys(count: int) -> list[str]:
    return [f"{index:04}.png" for index in range(count)]


def row_of(summary: pd.DataFrame, model: str, **values: object) -> pd.Series:
    """The only row of a summary of this network that has these values."""
    rows = summary[summary["model"] == model]
    for column, value in values.items():
        rows = rows[rows[column] == value]
    (index,) = rows.index
    return rows.loc[index]


def first(count: int, images: int, start: int = 0) -> list[int]:
    """Which of the images are wrong: `count` of them from `start` on."""
    return [int(start <= index < start + count) for index in range(images)]


def outcomes_of(
    wrong: Mapping[Cell, Sequence[int] | Sequence[Sequence[int]]],
    model: str,
    kind: str = "same",
    seed: int = 0,
) -> pd.DataFrame:
    """Table 10: for each cell, of each image 0, right, or 1, wrong; or a list of these, of draws."""
    tables = {cell: np.array(rows) for cell, rows in wrong.items()}
    images = len(next(iter(tables.values())))
    predictions = {cell: table.reshape(images, -1) for cell, table in tables.items()}
    outcomes = make_outcomes(model, keys(images), np.zeros(images, dtype=np.int64), predictions)
    outcomes.attrs["image_size"] = (224, 224)
    return outcomes.assign(images_are=kind, training_seed=seed)[RETRAINING.columns]


def together(*parts: pd.DataFrame) -> pd.DataFrame:
    return concatenate(parts)


def shown(
    wrong: Sequence[int],
    model: str,
    *,
    rounded: bool = False,
    epsilon: str = "minimal",
    against: str = "original",
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Table 11: of each adversarial image whether it fools the network."""
    fooled = np.array(wrong, dtype=bool)
    rows = pd.DataFrame(
        {
            "model": model, "training_seed": seed, "against": against, "epsilon": epsilon,
            "size": np.float32(1), "rounded": rounded,
            "image": list(names) if names else keys(len(wrong)),
            "label": 0, "prediction": fooled.astype(int), "wrong": fooled,
        }
    )  # fmt: skip
    return rows[TRANSFER.columns]


def distances(
    values: Sequence[float],
    model: str,
    kind: str = "same",
    seed: int = 0,
    measured: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Distances of each image to the boundary of a network."""
    rows = pd.DataFrame(
        {
            "model": model, "training_seed": seed, "images_are": kind, "image": keys(len(values)),
            "distance": values, "measured": np.nan if measured is None else measured,
        }
    )  # fmt: skip
    return rows[DISTANCES.columns]
