"""Distances to the boundary, and their changes, worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pixelrobust.figures.retraining import distance_changes
from pixelrobust.statistics.paired import holm
from pixelrobust.tables.retraining import (
    changes_by_image,
    distances_for_reading,
    summarize_distances,
)
from tests.tables.retrained_rows import CONTROL, FOUR, MANY, ORIGINAL, distances, row_of, together

REFERENCES = {"baseline": ORIGINAL, "unchanged": CONTROL}
BEFORE = [1.0, 2.0, 3.0, -1.0, 4.0]
AFTER = [1.5, 2.5, 4.0, -0.5, 3.9]


def rows(kind: str = "same") -> pd.DataFrame:
    return together(
        distances(BEFORE, ORIGINAL, kind, measured=[1.1, 2.2, 2.9, 0.0, 4.5]),
        distances([1.0, 2.1, 3.1, -1.0, 4.1], CONTROL, kind),
        distances(AFTER, FOUR, kind),
    )


def test_distances_and_changes_in_pairs() -> None:
    row = row_of(summarize_distances(rows(), REFERENCES), FOUR)
    assert (row["images"], row["training_seeds"]) == (5, 1)
    assert row["median"] == 2.5
    assert row["mean"] == pytest.approx(np.mean(AFTER))
    changes = np.subtract(AFTER, BEFORE)
    assert row["baseline_change"] == pytest.approx(0.48)
    expected = stats.t.interval(0.95, 4, changes.mean(), stats.sem(changes))
    assert (row["baseline_low"], row["baseline_high"]) == pytest.approx(expected)
    assert (row["baseline_grown"], row["baseline_compared"]) == (0.8, 5)


def test_p_values_are_of_signs_and_corrected_over_networks() -> None:
    summary = summarize_distances(rows(), REFERENCES)
    # Of 32 patterns of signs on 0.5, 0.5, 1, 0.5 and 0.1, two sums reach 2.4: and 2.6, twice.
    four = 4 / 32
    # 0.1 three times, all up: 2 of 8.
    raw = [2 / 8, four]
    expected = holm(raw)
    assert row_of(summary, CONTROL)["baseline_p"] == pytest.approx(expected[0])
    assert row_of(summary, FOUR)["baseline_p"] == pytest.approx(expected[1])


def test_a_reference_is_not_compared_with_itself() -> None:
    summary = summarize_distances(rows(), REFERENCES)
    assert row_of(summary, ORIGINAL).filter(like="baseline_").isna().all()
    assert row_of(summary, ORIGINAL)["unchanged_change"] == pytest.approx(-0.06)
    assert row_of(summary, CONTROL).filter(like="unchanged_").isna().all()


def test_measured_distances_are_compared_by_rank() -> None:
    summary = summarize_distances(rows(), REFERENCES)
    row = row_of(summary, ORIGINAL)
    assert (row["measured"], row["correlation"]) == (5, pytest.approx(1))
    assert row_of(summary, FOUR)["measured"] == 0
    assert np.isnan(row_of(summary, FOUR)["correlation"])


def test_a_constant_has_no_correlation() -> None:
    table = distances([-1.0, -2.0, -3.0], FOUR, measured=[0.0, 0.0, 0.0])
    row = row_of(summarize_distances(table, {}), FOUR)
    assert (row["measured"], row["correlation"]) == (3, pytest.approx(math.nan, nan_ok=True))


def test_images_are_counted_not_seeds() -> None:
    table = together(
        distances([0.0, 0.0], ORIGINAL),
        distances([1.0, 3.0], FOUR, seed=1, measured=[1.0, 2.0]),
        distances([3.0, 5.0], FOUR, seed=2, measured=[1.0, 2.0]),
    )
    row = row_of(summarize_distances(table, REFERENCES), FOUR)
    assert (row["training_seeds"], row["images"], row["measured"]) == (2, 2, 2)
    assert (row["mean"], row["median"], row["baseline_change"]) == (3, 3, 3)
    assert changes_by_image(table, FOUR, ORIGINAL).tolist() == [2, 4]


def test_distances_that_are_not_finite_are_left_out_of_changes() -> None:
    """Where gradients vanish the distance is infinite: no mean has it, and no interval."""
    table = together(
        distances([1.0, math.inf, 2.0, math.nan, math.inf], ORIGINAL),
        distances([2.0, 3.0, math.inf, 1.0, math.inf], CONTROL),
        distances([2.0, 3.0, 4.0, 1.0, 1.0], FOUR, measured=[1.0, 2.0, math.nan, 1.0, 1.0]),
    )
    summary = summarize_distances(table, REFERENCES)
    row = row_of(summary, FOUR)
    assert (row["baseline_change"], row["baseline_compared"]) == (1.5, 2)
    assert (row["unchanged_change"], row["unchanged_compared"]) == (0, 3)
    assert row["measured"] == 4
    # A single pair has no interval.
    assert np.isnan(row_of(summary, CONTROL)["baseline_change"])
    assert changes_by_image(table, FOUR, ORIGINAL).tolist() == [1, 2]


def test_each_kind_of_images_stands_together() -> None:
    parts = [rows("same"), rows("heldout")]
    mixed = together(
        *(part[part["model"] == model] for model in (ORIGINAL, CONTROL, FOUR) for part in parts)
    )
    summary = summarize_distances(mixed, REFERENCES)
    assert summary["images_are"].tolist() == ["same"] * 3 + ["heldout"] * 3
    alone = summarize_distances(rows(), REFERENCES)
    for kind in ("same", "heldout"):
        part = summary[summary["images_are"] == kind].drop(columns="images_are")
        pd.testing.assert_frame_equal(
            part.reset_index(drop=True), alone.drop(columns="images_are"), check_dtype=False
        )


def test_the_table_as_text() -> None:
    table = distances_for_reading(summarize_distances(rows(), REFERENCES), REFERENCES)
    change = f"Change from {ORIGINAL}"
    assert list(table.columns) == [
        "Images", "Network", "Median r", "Mean r", "Rank correlation with DeepFool", change,
        f"Change from {CONTROL}",
    ]  # fmt: skip
    assert table["Rank correlation with DeepFool"].tolist() == ["1.00 (5 images)", "", ""]
    assert table[change][0] == ""
    assert table[change][2].startswith("+0.48 (")
    assert table[change][2].endswith("); 80 % grow")


def test_a_star_where_p_is_small() -> None:
    before = np.arange(1.0, 13.0)
    table = together(distances(before, ORIGINAL), distances(before + before / 9, MANY))
    references = {"baseline": ORIGINAL}
    text = distances_for_reading(summarize_distances(table, references), references)
    assert text[f"Change from {ORIGINAL}"][1].endswith(") *; 100 % grow")
    assert "Rank correlation with DeepFool" not in text


def test_the_figure_has_quartiles_of_each_network() -> None:
    values = np.repeat([-1.0, 0.5, 4.0], [1, 6, 3])
    figure = distance_changes({"a": values, "b": np.array([0.5])}, "Title", "Caption.")
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["a (90 % grow)", "b (100 % grow)"]
    whole, half, *_ = axes.collections
    # Sorted: -1, six times 0.5, three times 4; the 5th percentile lies at place 0.45.
    assert whole.get_segments()[0][:, 0] == pytest.approx([-1 + 0.45 * 1.5, 4])
    assert half.get_segments()[0][:, 0] == pytest.approx([0.5, 0.5 + 0.75 * 3.5])
    median, mean = axes.lines[:2]
    assert (median.get_xdata()[0], mean.get_xdata()[0]) == (0.5, pytest.approx(1.4))
    assert axes.yaxis_inverted()
