"""Tables of random and searched changes, from rows that were made by hand."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelrobust.errors import InputError
from pixelrobust.outcomes.kinds import EXTREMES, RANDOM, SEARCH, WORST_CASE
from pixelrobust.outcomes.rows import pixels_as_text, pixels_from_text
from pixelrobust.statistics.rates import correlation_interval, wrong_rate_interval
from pixelrobust.tables.worst_case import (
    calibrate_margins,
    correlate_margins,
    correlations_for_reading,
    differences_for_reading,
    summarize_worst_case,
    tabulate_images,
    tabulate_pixels,
    worst_case_for_reading,
    worst_of,
)

DRAWS = 6


def rows_of(
    hits: dict[str, set[int]],
    method: str = RANDOM,
    num: int = 4,
    margins: dict[str, float] | None = None,
    pixels: str = "",
) -> pd.DataFrame:
    """Rows of images of which these draws, or of the search this query, are misclassified."""
    rows = []
    for image, wrong in hits.items():
        draws = [0] if method == SEARCH else range(DRAWS)
        for draw in draws:
            is_wrong = bool(wrong) if method == SEARCH else draw in wrong
            query = max(wrong, default=20) if method == SEARCH else draw + 1
            rows.append(
                {
                    "model": "net", "num": num, "amplitude": pd.NA, "area": pd.NA, "image": image,
                    "draw": draw, "method": method, "label": 1, "prediction": 2 if is_wrong else 1,
                    "wrong": is_wrong, "query": query, "margin": (margins or {}).get(image, 1.0),
                    "pixels": pixels if is_wrong else "",
                }
            )  # fmt: skip
    frame = pd.DataFrame(rows)[WORST_CASE.columns]
    return frame.astype({"amplitude": "Int16", "area": "Int32", "num": "int32"})


@pytest.mark.parametrize("draws", [1, 4, 7])
def test_the_worst_of_some_draws_is_that_of_all_ways_to_choose_them(draws: int) -> None:
    for hits in range(draws + 1):
        wrong = [at < hits for at in range(draws)]
        for queries in range(1, draws + 1):
            ways = [any(chosen) for chosen in combinations(wrong, queries)]
            expected = sum(ways) / len(ways)
            assert worst_of(np.array([hits]), draws, queries)[0] == pytest.approx(
                expected, abs=1e-9
            )


def test_rates_intervals_and_differences() -> None:
    """Of four images one flips in two of six draws, one in all."""
    hits = {"a": {1, 4}, "b": set(range(6)), "c": set(), "d": set()}
    found = {"a": {3}, "b": {1}, "c": {20}, "d": set()}
    rows = pd.concat([rows_of(hits), rows_of(found, SEARCH)])
    summary = summarize_worst_case(rows, 20).set_index(["method", "queries"])
    random, search = summary.loc[RANDOM], summary.loc[SEARCH]
    assert list(random.index) == [1, 5, 6]
    assert list(search.index) == [1, 5, 20]
    assert random["broken_rate"].tolist() == pytest.approx([(2 / 6 + 1) / 4, 0.5, 0.5])
    assert search["broken_rate"].tolist() == [0.25, 0.5, 0.75]
    for at, counts, draws in (
        ((RANDOM, 1), [2, 6, 0, 0], 6), ((RANDOM, 6), [1, 1, 0, 0], 1), ((SEARCH, 20), [1, 1, 1, 0], 1),
    ):  # fmt: skip
        interval = wrong_rate_interval(counts, draws)
        row = summary.loc[at]
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high))
    assert random["more"].isna().all()
    assert search["more"].tolist()[:2] == pytest.approx([0.25 - (2 / 6 + 1) / 4, 0.0])
    # There are not as many random draws.
    assert np.isnan(search["more"].iloc[-1])
    table = worst_case_for_reading(summary.reset_index())
    assert table[["Num", "Queries", "Changes"]].to_numpy().tolist()[:2] == [
        ["4", "1", RANDOM], ["4", "1", SEARCH],
    ]  # fmt: skip
    assert table["net"].iloc[0].startswith("33.3 (")
    assert differences_for_reading(summary.reset_index())["net"].iloc[0].startswith("-8.3 (")


def test_the_budget_is_shown_where_all_images_break_sooner() -> None:
    found = summarize_worst_case(rows_of({"a": {3}, "b": {7}}, SEARCH), 100)
    assert found["queries"].tolist() == [1, 5, 20, 100]
    assert found["broken_rate"].tolist() == [0, 0.5, 1, 1]


def test_pixels_are_counted_against_chance() -> None:
    """Of 4 x 4 images, the pixels of the corners are a quarter; each image counts alike."""
    corner, centre = (
        pixels_as_text(np.array([[0, 0]]), np.array([[255, 0, 0]], np.uint8)),
        "1,1:00ff00",
    )
    rows = pd.concat(
        [
            rows_of({"a": {0}}, SEARCH, pixels=corner),
            rows_of({"b": {2}}, SEARCH, pixels=f"{centre} 2,2:ff0000"),
            rows_of({"a": {1}}, pixels="0,3:10ff80"),
        ]
    )
    table = tabulate_pixels(rows, (4, 4)).set_index(["method", "of", "part"]).sort_index()
    radius = table.loc[SEARCH, "distance from the centre"]
    # Distances are sqrt(2)/4, sqrt(10)/4 and 3 sqrt(2)/4 of half the side: 4, 8 and 4 pixels.
    assert radius["chance"].to_dict() == {"to 1/2": 0.25, "to 1": 0.5, "corners": 0.25}
    assert radius["share"].to_dict() == {"to 1/2": 0.5, "to 1": 0, "corners": 0.5}
    assert radius.loc["corners", "ratio"] == 2
    assert radius["pixels"].sum() == 3
    colours = table.loc[SEARCH, "colour"]["share"]
    assert colours[colours > 0].to_dict() == {"red": 0.75, "green": 0.25}
    values = table.loc[RANDOM, "value"]["share"]
    assert values[values > 0].to_dict() == pytest.approx({"0–31": 1 / 3, "128–159": 1 / 3, "224–255": 1 / 3})  # fmt: skip
    assert tabulate_pixels(rows.assign(wrong=False), (4, 4)).empty


def test_margins_and_what_flips() -> None:
    margins = {image: 0.5 + at for at, image in enumerate("abcd")}
    few = {"a": {0, 1, 2}, "b": {3}, "c": set(), "d": set()}
    many = {"a": set(range(6)), "b": {0, 3}, "c": {5}, "d": set()}
    search = {"a": {1}, "b": {2}, "c": {9}, "d": set()}
    rows = pd.concat(
        [
            rows_of(few, margins=margins), rows_of(many, num=64, margins=margins),
            rows_of(few, EXTREMES, margins=margins), rows_of(search, SEARCH, margins=margins),
        ]
    )  # fmt: skip
    images = tabulate_images(rows).set_index("image")
    assert images["margin"].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert images["random_num"].tolist() == [4, 64, pd.NA, pd.NA]
    assert images["worst_num"].tolist() == [4, 4, 64, pd.NA]
    assert images["searched_num"].tolist() == [4, 4, 4, pd.NA]
    assert images["wrong_at_4"].tolist() == pytest.approx([0.5, 1 / 6, 0, 0])
    found = correlate_margins(images.reset_index()).set_index("with")["correlation"]
    # Ranks 1, 2, 3.5, 3.5 against 1 to 4.
    assert found["random_num"] == pytest.approx(0.9486833)
    assert found["wrong_at_64"] == pytest.approx(1)
    assert found["searched_num"] == pytest.approx(0.7745967)
    table = correlations_for_reading(correlate_margins(images.reset_index()))
    assert table["Margin and"].iloc[-1] == "share of right draws at num 64"


def test_calibration_groups_images_by_their_margin() -> None:
    names = [f"image {at:02}" for at in range(50)]
    margins = {name: float(at) for at, name in enumerate(names)}
    hits: dict[str, set[int]] = {name: {0, 1, 2} if margins[name] < 25 else set() for name in names}
    rows = rows_of(hits, margins=margins)
    table = calibrate_margins(tabulate_images(rows), DRAWS)
    assert table["images"].tolist() == [25, 25]
    assert table["wrong_rate"].tolist() == [0.5, 0]
    assert table["margin"].tolist() == [12, 37]
    few = rows[rows["image"].isin(names[:39])]
    assert calibrate_margins(tabulate_images(few), DRAWS).empty


def test_the_interval_of_a_rank_correlation() -> None:
    """By hand: tanh(atanh 0.5 -+ 1.959964 sqrt(1.125 / 27))."""
    interval = correlation_interval(0.5, 30)
    assert (interval.low, interval.high) == pytest.approx((0.148132, 0.739503), abs=1e-5)
    assert (correlation_interval(0.3, 3).low, correlation_interval(0.3, 3).high) == (-1, 1)


@pytest.mark.slow
def test_intervals_of_rank_correlations_cover() -> None:
    """Of 4,000 samples of 60 pairs with a true correlation of 0.5, 93 to 97 %."""
    rng = np.random.default_rng(0)
    pearson, samples = 2 * np.sin(np.pi * 0.5 / 6), 4000
    covered = 0
    for _ in range(samples):
        first = rng.standard_normal(60)
        second = pearson * first + np.sqrt(1 - pearson**2) * rng.standard_normal(60)
        found = float(pd.Series(first).corr(pd.Series(second), method="spearman"))
        interval = correlation_interval(found, 60)
        covered += interval.low <= 0.5 <= interval.high
    assert 0.93 < covered / samples < 0.97


@given(
    st.lists(
        st.tuples(st.integers(0, 4095), st.integers(0, 4095), st.binary(min_size=3, max_size=3)),
        min_size=1,
        max_size=9,
    )
)
def test_pixels_come_back_from_their_text(pixels: list[tuple[int, int, bytes]]) -> None:
    places = np.array([[row, column] for row, column, _ in pixels])
    values = np.array([list(value) for *_, value in pixels], dtype=np.uint8)
    found = pixels_from_text(pixels_as_text(places, values))
    assert (found[0] == places).all()
    assert (found[1] == values).all()


@pytest.mark.parametrize(
    "text", ["", "1,2", "1,2:f", "1,2:gg", "-1,2:ff", "1,2:ff;", "1,2:ff 3,4:ffff"]
)
def test_other_texts_are_no_pixels(text: str) -> None:
    with pytest.raises(InputError, match="is stored as changed pixels"):
        pixels_from_text(text)
