"""Paired comparisons: by hand, against independent methods, and how often they are right."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats

from pixelrobust.errors import InputError
from pixelrobust.statistics.paired import (
    Equivalence,
    compare_pairs,
    difference_interval,
    equivalence,
    holm,
    image_slopes,
    images_to_exclude,
    interval_over_seeds,
    largest_slope,
    mcnemar,
    mean_interval,
    paired_test,
    sign_flip_test,
    unseen_bound,
)
from pixelrobust.statistics.rates import Interval

Shares = NDArray[np.float64]

SHARES = st.integers(0, 5).map(lambda count: count / 5)
PAIRS = st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=40)


def one_draw(images: int, up: int, down: int) -> tuple[Shares, Shares]:
    """Shares at one draw where `up` images are wrong in the first only, `down` in the second."""
    first, second = np.zeros(images), np.zeros(images)
    first[:up] = 1
    second[up : up + down] = 1
    return first, second


def test_mcnemar_by_hand() -> None:
    """Count one image against six: 2 (C(7,0) + C(7,1)) / 2^7 = 16/128."""
    first = np.array([True] + [False] * 6 + [True] * 3)
    second = np.array([False] + [True] * 6 + [True] * 3)
    assert mcnemar(first, second) == pytest.approx(0.125, abs=1e-12)
    assert mcnemar(second, first) == pytest.approx(0.125, abs=1e-12)

    assert mcnemar([True, False], [True, False]) == 1.0


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [([1, 1, 1], 2 / 8), ([3, 1, -1], 6 / 8), ([0, 0.5, 0, 0.25], 2 / 4), ([0, 0], 1.0)],
)
def test_sign_flips_by_hand(differences: list[float], p_value: float) -> None:
    assert sign_flip_test(differences) == p_value


def test_rounding_errors_do_not_split_equal_sums() -> None:
    """0.3 - 0.2 and 0.1 differ in their last bits; all four signs are 2 of 16 patterns."""
    differences = [0.3 - 0.2, 0.1, 0.8 - 0.7, 1 - 0.9]
    assert len(set(differences)) > 1
    assert sign_flip_test(differences) == 2 / 16
    mixed = [0.3 - 0.2, -0.1, 0.8 - 0.7, 1 - 0.9]
    assert sign_flip_test(mixed) == 10 / 16


def test_up_to_thirteen_differences_agree_with_scipy() -> None:
    rng = np.random.default_rng(1)
    for count in (5, 9, 13):
        differences = rng.normal(0.4, 1, count)
        expected = stats.permutation_test(
            (differences,),
            lambda x, axis: x.mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=2**count,
        ).pvalue
        assert sign_flip_test(differences) == pytest.approx(expected, abs=1e-12)


def exact_by_convolution(counts: NDArray[np.int64]) -> float:
    """P(|sum of random signs times counts| >= |sum|) from the sum's whole distribution."""
    distribution = np.ones(1)
    for size in np.abs(counts[counts != 0]):
        step = np.zeros(2 * size + 1)
        step[0] = step[-1] = 0.5
        distribution = np.convolve(distribution, step)
    sums = np.arange(len(distribution)) - len(distribution) // 2
    return float(distribution[np.abs(sums) >= abs(counts.sum())].sum())


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_random_signs_agree_with_the_exact_distribution(shift: float) -> None:
    counts = np.round(np.random.default_rng(2).normal(shift, 2, 60)).astype(np.int64)
    exact = exact_by_convolution(counts)
    estimate = sign_flip_test(counts / 20, permutations=40_000)
    assert estimate == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 40_000) + 5e-5)


def test_random_signs_follow_the_seed_alone() -> None:
    differences = np.random.default_rng(3).normal(0.2, 1, 30)
    assert sign_flip_test(differences, seed=4) == sign_flip_test(differences, seed=4)
    assert sign_flip_test(differences, seed=4) != sign_flip_test(differences, seed=5)
    assert sign_flip_test(np.ones(50), permutations=99) == 1 / 100


@given(PAIRS, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_the_paired_test_is_symmetric_and_a_probability(
    pairs: list[tuple[float, float]], draws: int
) -> None:
    first, second = np.array(pairs).T
    if draws == 1:
        first, second = first > 0.5, second > 0.5
    p_value = paired_test(first, second, draws)
    assert 0 < p_value <= 1
    assert paired_test(second, first, draws) == p_value
    assert paired_test(first[::-1], second[::-1], draws) == p_value


def test_the_paired_test_chooses_by_draws() -> None:
    """Take McNemar's test at one draw; sign flips of whole differences are the same when exact."""
    first, second = one_draw(30, 8, 2)
    assert paired_test(first, second, 1) == mcnemar(first, second)
    assert paired_test(first, second, 5) == pytest.approx(mcnemar(first, second), abs=1e-12)
    for up, down in itertools.product(range(7), range(7)):
        first, second = one_draw(14, up, down)
        assert sign_flip_test(first - second) == pytest.approx(mcnemar(first, second), abs=1e-12)
    compared = compare_pairs(first, second)
    assert (compared.mean, compared.p) == (0, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mcnemar([0.5, 1], [0, 1]), "not shares"),
        (lambda: mcnemar([True], [True, False]), "same images"),
        (lambda: mcnemar([], []), "same images"),
        (lambda: sign_flip_test([]), "finite differences"),
        (lambda: sign_flip_test([math.nan]), "finite differences"),
        (lambda: sign_flip_test([[1.0]]), "finite differences"),
        (lambda: sign_flip_test([1.0], permutations=0), "permutations is 0"),
        (lambda: paired_test([0.5], [0.0], 1), "not shares"),
        (lambda: paired_test([0.5], [0.0], 0), "draws is 0"),
        (lambda: paired_test([1.5], [0.0], 2), r"0\.\.1"),
        (lambda: holm([-0.1]), "p-values in"),
        (lambda: holm([1.1]), "p-values in"),
        (lambda: holm([math.nan]), "p-values in"),
        (lambda: holm([[0.5]]), "p-values in"),
        (lambda: equivalence([0], [0], 0, 0.95), "equivalence test needs"),
        (lambda: equivalence([0], [0], -1, 0.95), "equivalence test needs"),
        (lambda: equivalence([0], [0], 0.01, 0.5), "equivalence test needs"),
        (lambda: equivalence([0], [0], 0.01, 1), "equivalence test needs"),
        (lambda: image_slopes(np.zeros((3, 2)), [4, 4]), "different nums above 0"),
        (lambda: image_slopes(np.zeros((3, 2)), [0, 4]), "different nums above 0"),
        (lambda: image_slopes(np.zeros((3, 1)), [4]), "different nums above 0"),
        (lambda: image_slopes(np.zeros((3, 2)), [4, math.nan]), "different nums above 0"),
        (lambda: image_slopes(np.zeros((3, 4)), [4, 8, 16]), "do not fit"),
        (lambda: mean_interval([]), "two or more finite"),
        (lambda: mean_interval([1.0]), "two or more finite"),
        (lambda: mean_interval([1.0, math.inf]), "two or more finite"),
        (lambda: mean_interval([[1.0, 2.0]]), "two or more finite"),
        (lambda: mean_interval([0.1, 0.3], limit=0.25), "larger than their limit"),
    ],
)
def test_numbers_that_cannot_be_compared_are_refused(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        call()


def test_holm_by_hand() -> None:
    """4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04 raised to the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1, 1])
    assert holm([0.2]) == pytest.approx([0.2])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_stepwise_procedure_rejects(
    p_values: list[float], level: float
) -> None:
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= 1).all()
    rejected = set()
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] * (len(p_values) - step) > level:
            break
        rejected.add(int(index))
    assert set(np.flatnonzero(adjusted <= level)) == rejected


def constrained_score(up: int, down: int, images: int, delta: float) -> float:
    """Tango's statistic with the constrained likelihood maximised by search, not by formula."""

    def loss(share: float) -> float:
        cells = ((up, share + delta), (down, share), (images - up - down, 1 - 2 * share - delta))
        return -sum(count * math.log(max(chance, 1e-300)) for count, chance in cells if count)

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    share = optimize.minimize_scalar(
        loss, bounds=bounds, method="bounded", options={"xatol": 1e-12}
    ).x
    return (up - down - images * delta) / math.sqrt(images * (2 * share + delta - delta**2))


@pytest.mark.parametrize(
    ("up", "down", "images"), [(1, 6, 16), (3, 3, 50), (9, 4, 400), (5, 7, 14)]
)
def test_one_draw_gives_tangos_interval(up: int, down: int, images: int) -> None:
    interval = difference_interval(*one_draw(images, up, down), 0.9)
    z = stats.norm.ppf(0.95)
    assert constrained_score(up, down, images, interval.low) == pytest.approx(z, abs=1e-3)
    assert constrained_score(up, down, images, interval.high) == pytest.approx(-z, abs=1e-3)


def test_differences_that_are_all_one() -> None:
    """Every image wrong in the first only.

    Given delta, the likeliest shares are (1 + delta) / 2 and (1 - delta) / 2, of variance
    1 - delta^2: n (1 - delta)^2 = z^2 (1 - delta^2) gives (n - z^2) / (n + z^2).
    """
    z = stats.norm.ppf(0.975)
    interval = difference_interval(*one_draw(10, 10, 0))
    assert (interval.low, interval.high) == pytest.approx(((10 - z**2) / (10 + z**2), 1), abs=1e-6)
    interval = difference_interval(*one_draw(10, 0, 10))
    assert (interval.low, interval.high) == pytest.approx(
        (-1, -(10 - z**2) / (10 + z**2)), abs=1e-6
    )


def test_draws_that_agree_add_nothing_to_the_difference() -> None:
    """Make one image of a thousand less sure than the rest: the interval hardly moves."""
    first, second = one_draw(1000, 40, 10)
    whole = difference_interval(first, second)
    first[0] = 0.95
    nearly = difference_interval(first, second)
    assert (nearly.low, nearly.high) == pytest.approx((whole.low, whole.high), abs=3e-4)


def test_independent_draws_shrink_the_interval() -> None:
    """With many images it is the t interval."""
    rng = np.random.default_rng(7)
    first, second = rng.binomial(20, 0.3, 3000) / 20, rng.binomial(20, 0.25, 3000) / 20
    expected = stats.ttest_rel(first, second).confidence_interval()
    interval = difference_interval(first, second)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=2e-4)


def test_the_unseen_bound_is_clopper_pearsons() -> None:
    expected = stats.binomtest(0, 37).proportion_ci(0.9, method="exact").high
    assert unseen_bound(37, 0.9) == pytest.approx(expected, abs=1e-12)


@given(PAIRS)
@settings(max_examples=80, deadline=None)
def test_intervals_hold_the_difference_and_turn_with_it(pairs: list[tuple[float, float]]) -> None:
    first, second = np.array(pairs).T
    there, back = equivalence(first, second), equivalence(second, first)
    assert -1 <= there.low <= there.difference <= there.high <= 1
    mirrored = (-back.difference, -back.high, -back.low)
    assert (there.difference, there.low, there.high) == pytest.approx(mirrored, abs=1e-7)
    assert there.verdict == back.verdict
    inner, outer = (difference_interval(first, second, level) for level in (0.9, 0.95))
    assert outer.low <= inner.low <= inner.high <= outer.high
    assert there.low <= inner.low + 1e-9
    assert there.high >= inner.high - 1e-9


@cache
def compare(images: int, up: int, down: int) -> Equivalence:
    return equivalence(*one_draw(images, up, down))


def every_sample(images: int, up: float, down: float) -> Iterator[tuple[float, Equivalence]]:
    """Each likely sample's probability and result, when an image differs up or down that often."""
    ups = stats.binom.pmf(np.arange(images + 1), images, up)
    for first in np.flatnonzero(ups > 1e-4):
        left = images - int(first)
        downs = stats.binom.pmf(np.arange(left + 1), left, down / (1 - up))
        for second in np.flatnonzero(downs > 1e-4):
            yield ups[first] * downs[second], compare(images, int(first), int(second))


def share_that_passes(images: int, up: float, down: float) -> float:
    """Return how often two conditions that differ so are called equivalent."""
    return sum(
        chance
        for chance, result in every_sample(images, up, down)
        if result.verdict == "equivalent"
    )


@pytest.mark.parametrize("images", [16, 400])
@pytest.mark.parametrize(
    ("up", "down"),
    [(0.005, 0), (0.01, 0.01), (0.02, 0), (0.03, 0.005), (0.05, 0), (0.06, 0.02), (0.1, 0.01)],
)
def test_coverage_at_one_draw(images: int, up: float, down: float) -> None:
    """Sum all samples with their probabilities; nothing is simulated.

    Where fewer than five images are expected to differ, no interval from counts can be both valid
    and tight, and coverage may reach 1.
    """
    covered = sum(
        chance * (result.low <= up - down <= result.high)
        for chance, result in every_sample(images, up, down)
    )
    few = images * (up + down) < 5
    assert 0.88 <= covered <= (1 if few else 0.98)


Population = Callable[[np.random.Generator, int], tuple[Shares, Shares]]


def _some(rng: np.random.Generator, images: int, share: float) -> Shares:
    return np.where(rng.random(images) < share, rng.beta(0.5, 1, images), 0)


# Each image's chances to be wrong in the two conditions.
POPULATIONS: dict[str, Population] = {
    "alike": lambda rng, n: (chance := rng.beta(0.117, 2.217, n), chance),
    "one in thirty is hit": lambda rng, n: (np.zeros(n), _some(rng, n, 0.03)),
    "one in ten is hit": lambda rng, n: (_some(rng, n, 0.1), np.zeros(n)),
    "hit both ways": lambda rng, n: (_some(rng, n, 0.05), _some(rng, n, 0.02)),
    "hit wholly": lambda rng, n: (np.zeros(n), np.where(rng.random(n) < 0.03, 0.98, 0)),
    "many slightly, few wholly": lambda rng, n: (
        np.zeros(n),
        np.where(rng.random(n) < 0.01, 1, np.where(rng.random(n) < 0.3, 0.05, 0)),
    ),
}


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize(("images", "samples"), [(16, 200), (400, 1000)])
def test_coverage_at_several_draws(population: str, images: int, samples: int) -> None:
    """Five draws: 88 % or more must cover, less one standard error of the simulation."""
    rng = np.random.default_rng(8)
    chances = POPULATIONS[population]
    first, second = chances(rng, 500_000)
    truth = first.mean() - second.mean()
    covered = 0
    for _ in range(samples):
        first, second = (rng.binomial(5, chance) / 5 for chance in chances(rng, images))
        result = equivalence(first, second)
        covered += result.low <= truth <= result.high
    assert covered / samples >= 0.87


@pytest.mark.parametrize(("up", "down"), [(0.01, 0), (0.012, 0.002), (0.02, 0.01)])
@pytest.mark.parametrize("images", [16, 300, 1000])
def test_a_difference_of_the_margin_seldom_passes(images: int, up: float, down: float) -> None:
    assert share_that_passes(images, up, down) <= 0.055


def test_many_images_that_hardly_differ_pass() -> None:
    assert share_that_passes(2000, 0.003, 0.003) >= 0.9


def test_no_difference_passes_only_with_many_images() -> None:
    """1 - 0.05^(1/n) falls below 0.01 at 299 images."""
    for images in (1, 16, 298, 299, 1000):
        result = equivalence(np.full(images, 0.4), np.full(images, 0.4))
        assert result.verdict == ("equivalent" if images >= 299 else "not decided")
        assert result.high == -result.low == pytest.approx(1 - 0.05 ** (1 / images))


def test_one_slight_difference_is_no_surer_than_none() -> None:
    for images in (16, 100, 298):
        first = np.zeros(images)
        first[0] = 0.01
        assert equivalence(first, np.zeros(images)).verdict == "not decided"


def test_verdicts() -> None:
    assert equivalence(*one_draw(400, 40, 5)).verdict == "different"
    assert equivalence(*one_draw(400, 8, 5)).verdict == "not decided"
    # Beyond doubt not zero, yet within the margin.
    assert equivalence(*one_draw(10_000, 30, 0)).verdict == "equivalent"
    # Not zero, and the estimate short of the margin, though the interval is not.
    assert equivalence(*one_draw(1000, 9, 0)).verdict == "not decided"
    assert equivalence(*one_draw(1000, 9, 0), margin=0.05).verdict == "equivalent"


def test_slopes_by_hand() -> None:
    """Over log2 of 4, 16, 64 (2, 4, 6): the slope is (last - first) / 4."""
    slopes = image_slopes([[0, 0.5, 1], [0, 1, 0], [1, 1, 1]], [4, 16, 64])
    assert slopes == pytest.approx([0.25, 0, 0], abs=1e-12)
    assert largest_slope([4, 16, 64]) == pytest.approx(0.25)


@given(st.lists(st.lists(SHARES, min_size=4, max_size=4), min_size=1, max_size=10))
def test_slopes_agree_with_polyfit(shares: list[list[float]]) -> None:
    nums = [1, 4, 5, 64]
    slopes = image_slopes(shares, nums)
    assert slopes == pytest.approx(np.polyfit(np.log2(nums), np.array(shares).T, 1)[0], abs=1e-9)
    assert np.abs(slopes).max() <= largest_slope(nums) + 1e-12


def test_the_mean_interval_is_students() -> None:
    values = np.random.default_rng(9).normal(3, 2, 12)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    interval = mean_interval(values, 0.9)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    narrow = mean_interval(values, 0.9, limit=float(np.abs(values).max()))
    assert narrow.high <= np.abs(values).max()


def test_equal_values_claim_nothing_without_a_limit() -> None:
    assert mean_interval([0.1, 0.1, 0.1]).low == -math.inf
    assert mean_interval([0.1, 0.1, 0.1]).high == math.inf
    interval = mean_interval(np.zeros(100), 0.9, limit=0.25)
    bound = 0.25 * (1 - 0.05 ** (1 / 100))
    assert (interval.low, interval.high) == pytest.approx((-bound, bound))
    interval = mean_interval([0.25, 0.25], limit=0.25)
    assert interval.low == pytest.approx(0.25 - 0.5 * unseen_bound(2))
    assert interval.high == 0.25


def test_an_interval_over_seeds_adds_both_sources_as_squares() -> None:
    """Seeds 0.1, 0.2 and 0.3: standard error 0.1 / sqrt(3), times 4.303 of two degrees of freedom."""
    width = 4.302653 * 0.1 / math.sqrt(3)
    found = interval_over_seeds(0.2, Interval(0.15, 0.3), [0.1, 0.2, 0.3])
    assert found.low == pytest.approx(0.2 - math.hypot(0.05, width), abs=1e-6)
    assert found.high == pytest.approx(0.2 + math.hypot(0.1, width), abs=1e-6)
    assert interval_over_seeds(0.2, Interval(0.15, 0.3), [0.2]) == Interval(0.15, 0.3)


@pytest.mark.parametrize(("between_seeds", "seeds"), [(0.0, 3), (0.05, 3), (0.05, 5)])
def test_intervals_over_images_and_seeds_cover(between_seeds: float, seeds: int) -> None:
    """Those over images alone miss where seeds differ; these cover 95 %, or more."""
    rng = np.random.default_rng(5)
    covered, alone = 0, 0
    for _ in range(400):
        shares = np.clip(
            rng.normal(0.3, 0.1, (1, 100)) + rng.normal(0, between_seeds, (seeds, 1)), 0, 1
        )
        wrong = (rng.random((seeds, 100)) < shares).astype(float)
        first, second = wrong.mean(axis=0), np.zeros(100)
        over_images = difference_interval(first, second)
        mean = float(first.mean())
        whole = interval_over_seeds(mean, over_images, wrong.mean(axis=1))
        alone += over_images.low <= 0.3 <= over_images.high
        covered += whole.low <= 0.3 <= whole.high
    assert covered >= 0.93 * 400
    if between_seeds:
        assert alone < 0.9 * 400


@pytest.mark.parametrize(("margin", "confidence"), [(0.01, 0.9), (0.01, 0.99), (0.005, 0.95)])
def test_as_many_images_as_exclude_a_margin(margin: float, confidence: float) -> None:
    images = images_to_exclude(margin, confidence)
    assert unseen_bound(images, confidence) < margin <= unseen_bound(images - 1, confidence)
