"""Paired comparisons of two conditions over the same images.

A condition is one model in one cell. It is given as `shares`: (N,) for each image the share of its
draws that were wrong, in 0..1; both conditions hold the same images in the same order. Images are
what is sampled: draws of one image resemble each other, so every test counts images.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from pixelrobust.errors import InputError
from pixelrobust.perturbation.grid import as_plain
from pixelrobust.statistics.rates import CONFIDENCE, Interval, effective_images

MARGIN = 0.01

Verdict = Literal["equivalent", "different", "not decided"]

# Up to here all 2^13 sign patterns are fewer than the default number of random ones.
_MOST_ENUMERATED = 13
# Shares of equal counts differ by rounding errors; beyond these decimals nothing is meant.
_DECIMALS = 9


@dataclass(frozen=True)
class Equivalence:
    """Result of an equivalence test, in share units (0.01 is one percentage point).

    Attributes:
        difference: mean over images of first minus second, in -1..1.
        low, high: the interval of the two one-sided tests; 90 % for a test at the 5 % level.
        verdict: what the intervals allow to say.
    """

    difference: float
    low: float
    high: float
    verdict: Verdict


@dataclass(frozen=True)
class Difference:
    """Result of comparing two conditions in pairs of images, in share units.

    Attributes:
        mean: of first minus second, in -1..1.
        low, high: its interval, see `difference_interval`.
        p: two-sided, that it is 0, not corrected.
    """

    mean: float
    low: float
    high: float
    p: float


def mcnemar(first_wrong: ArrayLike, second_wrong: ArrayLike) -> float:
    """Return the two-sided p-value of McNemar's exact test (McNemar 1947; exact: Cochran 1950).

    Args:
        first_wrong, second_wrong: (N,) bool, whether each image was wrong.

    Returns:
        The p-value; 1 where no image differs.

    Raises:
        InputError: the arrays differ in shape, are empty, or hold something other than 0 and 1.
    """
    first, second = _paired_shares(first_wrong, second_wrong)
    if not np.isin([first, second], (0, 1)).all():
        raise InputError("McNemar's test takes one outcome an image, each 0 or 1, not shares.")
    only_first, only_second = int((first > second).sum()), int((second > first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def sign_flip_test(differences: ArrayLike, *, seed: int = 0, permutations: int = 10_000) -> float:
    """Return the two-sided p-value of a sign-flip test that the mean difference is 0 (Fisher 1935).

    Exact where at most 13 differences are not zero, otherwise Monte Carlo with
    p = (1 + count) / (1 + permutations) (Phipson & Smyth 2010), which is never zero.

    Args:
        differences: (N,) paired differences, finite; where all are zero the p-value is 1.
        seed: of the random signs.
        permutations: how many random sign patterns, 1 or more.

    Raises:
        InputError: no differences, some not finite, or no permutations.
    """
    values = np.asarray(differences, dtype=float)
    seed, permutations = as_plain(seed), as_plain(permutations)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise InputError("A sign-flip test takes a list of one or more finite differences.")
    if permutations < 1:
        raise InputError(f"permutations is {permutations}; it must be 1 or more.")
    scale = float(np.abs(values).max())
    if scale == 0:
        return 1.0
    # Sums of shares carry rounding errors: equal sizes and sums must compare equal.
    values = np.round(values / scale, 12)
    sizes = np.abs(values[values != 0])
    exact = len(sizes) <= _MOST_ENUMERATED
    if exact:
        signs = 2.0 * (np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1) - 1
        sums = signs @ sizes
    else:
        sums = _random_sums(sizes, permutations, seed)
    reached = int((np.abs(sums) >= abs(values.sum()) - 1e-9).sum())
    return reached / len(sums) if exact else (1 + reached) / (1 + permutations)


def _random_sums(sizes: NDArray[np.float64], permutations: int, seed: int) -> NDArray[np.float64]:
    """Draw (permutations,) sums under random signs.

    Shares of a few draws take few values. Among images of one value only the number of plus signs
    matters, and that is binomial: memory does not grow with the images, and time hardly.
    """
    rng = np.random.default_rng(seed)
    sums = np.zeros(permutations)
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        sums += size * (2.0 * rng.binomial(count, 0.5, permutations) - count)
    return sums


def paired_test(first: ArrayLike, second: ArrayLike, draws: int) -> float:
    """Return the two-sided p-value that both conditions have the same wrong rate.

    Args:
        first, second: (N,) shares in 0..1.
        draws: draws of each image; at 1 the exact McNemar test, else the sign-flip test.

    Raises:
        InputError: the shares do not match each other, or are not 0 or 1 at one draw.
    """
    if draws < 1:
        raise InputError(f"draws is {draws}; it must be 1 or more.")
    one, two = _paired_shares(first, second)
    return mcnemar(one, two) if draws == 1 else sign_flip_test(one - two)


def compare_pairs(
    first: ArrayLike, second: ArrayLike, confidence: float = CONFIDENCE
) -> Difference:
    """Compare two wrong rates: their mean difference with interval and test.

    The test is the exact one of McNemar where every share is 0 or 1, else the sign-flip test; on
    such shares both have the same null distribution.

    Args:
        first, second: (N,) shares in 0..1.
        confidence: of the interval, in 0..1.

    Raises:
        InputError: the shares do not match each other.
    """
    one, two = _paired_shares(first, second)
    interval = difference_interval(one, two, confidence)
    whole = bool(np.isin([one, two], (0, 1)).all())
    p = mcnemar(one, two) if whole else sign_flip_test(one - two)
    return Difference(float((one - two).mean()), interval.low, interval.high, p)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values by Holm's correction (Holm 1979); they stay in the order given.

    Raises:
        InputError: a value of the list is missing or outside 0..1.
    """
    values = np.asarray(p_values, dtype=float)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise InputError("Holm's correction takes a list of p-values in 0..1.")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def equivalence(
    first: ArrayLike, second: ArrayLike, margin: float = MARGIN, confidence: float = CONFIDENCE
) -> Equivalence:
    """Test, by two one-sided tests (Schuirmann 1987), that two wrong rates differ by less than `margin`.

    Args:
        first, second: (N,) shares in 0..1.
        margin: largest difference that does not matter, in share units, above 0; fixed beforehand.
        confidence: 1 - alpha, above 0.5; the interval of the result has confidence 1 - 2 alpha.

    Returns:
        Verdict "equivalent": that interval, of `difference_interval` but reaching at least
        `unseen_bound` either way, lies inside (-margin, margin). So few images, or images of which
        none or hardly any differ, cannot pass. "different": the interval at `confidence` excludes 0
        and the difference is beyond the margin. Otherwise "not decided".

    Raises:
        InputError: the shares do not match each other, or margin or confidence is out of range.
    """
    if not margin > 0 or not 0.5 < confidence < 1:
        raise InputError(
            f"margin is {margin} and confidence {confidence}; an equivalence test needs a margin "
            "above 0 and a confidence above 0.5 and below 1."
        )
    one, two = _paired_shares(first, second)
    difference = float((one - two).mean())
    inner = difference_interval(one, two, 2 * confidence - 1)
    unseen = unseen_bound(len(one), 2 * confidence - 1)
    low = max(min(inner.low, difference - unseen), -1.0)
    high = min(max(inner.high, difference + unseen), 1.0)
    outer = difference_interval(one, two, confidence)
    verdict: Verdict = "not decided"
    if -margin < low and high < margin:
        verdict = "equivalent"
    elif abs(difference) > margin and not outer.low <= 0 <= outer.high:
        verdict = "different"
    return Equivalence(difference, low, high, verdict)


def image_slopes(shares_by_num: ArrayLike, nums: ArrayLike) -> NDArray[np.float64]:
    """Fit each image's wrong share over log2(num) by least squares: the change at each doubling.

    Args:
        shares_by_num: (N, K) shares in 0..1.
        nums: (K,) numbers of changed pixels, or amplitudes or sides of areas, above 0, two or more
            different ones.

    Returns:
        (N,) slopes.

    Raises:
        InputError: the shapes do not match, or the nums are too few or not above 0.
    """
    shares = np.asarray(shares_by_num, dtype=float)
    slopes_of = _slope_weights(nums)
    if shares.ndim != 2 or shares.shape[1] != len(slopes_of):
        raise InputError(f"Shares of shape {shares.shape} do not fit {len(slopes_of)} nums.")
    return np.asarray(shares @ slopes_of)


def largest_slope(nums: ArrayLike) -> float:
    """Return the largest size that a slope of `image_slopes` can have."""
    return float(np.maximum(_slope_weights(nums), 0).sum())


def _slope_weights(nums: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(nums, dtype=float)
    if values.ndim != 1 or not (values > 0).all() or len(np.unique(values)) < 2:
        raise InputError("A slope over log2(num) needs two or more different nums above 0.")
    centred = np.log2(values) - np.log2(values).mean()
    return np.asarray(centred / (centred**2).sum())


def mean_interval(
    values: ArrayLike, confidence: float = CONFIDENCE, *, limit: float = math.inf
) -> Interval:
    """Return Student's t interval (Student 1908) for the mean of one number an image.

    It takes the mean as nearly normal and covers too seldom where few images differ from the rest;
    for differences of shares use `difference_interval`.

    Args:
        values: (N,) finite numbers, N at least 2.
        confidence: in 0..1.
        limit: the largest size a value can have, such as `largest_slope`.

    Returns:
        The interval, within -limit..limit. Where all values are equal, `unseen_bound` times the
        distance to either limit, for their variance is unknown; infinite without a limit.

    Raises:
        InputError: fewer than two values, some not finite, or beyond the limit.
    """
    numbers, limit = np.asarray(values, dtype=float), as_plain(limit)
    if numbers.ndim != 1 or len(numbers) < 2 or not np.isfinite(numbers).all():
        raise InputError("An interval for a mean needs two or more finite values.")
    if (np.abs(numbers) > limit * (1 + 1e-9)).any():
        raise InputError(f"Some values are larger than their limit, {limit}.")
    mean, tail = float(numbers.mean()), (1 + confidence) / 2
    if np.ptp(numbers) <= 1e-12 * np.abs(numbers).max():
        bound = unseen_bound(len(numbers), confidence)
        return Interval(mean - bound * (limit + mean), mean + bound * (limit - mean))
    half_width = float(stats.t.ppf(tail, len(numbers) - 1) * stats.sem(numbers))
    return Interval(max(mean - half_width, -limit), min(mean + half_width, limit))


def difference_interval(
    first: ArrayLike, second: ArrayLike, confidence: float = CONFIDENCE
) -> Interval:
    """Return the interval for the mean paired difference, first minus second, within -1..1.

    Tango's score interval for paired proportions (Tango 1998); where draws make differences other
    than -1, 0 and 1, Tango's on the effective number of images, as `wrong_rate_interval` does with
    Wilson's; where none differs, `unseen_bound`. A t interval covers far too seldom when few images
    differ. This one still does where many images differ a little, rare ones wholly, and the sample
    holds none of those; `equivalence` allows for them.

    Args:
        first, second: (N,) shares in 0..1.
        confidence: in 0..1.

    Raises:
        InputError: the shares do not match each other.
    """
    one, two = _paired_shares(first, second)
    # Differences of equal shares must be equal, or rounding would pass for several draws.
    differences = np.round(one - two, _DECIMALS)
    if not differences.any():
        bound = unseen_bound(len(differences), confidence)
        return Interval(-bound, bound)
    n = _effective_images(differences, confidence)
    up = n * float(np.maximum(differences, 0).mean())
    down = n * float(np.maximum(-differences, 0).mean())
    z = float(special.ndtri((1 + confidence) / 2))
    return Interval(_tango_low(up, down, n, z), -_tango_low(down, up, n, z))


def interval_over_seeds(
    mean: float, over_images: Interval, means: ArrayLike, confidence: float = CONFIDENCE
) -> Interval:
    """Widen an interval over images to one over images and training seeds.

    Its distances from the mean, and half the width of Student's t interval over the seeds, are added
    as squares (Zou & Donner 2008). Means of seeds vary with what is peculiar to an image under a
    seed too, which the interval over images holds already: the sum is cautious.

    Args:
        mean: of all seeds, which the interval is about.
        over_images: for networks of just these seeds.
        means: (S,) of each seed alone; one seed says nothing of others, and widens nothing.
        confidence: of either interval, in 0..1.
    """
    numbers = np.asarray(means, dtype=float)
    if len(numbers) < 2:
        return over_images
    width = float(stats.t.ppf((1 + confidence) / 2, len(numbers) - 1) * stats.sem(numbers))
    return Interval(
        mean - math.hypot(mean - over_images.low, width),
        mean + math.hypot(over_images.high - mean, width),
    )


def unseen_bound(images: int, confidence: float = CONFIDENCE) -> float:
    """Bound the share of images of a kind of which the sample holds none (Clopper & Pearson 1934).

    The upper end of the two-sided exact interval: 3.7 / images at 95 %.
    """
    return float(1 - ((1 - as_plain(confidence)) / 2) ** (1 / as_plain(images)))


def images_to_exclude(margin: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest images of which `unseen_bound` is below a margin above 0 and below 1."""
    return math.floor(math.log((1 - confidence) / 2) / math.log1p(-margin)) + 1


def _effective_images(differences: NDArray[np.float64], confidence: float) -> float:
    """Count how many images with differences of -1, 0 and 1 the images are worth.

    As `effective_sample_size`; the largest variance is that of these shares of change up and down.
    """
    if np.isin(differences, (-1, 0, 1)).all():
        return float(len(differences))
    largest = float(np.abs(differences).mean()) - float(differences.mean()) ** 2
    return effective_images(differences, largest, confidence)


def _tango_low(up: float, down: float, n: float, z: float) -> float:
    """Return the lower end of Tango's interval for (up - down) / n; counts need not be whole."""

    def excess(delta: float) -> float:
        """Return more than 0 where the score test rejects `delta`: its statistic, undivided."""
        linear = -up - down + (2 * n - up + down) * delta
        root = math.sqrt(max(linear**2 + 8 * n * down * delta * (1 - delta), 0))
        down_share = (root - linear) / (4 * n)
        variance = n * (2 * down_share + delta * (1 - delta))
        return up - down - n * delta - z * math.sqrt(max(variance, 0))

    # At 1 the variance vanishes and a second, spurious root appears: search just below.
    end = min((up - down) / n, 1 - 1e-9)
    if end <= -1 + 1e-9:
        return -1.0
    return float(optimize.brentq(excess, -1, end))


def _paired_shares(
    first: ArrayLike, second: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as (N,) arrays; InputError unless they are shares in 0..1 of the same images."""
    one, two = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.ndim != 1 or one.shape != two.shape or len(one) == 0:
        raise InputError(
            f"A paired comparison needs the same images on both sides; the shapes are {one.shape} "
            f"and {two.shape}."
        )
    if not all(((shares >= 0) & (shares <= 1)).all() for shares in (one, two)):
        raise InputError("A paired comparison takes shares of wrong draws, each in 0..1.")
    return one, two
