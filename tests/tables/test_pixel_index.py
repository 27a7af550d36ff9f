"""The Pixel-index of cells and the ranking of models, worked out from Eq. 7 by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from pixelrobust.figures.curves import pixel_index_curves
from pixelrobust.outcomes.rows import cell_in, make_outcomes
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.rates import wilson_interval
from pixelrobust.tables.pixel_index import (
    RANKING_COLUMNS,
    indices_for_reading,
    pixel_indices,
    rank_models,
    ranking_for_reading,
)
from pixelrobust.tables.rates import summarize

SIZE = (20, 10)  # 200 pixels
KEYS = [f"{index}.png" for index in range(10)]


def ranked(rows: pd.DataFrame, accuracies: dict[str, float], num: int = 4) -> pd.DataFrame:
    ranking = rank_models(rows, accuracies, num)
    assert ranking is not None
    return ranking


def summary(model: str, wrong: dict[Cell, int]) -> pd.DataFrame:
    """Of ten images, so many are wrong in each cell."""
    predictions = {
        cell: np.array([[1]] * count + [[0]] * (10 - count))
        for cell, count in ({Cell(0): 0} | wrong).items()
    }
    rows = make_outcomes(model, KEYS, np.zeros(10, dtype=np.int64), predictions)
    return summarize(rows, SIZE)


def indices() -> pd.DataFrame:
    """Three models; the second and third are equal where only num limits."""
    tables = []
    for model, few, many, small, centre in (
        ("a", 2, 4, 0, 1),
        ("b", 1, 3, 1, 1),
        ("c", 1, 3, 2, 0),
    ):
        tables += [
            summary(model, {Cell(2): few, Cell(4): many}),
            summary(model, {Cell(4): many, Cell(4, 51): small}),
            summary(model, {Cell(4, None, 5): centre}),
        ]
    return pixel_indices(tables, SIZE)


def in_cell(rows: pd.DataFrame, model: str, cell: Cell) -> pd.Series:
    found = [row for _, row in rows.iterrows() if (row["model"], cell_in(row)) == (model, cell)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("cell", "wrong", "changed"),
    [
        (Cell(2), 0.2, 2 / 200),
        (Cell(4), 0.4, 4 / 200),
        (Cell(4, 51), 0.0, 4 / 200 * 102 / 255),
        (Cell(4, None, 5), 0.1, 4 / 200 * 25 / 200),
    ],
)
def test_the_index_of_a_cell_is_eq_7(cell: Cell, wrong: float, changed: float) -> None:
    """w / (p r a), and the interval of w divided alike."""
    row = in_cell(indices(), "a", cell)
    interval = wilson_interval(wrong, 10)
    assert row["pixel_index"] == pytest.approx(wrong / changed)
    assert row["pi_low"] == pytest.approx(interval.low / changed)
    assert row["pi_high"] == pytest.approx(interval.high / changed)


def test_ranks_are_within_a_cell_and_equals_share_one() -> None:
    rows = indices()
    # Each changed cell stands once.
    assert len(rows) == 3 * 4
    ranks = {
        cell: [int(in_cell(rows, model, cell)["pi_rank"]) for model in "abc"]
        for cell in (Cell(2), Cell(4), Cell(4, 51), Cell(4, None, 5))
    }
    assert ranks == {
        Cell(2): [3, 1, 1],
        Cell(4): [3, 1, 1],
        Cell(4, 51): [1, 2, 3],
        Cell(4, None, 5): [2, 2, 1],
    }


def test_models_are_ranked_by_accuracy_and_by_index() -> None:
    ranking = ranked(indices(), {"a": 0.7, "b": 0.9, "c": 0.7, "unused": 1.0})
    assert list(ranking.columns) == RANKING_COLUMNS
    assert ranking["model"].tolist() == ["a", "b", "c"]
    assert ranking["accuracy_rank"].tolist() == [2, 1, 2]
    assert ranking["pi_rank"].tolist() == [3, 1, 1]
    assert ranking["pixel_index"].tolist() == pytest.approx([20, 15, 15])
    # a: 0, 20, 20, 40. b: 10, 15, 12.5, 40. c: 10, 15, 25, 0.
    assert ranking["smallest"].tolist() == pytest.approx([0, 10, 0])
    assert ranking["largest"].tolist() == pytest.approx([40, 40, 25])
    ratios = ranking["largest_over_smallest"].tolist()
    assert math.isnan(ratios[0])
    assert ratios[1] == pytest.approx(4)
    assert math.isnan(ratios[2])


def test_models_are_ranked_at_the_num_that_is_named() -> None:
    """At 2 of 200 pixels, rather than at the largest num: 2, 1 and 1 of 10 images are wrong."""
    ranking = ranked(indices(), {"a": 0.7, "b": 0.9, "c": 0.7}, 2)
    assert ranking["pixel_index"].tolist() == pytest.approx([20, 10, 10])


def test_networks_without_an_accuracy_or_the_cell_are_not_ranked() -> None:
    rows, accuracies = indices(), dict.fromkeys("abc", 0.5)
    assert rank_models(rows, {"a": 0.5}, 4) is None
    assert rank_models(rows[rows["area"].notna()], accuracies, 4) is None
    assert rank_models(rows, accuracies, 4) is not None


def test_an_amplitude_of_0_has_no_index_and_no_rank() -> None:
    rows = pixel_indices([summary("a", {Cell(4): 1, Cell(4, 0): 0})], SIZE)
    assert rows["pixel_index"].isna().tolist() == [True, False]
    assert rows["pi_rank"].isna().tolist() == [True, False]
    assert indices_for_reading(rows, SIZE)["a"][0] == "undefined"
    assert ranked(rows, {"a": 1.0})["smallest"].tolist() == pytest.approx([5])


def test_for_reading_each_cell_has_a_row_and_each_model_a_column() -> None:
    rows = pixel_indices(
        [summary("a", {Cell(2): 2, Cell(4, 51): 0}), summary("b", {Cell(2): 1})], SIZE
    )
    text = indices_for_reading(rows, SIZE)
    assert list(text.columns) == ["Num", "R", "a", "b"]
    assert text["Num"].tolist() == ["4 (2 %)", "2 (1 %)"]
    assert text["R"].tolist() == ["±51", "unlimited"]
    low, high = 100 * wilson_interval(0.1, 10).low, 100 * wilson_interval(0.1, 10).high
    assert text["b"].tolist() == ["missing", f"10 ({low:.3g}–{high:.3g})"]


def test_the_ranking_for_reading() -> None:
    text = ranking_for_reading(ranked(indices(), {"a": 0.7, "b": 0.912, "c": 0.7}))
    row = text.set_index("Model").loc["b"]
    assert row["Accuracy (%)"] == "91.2"
    assert (row["Rank"], row["Rank by Pi"]) == ("1", "1")
    assert row["Pi"].startswith("15 (")
    assert row["Pi over cells"] == "10 to 40"


def test_the_figure_has_a_panel_for_what_varies() -> None:
    models = [f"net {index}" for index in range(9)]
    cells = {Cell(2): 2, Cell(4): 4, Cell(4, 51): 1, Cell(4, 102): 2, Cell(2, 51): 1}
    rows = pixel_indices([summary(model, cells) for model in models], SIZE)
    figure = pixel_index_curves(rows, "Title", "caption")
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "changed pixels (num)",
        "amplitude (R), at the largest num",
    ]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    nums, amplitudes = figure.axes
    # More models than colours.
    assert [line.get_label() for line in nums.lines] == models
    assert nums.lines[0].get_xydata().tolist() == [[2, 20], [4, 20]]
    assert amplitudes.lines[8].get_xydata() == pytest.approx(
        np.array([[51, 0.1 / (0.02 * 0.4)], [102, 0.2 / (0.02 * 0.8)]])
    )
    assert nums.get_ylim()[0] == 0
    assert amplitudes.get_xticks().tolist() == [51, 102]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == models


def test_a_figure_of_one_cell_is_empty_but_drawn() -> None:
    figure = pixel_index_curves(
        pixel_indices([summary("a", {Cell(2): 1})], SIZE), "Title", "caption"
    )
    figure.canvas.draw()
    assert [len(axes.lines) for axes in figure.axes] == [0]
