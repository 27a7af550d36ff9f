"""Wrong rates: intervals against SciPy, at their edges, how often they cover; shares by hand."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from pixelrobust.errors import InputError
from pixelrobust.outcomes.rows import concatenate, make_outcomes
from pixelrobust.perturbation.grid import Cell
from pixelrobust.statistics.rates import (
    WrongShares,
    effective_sample_size,
    wilson_interval,
    wrong_rate_interval,
)

Population = Callable[[np.random.Generator, int], NDArray[np.float64]]

# Each image's own chance to be wrong; most real images never are, some nearly always.
POPULATIONS: dict[str, Population] = {
    "alike": lambda rng, n: np.full(n, 0.2),
    "spread": lambda rng, n: rng.beta(0.117, 2.217, n),
    "one in seven can fail": lambda rng, n: np.where(rng.random(n) < 0.14, rng.beta(0.5, 3, n), 0),
    "half can fail": lambda rng, n: np.where(rng.random(n) < 0.5, rng.beta(0.5, 1, n), 0),
}


@pytest.mark.parametrize(("wrong", "images"), [(0, 20), (1, 20), (7, 1000), (1000, 1000)])
def test_one_draw_gives_wilsons_interval(wrong: int, images: int) -> None:
    expected = stats.binomtest(wrong, images).proportion_ci(method="wilson")
    interval = wrong_rate_interval([1] * wrong + [0] * (images - wrong), draws=1)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_wrong_counts_images_not_draws() -> None:
    assert wrong_rate_interval([0] * 20, draws=50) == wilson_interval(0.0, 20)
    assert wrong_rate_interval([50] * 20, draws=50) == wilson_interval(1.0, 20)


def test_draws_count_as_far_as_they_differ() -> None:
    """Five images always wrong and 995 never: 20 draws are worth one. Independent ones, all."""
    agreeing = np.array([1.0] * 5 + [0.0] * 995)
    assert effective_sample_size(agreeing, draws=20) == pytest.approx(1000, rel=0.01)
    independent = np.random.default_rng(1).binomial(20, 0.2, 5000) / 20
    assert effective_sample_size(independent, draws=20) == pytest.approx(100_000, rel=0.1)
    # 100 images wrong at every other draw show no variance between them: all 400 draws count.
    assert effective_sample_size([0.5] * 100, draws=4) == 400


def test_the_effective_sample_size_by_hand() -> None:
    """Forty images with shares of 1/4, but for one of 0 and one of 1: rate 0.2625.

    Squares 38 * 0.0125^2 + 0.2625^2 + 0.7375^2 = 0.61875, fourth powers 0.300583: kurtosis 31.4047,
    so 80 / (31.4047 - 37/39) = 2.62674 degrees of freedom, where Student's quantile is 3.454221.
    Binary variance 0.19359375; with two imaginary images (0.61875 + 0.3871875) / 41 = 0.02453506,
    so 40 * 0.19359375 / 0.02453506 = 315.620, times (1.959964 / 3.454221)^2 = 0.321956.
    """
    shares = [0.25] * 38 + [0, 1]
    assert effective_sample_size(shares, draws=4) == pytest.approx(101.6156, rel=1e-4)
    # Draws of one image agree wholly at worst.
    assert effective_sample_size([0, 0, 0.5, 0.5], draws=4) == 4


def test_two_draws_and_another_confidence_by_hand() -> None:
    """Three images with shares 0, 0, 1/2, worth three outcomes at least: rate 1/6.

    With u = 1.281552^2 / 3 = 0.547459, Wilson's bounds are (1/6 + u/2 ± sqrt(5/36 u + u^2/4)) / (1 + u).
    """
    for counts in ([0, 0, 1], np.array([0, 0, 1], dtype=np.uint8)):
        interval = wrong_rate_interval(counts, draws=2, confidence=0.8)
        assert (interval.low, interval.high) == pytest.approx((0.033510, 0.535676), abs=1e-6)


def test_numbers_of_low_precision_are_counted_in_full() -> None:
    """Thirds of 16 bits are off by 8e-5, and so would be their mean."""
    halves = np.array([1, 1, 2, 0, 0, 1], dtype=np.float16)
    assert wrong_rate_interval(halves, draws=3) == wrong_rate_interval(halves.tolist(), draws=3)
    single = np.array([1 / 3, 0.0, 1.0, 1 / 3, 1 / 7], dtype=np.float32)
    assert effective_sample_size(single, 3) == effective_sample_size(single.tolist(), 3)


def test_intervals_hold_the_rate_and_stay_shares() -> None:
    for n in np.arange(1, 300):
        assert wilson_interval(0.0, n).low == 0.0
        assert wilson_interval(1.0, n).high == 1.0
        for rate in (np.nextafter(0, 1), np.nextafter(1, 0)):
            interval = wilson_interval(rate, n)
            assert 0 <= interval.low <= interval.high <= 1
    rng = np.random.default_rng(2)
    for _ in range(200):
        wrong = rng.binomial(5, rng.beta(0.3, 2, 12))
        interval = wrong_rate_interval(wrong, draws=5)
        assert 0 <= interval.low <= wrong.mean() / 5 <= interval.high <= 1


@pytest.mark.slow
@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize(("images", "draws"), [(20, 1), (20, 20), (1000, 1), (1000, 20)])
def test_coverage(population: str, images: int, draws: int) -> None:
    """Cover with 92 to 97.5 % of 1,500 samples; twenty images at twenty draws may be cautious."""
    rng = np.random.default_rng(3)
    chances = POPULATIONS[population]
    truth = chances(rng, 2_000_000).mean()
    covered = 0
    for _ in range(1500):
        interval = wrong_rate_interval(rng.binomial(draws, chances(rng, images)), draws)
        covered += interval.low <= truth <= interval.high
    few = (images, draws) == (20, 20)
    assert 0.92 <= covered / 1500 <= (1.0 if few else 0.975)


RARE = [
    (images, draws, mean, correlation)
    for images in (200, 402, 1000)
    for draws in (4, 20)
    for mean in (0.001, 0.002, 0.005, 0.01)
    for correlation in (0.1, 0.3, 0.5, 0.9)
]


@pytest.mark.slow
@pytest.mark.parametrize(("images", "draws", "mean", "correlation"), RARE)
def test_coverage_where_flips_are_rare_and_clustered(
    images: int, draws: int, mean: float, correlation: float
) -> None:
    """Cover with 93 %, less one and a half standard errors of the simulation."""
    rng = np.random.default_rng(4)
    spread = (1 - correlation) / correlation
    covered = 0
    for _ in range(1000):
        chances = rng.beta(mean * spread, (1 - mean) * spread, images)
        interval = wrong_rate_interval(rng.binomial(draws, chances), draws)
        covered += interval.low <= mean <= interval.high
    assert covered / 1000 >= 0.93 - 0.012


LABELS = np.array([7, 7])


def outcomes(model: str = "net") -> pd.DataFrame:
    """Image b.png comes first; 7 is right."""
    predictions = {
        Cell(0): np.array([[7], [7]]),
        Cell(4): np.array([[1, 7, 1, 7], [7, 7, 7, 1]]),
        Cell(64): np.array([[1, 1, 1, 1], [7, 7, 7, 7]]),
        Cell(64, 10): np.array([[7, 7, 7, 1], [7, 7, 1, 1]]),
        Cell(64, 0): np.array([[7, 7, 7, 7], [7, 7, 7, 7]]),
        Cell(64, None, 220): np.array([[1, 1, 1, 7], [7, 1, 1, 1]]),
    }
    return make_outcomes(model, ["b.png", "a.png"], LABELS, predictions)


@pytest.mark.parametrize(
    ("cell", "shares"),
    [
        (Cell(0), [0, 0]),
        (Cell(4), [0.25, 0.5]),
        (Cell(64), [0, 1]),
        (Cell(64, 10), [0.5, 0.25]),
        (Cell(64, 0), [0, 0]),
        (Cell(64, None, 220), [0.75, 0.75]),
    ],
)
def test_shares_are_those_of_the_cell_by_image_key(cell: Cell, shares: list[float]) -> None:
    """Amplitude 0 is not the same as none."""
    assert WrongShares(outcomes()).of("net", cell).tolist() == shares


def test_shares_list_what_varies() -> None:
    table = WrongShares(concatenate([outcomes("zebra"), outcomes("ant")]))
    assert table.models == ["zebra", "ant"]
    assert (table.nums, table.amplitudes, table.areas) == ([4, 64], [0, 10], [220])
    assert table.draws == 4
    rows = outcomes()
    table = WrongShares(rows[rows["num"] == 0])
    assert (table.nums, table.amplitudes, table.areas, table.draws) == ([], [], [], 1)


def test_several_cells_are_columns_whatever_the_order_of_rows() -> None:
    shares = WrongShares(outcomes().sample(frac=1, random_state=0))
    assert shares.over("net", [Cell(64), Cell(4)]).tolist() == [[0, 0.25], [1, 0.5]]


def test_what_is_there_can_be_asked() -> None:
    table = WrongShares(outcomes())
    assert table.has("net", Cell(4), Cell(64, 10))
    assert not table.has("net", Cell(4), Cell(64, 40))
    assert not table.has("other", Cell(4))
    with pytest.raises(InputError, match="no outcomes of other"):
        table.of("other", Cell(4))
    with pytest.raises(InputError, match=r"no outcomes of net in Cell\(num=5"):
        table.over("net", [Cell(4), Cell(5)])


def test_images_that_cannot_be_paired_are_refused() -> None:
    rows = outcomes()
    part = rows[(rows["num"] != 4) | (rows["image"] == "a.png")]
    with pytest.raises(InputError, match="1 of 2 images"):
        WrongShares(part).of("net", Cell(4))
    other = make_outcomes("other", ["b.png", "c.png"], LABELS, {Cell(4): np.array([[7], [7]])})
    with pytest.raises(InputError, match="2 of 3 images"):
        WrongShares(concatenate([outcomes(), other])).of("net", Cell(4))
