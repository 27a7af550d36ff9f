"""The Pixel-index of every cell, and how it ranks models (the paper's Section 5 and Table 5)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pixelrobust.outcomes.kinds import CELL_COLUMNS
from pixelrobust.outcomes.rows import cell_in
from pixelrobust.perturbation.grid import AmplitudeShare, pixel_index
from pixelrobust.tables.rates import one_column_a_model, readable_cells, significant

RANKING_COLUMNS = [
    "model", "accuracy", "accuracy_rank", "pixel_index", "pi_low", "pi_high", "pi_rank", "smallest",
    "largest", "largest_over_smallest",
]  # fmt: skip


def pixel_indices(
    summaries: Sequence[pd.DataFrame],
    image_size: tuple[int, int],
    amplitude_share: AmplitudeShare = "range",
) -> pd.DataFrame:
    """Return the Pixel-index of every changed cell of several tables, each cell once.

    Args:
        summaries: from `pixelrobust.tables.rates.summarize`, over the same images.
        image_size: (height, width), in pixels.
        amplitude_share: see `pixelrobust.perturbation.grid`.

    Returns:
        The summaries' columns, and pi_low and pi_high: the wrong rate's 95 % interval, divided as
        the rate is; pi_rank: the model's place in its cell, 1 the most robust, equals sharing one.
    """
    rows = pd.concat(summaries, ignore_index=True)
    rows = rows[rows["num"] > 0].drop_duplicates(["model", *CELL_COLUMNS], ignore_index=True)
    per_wrong = [
        pixel_index(1.0, cell.num, cell.amplitude, cell.area, image_size, amplitude_share)
        for cell in map(cell_in, rows.to_dict("records"))
    ]
    cells = rows.groupby(CELL_COLUMNS, dropna=False)["pixel_index"]
    return rows.assign(
        pi_low=rows["ci_low"] * per_wrong,
        pi_high=rows["ci_high"] * per_wrong,
        pi_rank=cells.rank(method="min").astype("Int64"),
    )


def rank_models(
    indices: pd.DataFrame, accuracies: Mapping[str, float], num: int
) -> pd.DataFrame | None:
    """Rank models by accuracy and by Pixel-index, and show how much each one's index varies.

    Args:
        indices: from `pixel_indices`.
        accuracies: for each model, the share of unchanged candidates that it classifies correctly.
        num: of the cell by which models are ranked, which nothing else limits.

    Returns:
        One row a model. accuracy_rank: 1 the most accurate; pixel_index with interval and rank: in
        that cell, 1 the most robust; smallest and largest: of all its cells; largest_over_smallest:
        NaN where the smallest is 0. None where there is no such cell, or a model has no accuracy.
    """
    is_unlimited = indices["amplitude"].isna() & indices["area"].isna()
    in_cell = indices[is_unlimited & (indices["num"] == num)]
    if in_cell.empty or not set(indices["model"]) <= set(accuracies):
        return None
    of_model = indices.groupby("model", sort=False)["pixel_index"]
    smallest, largest = of_model.min(), of_model.max()
    ranking = in_cell[["model", "pixel_index", "pi_low", "pi_high", "pi_rank"]].assign(
        accuracy=in_cell["model"].map(accuracies),
        smallest=in_cell["model"].map(smallest),
        largest=in_cell["model"].map(largest),
    )
    by_accuracy = ranking["accuracy"].rank(method="min", ascending=False).astype("Int64")
    ratio = ranking["largest"] / ranking["smallest"].where(ranking["smallest"] > 0)
    ranked = ranking.assign(accuracy_rank=by_accuracy, largest_over_smallest=ratio)
    return pd.DataFrame(ranked[RANKING_COLUMNS]).reset_index(drop=True)


def indices_for_reading(indices: pd.DataFrame, image_size: tuple[int, int]) -> pd.DataFrame:
    """Return the indices as text: one row a cell, one column a model, with intervals."""
    entries = [_with_interval(row) for row in indices.to_dict("records")]
    cells, models = one_column_a_model(indices, entries, CELL_COLUMNS, missing="missing")
    return pd.concat([readable_cells(cells, image_size), models], axis=1)


def ranking_for_reading(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return the ranking as text."""
    rows = ranking.to_dict("records")
    return pd.DataFrame(
        {
            "Model": ranking["model"],
            "Accuracy (%)": [f"{100 * row['accuracy']:.1f}" for row in rows],
            "Rank": [str(row["accuracy_rank"]) for row in rows],
            "Pi": [_with_interval(row) for row in rows],
            "Rank by Pi": [str(row["pi_rank"]) for row in rows],
            "Pi over cells": [
                f"{significant(row['smallest'])} to {significant(row['largest'])}" for row in rows
            ],
        }
    )


def _with_interval(row: dict[Any, Any]) -> str:
    if pd.isna(row["pixel_index"]):
        return "undefined"
    index, low, high = (significant(row[key]) for key in ("pixel_index", "pi_low", "pi_high"))
    return f"{index} ({low}–{high})"
