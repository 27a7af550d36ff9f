"""Tables from outcomes that are counted by hand."""

import math
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pixelrobust import InputError, correct_before, summarize
from pixelrobust.figures.curves import rate_curves
from pixelrobust.outcomes.rows import concatenate, make_outcomes
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.rates import wilson_interval
from pixelrobust.tables.rates import (
    SUMMARY_COLUMNS,
    for_reading,
    markdown_table,
    significant,
    write_csv,
    write_latex,
)

KEYS, LABELS = ["a", "b", "c", "d"], np.array([0, 0, 0, 0])


def outcomes(model: str = "net_1") -> pd.DataFrame:
    """One of four images wrong at 4 pixels, two at 64; with ±10, one of eight draws."""
    predictions = {
        Cell(0): np.array([[0], [0], [0], [0]]),
        Cell(64): np.array([[1], [0], [2], [0]]),
        Cell(4): np.array([[1], [0], [0], [0]]),
        Cell(4, 10, 200): np.array([[1, 0], [0, 0], [0, 0], [0, 0]]),
    }
    made = make_outcomes(model, KEYS, LABELS, predictions)
    made.attrs["image_size"] = (224, 224)
    return made


def test_counts_rates_and_intervals() -> None:
    summary = summarize(outcomes())
    assert list(summary.columns) == SUMMARY_COLUMNS
    assert summary["num"].tolist() == [0, 4, 4, 64]
    assert summary["images"].tolist() == [4] * 4
    assert summary["draws"].tolist() == [1, 2, 1, 1]
    assert summary["wrong"].tolist() == [0, 1, 1, 2]
    assert summary["wrong_rate"].tolist() == [0.0, 0.125, 0.25, 0.5]
    interval = wilson_interval(0.25, 4)
    assert summary.loc[2, ["ci_low", "ci_high"]].tolist() == [interval.low, interval.high]


def test_the_pixel_index_of_each_cell() -> None:
    index = summarize(outcomes())["pixel_index"]
    assert math.isnan(index[0])
    assert index[1] == pytest.approx(0.125 * 50176**2 / (4 * 20 / 255 * 40_000))
    assert index[2] == pytest.approx(0.25 * 50176 / 4)


def test_the_size_of_images_is_that_of_the_outcomes() -> None:
    """At 32 x 32 four pixels are 49 times the share that they are at 224 x 224."""
    rows = outcomes()[lambda every: every["area"].isna()]
    rows.attrs["image_size"] = (224, 112)
    assert summarize(rows, (224, 112))["pixel_index"][1] == pytest.approx(0.25 * 224 * 112 / 4)
    with pytest.raises(InputError, match=r"\(224, 224\) is not the size .* \(224, 112\); leave it"):
        summarize(rows, image_size=(224, 224))
    unknown = rows.copy()
    unknown.attrs = {}
    with pytest.raises(InputError, match=r"do not say how large .*image_size=\(height, width\)"):
        summarize(unknown)
    with pytest.raises(InputError, match=r"image_size=0 is not the size of images"):
        summarize(unknown, 0)
    for square in (32, [32, 32], np.array([32, 32]), torch.Size([32, 32])):
        assert summarize(unknown, square)["pixel_index"][1] == pytest.approx(0.25 * 32**2 / 4)


def test_sizes_go_along_as_far_as_they_are_one() -> None:
    assert len(summarize(correct_before(concatenate([outcomes("a"), outcomes("b")])))) == 8
    other = outcomes("b")
    other.attrs["image_size"] = (299, 299)
    with pytest.raises(InputError, match="several sizes"):
        summarize(concatenate([outcomes("a"), other]))


def test_models_keep_their_order() -> None:
    both = summarize(concatenate([outcomes("zebra"), outcomes("ant")]))
    assert both["model"].unique().tolist() == ["zebra", "ant"]


def test_for_reading_shows_percent_and_what_is_missing() -> None:
    part = make_outcomes("other", KEYS, LABELS, {Cell(0): np.zeros((4, 1), dtype=np.int64)})
    readable = for_reading(summarize(concatenate([outcomes(), part]), 224), (224, 224))
    assert list(readable.columns) == ["Num", "R", "P", "net_1", "other"]
    assert readable["Num"].tolist() == ["0 (0 %)", "4 (0.008 %)", "4 (0.008 %)", "64 (0.13 %)"]
    assert readable["R"].tolist() == ["", "±10", "unlimited", "unlimited"]
    assert readable["P"].tolist() == ["", "200 × 200", "unlimited", "unlimited"]
    assert readable["net_1"][3] == "50.0 (15.0–85.0)"
    assert readable["other"].tolist() == ["0.0 (0.0–49.0)", "missing", "missing", "missing"]


def test_limits_that_nobody_set_have_no_column() -> None:
    plain = outcomes()[lambda rows: rows["amplitude"].isna()]
    assert list(for_reading(summarize(plain), (224, 224)).columns) == ["Num", "net_1"]


def test_csv_holds_numbers_that_read_back(tmp_path: Path) -> None:
    summary = summarize(outcomes())
    write_csv(summary, tmp_path / "t.csv")
    back = pd.read_csv(tmp_path / "t.csv").astype({"amplitude": "Int16", "area": "Int32"})
    pd.testing.assert_frame_equal(summary, back, check_dtype=False)
    assert "%" not in (tmp_path / "t.csv").read_text()


def test_names_are_escaped(tmp_path: Path) -> None:
    table = pd.DataFrame({"Num": ["4"], "a|b_1": ["5 % & <x>"]})
    write_latex(table, "Title", ["5 % of_it."], "t", tmp_path / "t.tex")
    markdown, latex = markdown_table(table), (tmp_path / "t.tex").read_text()
    assert "a\\|b\\_1" in markdown
    assert "&lt;x&gt;" in markdown
    assert r"5 \% \& <x>" in latex
    assert r"\caption{Title. 5 \% of\_it.}" in latex
    assert r"\label{tab:t}" in latex


def test_a_line_stands_above_a_row_in_a_row_of_its_own(tmp_path: Path) -> None:
    table = pd.DataFrame({"Num": ["0", "64", "256"], "net": ["a", "b", "c"]})
    lines = {2: "beyond 64_"}
    write_latex(table, "Title", [], "t", tmp_path / "t.tex", lines)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown_table(table, lines).splitlines()[2:]
    ]
    assert rows == [["0", "a"], ["64", "b"], ["*beyond 64\\_*", ""], ["256", "c"]]
    body = (tmp_path / "t.tex").read_text().split("\\midrule\n", 1)[1].splitlines()
    assert body[:5] == [
        r"0 & a \\", r"64 & b \\", r"\midrule",
        r"\multicolumn{2}{l}{\textit{beyond 64\_}} \\", r"256 & c \\",
    ]  # fmt: skip
    write_latex(table, "Title", [], "t", tmp_path / "plain.tex")
    own = [r"\midrule", body[3]]
    whole = (tmp_path / "t.tex").read_text()
    assert whole.replace("\n".join(own) + "\n", "") == (tmp_path / "plain.tex").read_text()


def test_curves_show_accuracy_and_wrong_images() -> None:
    plain = summarize(outcomes()[lambda rows: rows["amplitude"].isna()])
    figure = rate_curves(plain, "model", "Title", "Caption.")
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[0, 100], [4, 75], [64, 50]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["net_1"]
    (wrong,) = axes.child_axes
    assert (axes.get_ylabel(), wrong.get_ylabel()) == ("accuracy (%)", "wrong predictions (%)")
    figure.canvas.draw()
    for share in (25, 50):
        (_, left), (_, right) = (
            one.transData.transform((0, value))
            for one, value in ((axes, 100 - share), (wrong, share))
        )
        assert left == pytest.approx(right)


def test_amplitudes_are_curves_of_their_own_that_begin_at_the_control() -> None:
    summary = summarize(outcomes()[lambda rows: rows["area"].notna() | (rows["num"] != 64)])
    (accuracy,) = rate_curves(summary, "amplitude", "Title", "Caption.").axes
    assert [line.get_label() for line in accuracy.lines] == ["±10", "unlimited"]
    assert accuracy.lines[0].get_xydata().tolist() == [[0, 100], [4, 87.5]]
    assert accuracy.lines[1].get_xydata().tolist() == [[0, 100], [4, 75]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-3e-17, "0"),
        (1.23456, "1.23"),
        (0.012345, "0.0123"),
        (99.94, "99.9"),
        (99.96, "100"),
        (100.4, "100"),
        (1234.5678, "1,235"),
        (-1234567.0, "-1,234,567"),
        (math.nan, "undefined"),
        (math.inf, "inf"),
    ],
)
def test_numbers_to_three_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_a_markdown_table_without_rows_has_its_head() -> None:
    assert markdown_table(pd.DataFrame({"First": [], "Second": []})).startswith("| First")


def test_a_summary_prints_within_80_columns() -> None:
    table = outcomes().assign(model="tf_efficientnet_lite0")
    summary = summarize(table)
    for shown in (summary, summary[summary["num"] > 0], pickle.loads(pickle.dumps(summary))):
        text = str(shown)
        assert max(map(len, text.splitlines())) <= 80
        assert "..." not in text
        for column in ("model", "num", "wrong_rate", "ci_low", "ci_high", "pixel_index"):
            assert column in text
        assert list(shown.columns) == SUMMARY_COLUMNS
    # What nothing limits has no column.
    free = table[table["amplitude"].isna() & table["area"].isna()]
    assert "amplitude" not in str(summarize(free))
    assert "area" not in str(summarize(free))
    assert "0.5" in str(summary[["wrong_rate"]].head(1).assign(wrong_rate=0.5))
