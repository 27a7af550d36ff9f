"""Tables and curves of pixels to flip, from outcomes that are counted by hand."""

import numpy as np
import pandas as pd
import pytest

from pixelrobust.figures import new_figure, num_axis, tidy
from pixelrobust.figures.curves import survival_figure
from pixelrobust.outcomes.rows import concatenate, make_outcomes
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.paired import holm
from pixelrobust.statistics.rates import wilson_interval
from pixelrobust.statistics.survival import logrank, pixels_to_flip
from pixelrobust.tables.survival import (
    compare_survival,
    pairs_for_reading,
    survival_curves,
    survival_for_reading,
    tabulate_survival,
)

NUMS = [4, 8, 16, 64]


def outcomes(
    model: str, flips: list[int | None], amplitude: int | None = None, area: int | None = None
) -> pd.DataFrame:
    """Each image flips at its num and stays wrong; None never does. The second draw is all wrong."""
    predictions = {
        Cell(num, amplitude, area): np.array(
            [[flip is not None and num >= flip, True] for flip in flips], int
        )
        for num in NUMS
    } | {Cell(0): np.zeros((len(flips), 1), dtype=np.int64)}
    keys = [f"{index}.png" for index in range(len(flips))]
    return make_outcomes(model, keys, np.zeros(len(flips), dtype=np.int64), predictions)


def three() -> pd.DataFrame:
    return concatenate(
        [
            outcomes("tough", [None] * 10),
            outcomes("middling", [4, 4, 8, 16, 16, 64, None, None, None, None]),
            outcomes("weak", [4] * 9 + [8]),
        ]
    )


def test_one_row_a_model() -> None:
    table = tabulate_survival(three())
    assert table["model"].tolist() == ["tough", "middling", "weak"]
    assert table["images"].tolist() == [10, 10, 10]
    assert table["flipped"].tolist() == [0, 6, 10]
    assert table["survival"].tolist() == pytest.approx([1, 0.4, 0])
    assert table["largest_num"].tolist() == [64, 64, 64]
    assert table["amplitude"].isna().all()
    assert table["area"].isna().all()
    assert table["ci_low"][0] == pytest.approx(wilson_interval(1, 10).low)
    assert table["ci_high"][2] == pytest.approx(wilson_interval(0, 10).high)
    # Of the second, 2, 3 and 5 of ten have flipped by 4, 8 and 16: half by 16.
    assert table["median"].isna().tolist() == [True, False, False]
    assert table["median"].tolist()[1:] == [16, 4]
    assert str(table["median_low"].dtype) == "Int64"
    low, high = table["median_low"][1], table["median_high"][1]
    assert low in (4, 8)
    assert pd.isna(high)


def test_limits_of_the_changes_are_kept() -> None:
    table = tabulate_survival(outcomes("net", [4, None], 10, 200))
    assert table.loc[0, ["amplitude", "area"]].tolist() == [10, 200]


def test_images_that_are_wrong_unchanged_are_counted_apart() -> None:
    rows = outcomes("net", [4, None, 8])
    rows.loc[(rows["num"] == 0) & (rows["image"] == "0.png"), "wrong"] = True
    table = tabulate_survival(rows)
    assert table.loc[0, ["images", "wrong_unchanged", "flipped"]].tolist() == [2, 1, 1]
    assert tabulate_survival(outcomes("net", [4]))["wrong_unchanged"].tolist() == [0]


def test_each_pair_is_tested_and_corrected() -> None:
    rows = three()
    flips = pixels_to_flip(rows)
    of = {model: flips[flips["model"] == model] for model in ("tough", "middling", "weak")}
    pairs = compare_survival(rows)
    expected = [("tough", "middling"), ("tough", "weak"), ("middling", "weak")]
    assert list(zip(pairs["first"], pairs["second"], strict=True)) == expected
    p = [logrank(of[one], of[two]) for one, two in expected]
    assert pairs["p"].tolist() == pytest.approx(p)
    assert pairs["p_holm"].tolist() == pytest.approx(holm(p).tolist())


def test_one_model_has_no_pairs() -> None:
    pairs = compare_survival(outcomes("net", [4, None]))
    assert list(pairs.columns) == ["first", "second", "p", "p_holm"]
    assert len(pairs) == len(pairs_for_reading(pairs)) == 0


def test_for_reading() -> None:
    text = survival_for_reading(tabulate_survival(three())).set_index("Model")
    assert text.loc["tough"].tolist()[:2] == ["10", "0"]
    assert text.loc["tough", "Not flipped (%)"] == "100.0 (72.2–100.0)"
    assert text.loc["tough", "Median pixels to flip"] == "over 64"
    assert text.loc["weak", "Median pixels to flip"] == "4"
    middling = text.loc["middling", "Median pixels to flip"]
    assert middling.startswith("16 (")
    assert middling.endswith(" to over 64)")


def test_pairs_for_reading() -> None:
    p = [1.0, 0.1, 0.0499, 0.0123, 1e-5, 0]
    texts = ["1.00", "0.10", "0.05", "0.012", "< 0.0001", "< 0.0001"]
    pairs = pairs_for_reading(
        pd.DataFrame({"first": list("abcdef"), "second": "x", "p": p, "p_holm": p[::-1]})
    )
    assert pairs["First"].tolist() == list("abcdef")
    assert pairs["p (log-rank)"].tolist() == pairs["p (Holm)"].tolist()[::-1] == texts


def test_curves_fall_where_images_flip() -> None:
    figure = survival_figure(survival_curves(three()), [0, *NUMS], "Title", "caption")
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["tough", "middling", "weak"]
    assert lines["middling"].get_xydata() == pytest.approx(
        np.array([[0, 100], [4, 80], [8, 70], [16, 50], [64, 40]])
    )
    assert lines["weak"].get_xydata() == pytest.approx(np.array([[0, 100], [4, 10], [8, 0]]))
    assert axes.child_axes[0].get_ylabel() == "images flipped (%)"
    assert axes.get_xticks().tolist() == [0, *NUMS]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)
    assert len({line.get_marker() for line in lines.values()}) == 3
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("nums", "scale"),
    [
        ([0, 4, 8, 63], "linear"),
        ([4, 32], "linear"),
        ([0, 4, 64], "symlog"),
        ([1, 64], "symlog"),
        ([0], "linear"),
        ([64], "linear"),
    ],
)
def test_wide_ranges_of_num_are_logarithmic(nums: list[int], scale: str) -> None:
    axes = new_figure(3, 3).subplots()
    num_axis(axes, nums)
    assert axes.get_xscale() == scale
    assert axes.get_xticks().tolist() == nums
    assert (axes.get_xlabel() == "changed pixels (num)") == (scale == "linear")


def test_thousands_are_grouped_and_there_is_no_frame() -> None:
    axes = new_figure(3, 3).subplots()
    num_axis(axes, [0, 4, 50_176])
    tidy(axes)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "4", "50,176"]
    visible = {side for side, spine in axes.spines.items() if spine.get_visible()}
    assert visible == {"left", "bottom"}
