"""Intervals for the difference of two wrong rates over the same images."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from pixelrobust.errors import InputError
from pixelrobust.statistics import CONFIDENCE, Interval

# Shares of equal counts differ by rounding errors; beyond these decimals nothing is meant.
_DECIMALS = 9

# As in `statistics.effective_sample_size`: imaginary images that differ wholly or not at all.
_PRIOR_IMAGES = 2


def difference_interval(
    first: ArrayLike, second: ArrayLike, confidence: float = CONFIDENCE
) -> Interval:
    """Interval for the mean paired difference, first minus second, within -1..1.

    Tango's score interval for paired proportions (Tango 1998); where draws make differences other
    than -1, 0 and 1, Tango's on the effective number of images, as `wrong_rate_interval` does with
    Wilson's; where none differs, `unseen_bound`. A t interval covers far too seldom when few images
    differ. This one still does where many images differ a little, rare ones wholly, and the sample
    holds none of those; `comparisons.equivalence` allows for them.

    Args:
        first, second: (N,) shares in 0..1.
        confidence: in 0..1.

    Raises:
        InputError: the shares do not match each other.
    """
    one, two = paired_shares(first, second)
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


def unseen_bound(images: int, confidence: float = CONFIDENCE) -> float:
    """Largest share of images of a kind of which the sample holds none (Clopper & Pearson 1934).

    The upper end of the two-sided exact interval: 3.7 / images at 95 %.
    """
    return float(1 - ((1 - confidence) / 2) ** (1 / images))


def _effective_images(differences: NDArray[np.float64], confidence: float) -> float:
    """How many images with differences of -1, 0 and 1 the images are worth (Korn & Graubard 1998).

    The variance between images is shrunk towards its largest possible value for these shares of
    change up and down, and the number reduced for the estimate's few degrees of freedom.
    """
    images, mean = len(differences), float(differences.mean())
    if np.isin(differences, (-1, 0, 1)).all():
        return float(images)
    largest = float(np.abs(differences).mean()) - mean**2
    squares = float(((differences - mean) ** 2).sum())
    freedom = images - 1 + _PRIOR_IMAGES
    variance = (squares + _PRIOR_IMAGES * largest) / freedom
    tail = (1 + confidence) / 2
    reduction = float(special.ndtri(tail) / special.stdtrit(freedom, tail)) ** 2
    return images * largest / variance * reduction


def _tango_low(up: float, down: float, n: float, z: float) -> float:
    """Lower end of Tango's interval for (up - down) / n; the counts need not be whole."""

    def excess(delta: float) -> float:
        """Above 0 where the score test rejects `delta`; the usual statistic without division."""
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


def paired_shares(
    first: ArrayLike, second: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two (N,) arrays of shares, checked.

    Raises:
        InputError: they are empty, differ in shape, or hold values outside 0..1.
    """
    one, two = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.ndim != 1 or one.shape != two.shape or len(one) == 0:
        raise InputError(
            f"A paired comparison needs the same images on both sides; the shapes are {one.shape} "
            f"and {two.shape}."
        )
    if not all(((shares >= 0) & (shares <= 1)).all() for shares in (one, two)):
        raise InputError("A paired comparison takes shares of wrong draws, each in 0..1.")
    return one, two
