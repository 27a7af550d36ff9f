"""Intervals: against SciPy, at their edges, and how often they cover the truth."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pixelrobust.statistics.rates import effective_sample_size, wilson_interval, wrong_rate_interval

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


def test_draws_that_agree_add_nothing() -> None:
    """Five images always wrong and 995 never: 20 draws are worth one."""
    shares = np.array([1.0] * 5 + [0.0] * 995)
    assert effective_sample_size(shares, draws=20) == pytest.approx(1000, rel=0.01)


def test_independent_draws_count_nearly_all() -> None:
    rng = np.random.default_rng(1)
    shares = rng.binomial(20, 0.2, 5000) / 20
    assert effective_sample_size(shares, draws=20) == pytest.approx(100_000, rel=0.1)


def test_the_effective_sample_size_by_hand() -> None:
    """Four images with shares 0, 0, 1/2, 1/2: rate 1/4, binary variance 3/16.

    Squares 4 * (1/4)^2 = 1/4; with two imaginary images (1/4 + 3/8) / 5 = 1/8 at 5 degrees of
    freedom, so 3/16 / (1/8 / 4) = 6, times (1.959964 / 2.570582)^2 = 0.581347.
    """
    assert effective_sample_size([0, 0, 0.5, 0.5], draws=4) == pytest.approx(3.48808, rel=1e-5)


def test_two_draws_and_another_confidence_by_hand() -> None:
    """Three images with shares 0, 0, 1/2: rate 1/6, binary variance 5/36.

    Squares 1/6; with two imaginary images (1/6 + 5/18) / 4 = 1/9 at 4 degrees of freedom, so
    5/36 / (1/9 / 3) = 15/4, times (1.281552 / 1.533206)^2 = 0.698668: n = 2.620006. With
    u = 1.281552^2 / n = 0.626859, Wilson's bounds are (1/6 + u/2 ± sqrt(5/36 u + u^2/4)) / (1 + u).
    """
    for counts in ([0, 0, 1], np.array([0, 0, 1], dtype=np.uint8)):
        interval = wrong_rate_interval(counts, draws=2, confidence=0.8)
        assert (interval.low, interval.high) == pytest.approx((0.030506, 0.559706), abs=1e-6)


def test_numbers_of_low_precision_are_counted_in_full() -> None:
    """Thirds of 16 bits are off by 8e-5, and so would be their mean."""
    halves = np.array([1, 1, 2, 0, 0, 1], dtype=np.float16)
    assert wrong_rate_interval(halves, draws=3) == wrong_rate_interval(halves.tolist(), draws=3)
    single = np.array([1 / 3, 0.0, 1.0, 1 / 3, 1 / 7], dtype=np.float32)
    assert effective_sample_size(single, 3) == effective_sample_size(single.tolist(), 3)


def test_images_that_agree_count_no_more_than_all_their_draws() -> None:
    """100 images wrong at every other draw show no variance between them: all 400 draws count."""
    assert effective_sample_size([0.5] * 100, draws=4) == 400


def test_intervals_end_where_shares_end() -> None:
    nearly_none, nearly_all = np.nextafter(0, 1), np.nextafter(1, 0)
    for n in np.arange(1, 300):
        assert wilson_interval(0.0, n).low == 0.0
        assert wilson_interval(1.0, n).high == 1.0
        for rate in (nearly_none, nearly_all):
            interval = wilson_interval(rate, n)
            assert 0 <= interval.low <= interval.high <= 1


def test_the_interval_holds_the_rate_and_stays_a_share() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        wrong = rng.binomial(5, rng.beta(0.3, 2, 12))
        interval = wrong_rate_interval(wrong, draws=5)
        assert 0 <= interval.low <= wrong.mean() / 5 <= interval.high <= 1


@pytest.mark.slow
@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize(("images", "draws"), [(20, 1), (20, 20), (1000, 1), (1000, 20)])
def test_coverage(population: str, images: int, draws: int) -> None:
    """Of 1,500 samples 92 to 97.5 % must cover; twenty images at twenty draws may be cautious."""
    rng = np.random.default_rng(3)
    chances = POPULATIONS[population]
    truth = chances(rng, 2_000_000).mean()
    covered = 0
    for _ in range(1500):
        interval = wrong_rate_interval(rng.binomial(draws, chances(rng, images)), draws)
        covered += interval.low <= truth <= interval.high
    few = (images, draws) == (20, 20)
    assert 0.92 <= covered / 1500 <= (1.0 if few else 0.975)
