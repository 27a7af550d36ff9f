"""Pixels to flip: by hand, against brute force, and at the edges where nothing or all flips."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pixelrobust.errors import InputError
from pixelrobust.outcomes.rows import concatenate, make_outcomes
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.rates import wilson_interval
from pixelrobust.statistics.survival import logrank, pixels_to_flip, survival_curve

NUMS = [4, 8, 16, 64]


def outcomes_of(
    wrong: list[list[list[bool]]], model: str = "m", nums: Sequence[int] = NUMS
) -> pd.DataFrame:
    """Outcomes from a (K nums, N images, D draws) table of wrong."""
    table = np.array(wrong, dtype=np.int64)
    keys = [f"{index}.png" for index in range(table.shape[1])]
    predictions = {Cell(num): part for num, part in zip(nums, table, strict=True)}
    return make_outcomes(model, keys, np.zeros(len(keys), dtype=np.int64), predictions)


def group(num: list[int], flipped: list[bool]) -> pd.DataFrame:
    return pd.DataFrame({"num": num, "flipped": flipped})


def test_the_smallest_wrong_num_counts_even_if_a_larger_one_is_right() -> None:
    by_num = ([0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0])
    wrong = [[[bool(image)] for image in images] for images in by_num]
    table = pixels_to_flip(outcomes_of(wrong))
    assert list(table.columns) == ["model", "image", "num", "flipped"]
    assert table["num"].tolist() == [8, 4, 64]
    assert table["flipped"].tolist() == [True, True, False]
    assert table["image"].tolist() == ["0.png", "1.png", "2.png"]


def test_num_zero_is_ignored_whatever_its_range() -> None:
    changed = outcomes_of([[[False]], [[True]], [[False]], [[False]]])
    changed["amplitude"] = pd.array([10] * len(changed), dtype="Int16")
    control = outcomes_of([[[False]]], nums=[0])
    table = pixels_to_flip(concatenate([control, changed]))
    assert (table["num"].tolist(), table["flipped"].tolist()) == ([8], [True])


def test_what_is_wrong_unchanged_is_left_out_for_that_model() -> None:
    wrong = [[[True], [False]], [[True], [True]], [[True], [True]]]
    rows = concatenate(
        [
            outcomes_of(wrong, "m", [0, 4, 8]),
            outcomes_of([[[False], [False]], *wrong[1:]], "n", [0, 4, 8]),
        ]
    )
    table = pixels_to_flip(rows)
    assert table[["model", "image"]].astype(str).to_numpy().tolist() == [
        ["m", "1.png"], ["n", "0.png"], ["n", "1.png"],
    ]  # fmt: skip
    assert pixels_to_flip(outcomes_of([[[True]], [[True]]], "m", [0, 4])).empty


@given(
    st.lists(
        st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=3, max_size=3),
        min_size=4,
        max_size=4,
    ),
    st.integers(0, 1),
    st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_against_brute_force_in_any_order_of_rows(
    wrong: list[list[list[bool]]], draw: int, random: object
) -> None:
    other = [[[not value for value in draws] for draws in images] for images in wrong]
    rows = concatenate([outcomes_of(wrong), outcomes_of(other, "other")])
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    table = pixels_to_flip(rows.iloc[order], draw).set_index(["model", "image"])
    assert len(table) == 6
    for model, outcomes in (("m", wrong), ("other", other)):
        for image in range(3):
            nums = [n for n, cell in zip(NUMS, outcomes, strict=True) if cell[image][draw]]
            row = table.loc[(model, f"{image}.png")]
            assert (row["num"], row["flipped"]) == (min(nums, default=64), bool(nums))


def test_pixels_to_flip_refuses() -> None:
    rows = outcomes_of([[[True]]] * 4)
    with pytest.raises(InputError, match="nothing of draw 1"):
        pixels_to_flip(rows, draw=1)
    with pytest.raises(InputError, match="nothing of draw 0"):
        pixels_to_flip(rows[rows["num"] == 0])
    other = rows.copy()
    other["area"] = pd.array([200] * len(other), dtype="Int32")
    with pytest.raises(InputError, match="2 combinations"):
        pixels_to_flip(concatenate([rows, other]))


def log_log(survival: float, variance: float, confidence: float = 0.95) -> tuple[float, float]:
    """Kalbfleisch & Prentice's interval; variance is Greenwood's, of log survival."""
    z = stats.norm.ppf((1 + confidence) / 2)
    spread = z * math.sqrt(variance) / math.log(survival)
    return survival ** math.exp(-spread), survival ** math.exp(spread)


def test_a_curve_by_hand() -> None:
    """Five images: two flip at 4, one at 16, two not at all."""
    curve = survival_curve([4, 64, 16, 4, 64], [True, False, True, True, False])
    assert curve.nums.tolist() == [4, 16, 64]
    assert curve.survival == pytest.approx([3 / 5, 2 / 5, 2 / 5])
    first = log_log(3 / 5, 2 / (5 * 3))
    second = log_log(2 / 5, 2 / (5 * 3) + 1 / (3 * 2))
    assert curve.low == pytest.approx([first[0], second[0], second[0]])
    assert curve.high == pytest.approx([first[1], second[1], second[1]])
    assert (curve.median, curve.median_low, curve.median_high) == (16, 4, None)


def test_a_curve_with_an_image_tried_less_far() -> None:
    """Flip one at 4 and one at 16; one is right up to 8 and not tried beyond: 2/3, 2/3, 0."""
    curve = survival_curve([4, 8, 16], [True, False, True])
    assert curve.survival == pytest.approx([2 / 3, 2 / 3, 0])
    assert curve.median == 16
    assert survival_curve([4, 8, 64, 64], [True, True, False, False]).median == 8


@pytest.mark.parametrize(
    ("num", "images", "share", "medians"),
    [(64, 20, 1, (None, None, None)), (64, 1, 1, (None, 64, None)), (4, 20, 0, (4, 4, 4))],
)
def test_where_all_or_none_flip_the_band_is_wilsons(
    num: int, images: int, share: int, medians: tuple[float | None, ...]
) -> None:
    curve = survival_curve([num] * images, [share == 0] * images)
    wilson = wilson_interval(share, images)
    assert (curve.nums.tolist(), curve.survival.tolist()) == ([num], [share])
    assert (curve.low.tolist(), curve.high.tolist()) == ([wilson.low], [wilson.high])
    assert (curve.median, curve.median_low, curve.median_high) == medians


@given(st.lists(st.sampled_from(NUMS), min_size=1, max_size=40), st.floats(0.5, 0.99))
@settings(max_examples=50, deadline=None)
def test_laws_of_curves(num: list[int], confidence: float) -> None:
    """Try all images up to 64: then survival is the plain share of images left."""
    flipped = [value != 64 for value in num]
    curve = survival_curve(num, flipped, confidence)
    left = [np.mean([v > n or (v == n == 64) for v in num]) for n in curve.nums]
    assert curve.survival == pytest.approx(left, abs=1e-12)
    assert (curve.low >= 0).all()
    assert (curve.low <= curve.survival + 1e-12).all()
    assert (curve.survival <= curve.high + 1e-12).all()
    assert (curve.high <= 1).all()
    edges = [
        math.inf if edge is None else edge
        for edge in (curve.median_low, curve.median, curve.median_high)
    ]
    assert edges == sorted(edges)


def test_the_band_and_the_median_interval_cover() -> None:
    """Flip images at 4, 8, 16, 32 with chances 0.2, 0.15, 0.1, 0.25: the median num is 32."""
    rng = np.random.default_rng(1)
    nums, chances = np.array([4, 8, 16, 32, 64]), [0.2, 0.15, 0.1, 0.25, 0.3]
    band = median = 0
    for _ in range(500):
        num = rng.choice(nums, 40, p=chances)
        curve = survival_curve(num, num < 64)
        at_eight = np.searchsorted(curve.nums, 8, side="right") - 1
        band += curve.low[at_eight] <= 0.65 <= curve.high[at_eight]
        high = math.inf if curve.median_high is None else curve.median_high
        median += (curve.median_low or math.inf) <= 32 <= high
    assert 0.92 <= band / 500 <= 0.99
    assert median / 500 >= 0.93


@pytest.mark.parametrize(("num", "flipped"), [([], []), ([0], [True]), ([math.nan], [True])])
def test_curves_and_their_comparison_refuse(num: list[float], flipped: list[bool]) -> None:
    with pytest.raises(InputError):
        survival_curve(num, flipped)
    with pytest.raises(InputError):
        logrank(group(num, flipped), group([4], [True]))
    with pytest.raises(InputError, match="one num and one flag"):
        survival_curve(num, [*flipped, True])


def mantel(first: pd.DataFrame, second: pd.DataFrame) -> float:
    """Spell the log-rank test out: observed less expected flips of the first group."""
    excess = variance = 0.0
    for num in sorted({*first["num"], *second["num"]}):
        at_risk = [(rows["num"] >= num).sum() for rows in (first, second)]
        events = [((rows["num"] == num) & rows["flipped"]).sum() for rows in (first, second)]
        total, flips = sum(at_risk), sum(events)
        excess += events[0] - flips * at_risk[0] / total
        if total > 1:
            variance += flips * at_risk[0] * at_risk[1] * (total - flips) / (total**2 * (total - 1))
    return float(stats.chi2.sf(excess**2 / variance, 1))


def test_the_log_rank_test_against_mantels_sums() -> None:
    first = group([4, 4, 8, 16, 64], [True, True, True, True, False])
    second = group([8, 16, 64, 64, 64], [True, True, True, False, False])
    assert logrank(first, second) == pytest.approx(mantel(first, second), rel=1e-9)


@given(*[st.lists(st.sampled_from(NUMS), min_size=1, max_size=15)] * 2)
@settings(max_examples=50, deadline=None)
def test_the_log_rank_test_is_symmetric_and_a_probability(
    first: list[int], second: list[int]
) -> None:
    one, two = (group(num, [value != 64 for value in num]) for num in (first, second))
    p_value = logrank(one, two)
    assert 0 <= p_value <= 1
    assert logrank(two, one) == pytest.approx(p_value, abs=1e-9)
    assert logrank(one, one) == pytest.approx(1)


def test_degenerate_groups_give_one() -> None:
    none = group([64, 64], [False, False])
    assert logrank(none, none) == 1.0
    at_once = group([4, 4], [True, True])
    assert logrank(at_once, at_once) == 1.0


def test_the_log_rank_test_is_cautious_for_models_that_share_images() -> None:
    """Compare two models of equal strength, most of whose images flip together: under 5 % differ."""
    rng = np.random.default_rng(2)
    rejected = 0
    for _ in range(400):
        shared = rng.choice(NUMS, 60)
        one, two = (np.where(rng.random(60) < 0.3, rng.choice(NUMS, 60), shared) for _ in range(2))
        rejected += logrank(*(group(num, num < 64) for num in (one, two))) < 0.05
    assert rejected / 400 <= 0.05
