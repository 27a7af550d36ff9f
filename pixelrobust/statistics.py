"""Intervals for wrong rates."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95

# How many imaginary images, each failing always or never, the between-image variance is shrunk
# towards. Twenty images of which one flips now and then say little about that variance; without
# this the intervals of such samples cover less than 90 %. With hundreds of images it vanishes.
_PRIOR_IMAGES = 2


@dataclass(frozen=True)
class Interval:
    """A two-sided interval for a share; 0 <= low <= high <= 1."""

    low: float
    high: float


def wilson_interval(rate: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval (Wilson 1927) for a share.

    Args:
        rate: the observed share, in 0..1.
        n: the number of observations, above 0; need not be whole.
        confidence: in 0..1.
    """
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    low = 0.0 if rate == 0 else max(centre - half_width, 0.0)
    high = 1.0 if rate == 1 else min(centre + half_width, 1.0)
    return Interval(low, high)


def wrong_rate_interval(
    wrong_per_image: ArrayLike, draws: int, confidence: float = CONFIDENCE
) -> Interval:
    """Interval for the wrong rate of a population of images, from a sample of them.

    Args:
        wrong_per_image: (N,) how many of an image's draws were wrong, each in 0..draws.
        draws: independent changes of each image, 1 or more.
        confidence: in 0..1.

    Returns:
        Wilson's interval on the effective sample size: draws of one image resemble each other, so
        N * draws outcomes are worth fewer independent ones.
    """
    shares = np.asarray(wrong_per_image, dtype=float) / draws
    n = effective_sample_size(shares, draws, confidence)
    return wilson_interval(float(shares.mean()), n, confidence)


def effective_sample_size(shares: ArrayLike, draws: int, confidence: float = CONFIDENCE) -> float:
    """How many independent outcomes the images are worth (Korn & Graubard 1998).

    The variance of the mean is estimated between images, shrunk towards its largest possible
    value, and the sample size reduced for the estimate's few degrees of freedom. One draw an image,
    or nothing or everything wrong, gives the number of images.

    Args:
        shares: (N,) share of wrong draws of each image, in 0..1.
        draws: independent changes of each image.
    """
    shares = np.asarray(shares, dtype=float)
    images, rate = len(shares), float(shares.mean())
    if draws == 1 or rate in (0.0, 1.0):
        return float(images)
    binary_variance = rate * (1 - rate)
    squares = float(((shares - rate) ** 2).sum())
    freedom = images - 1 + _PRIOR_IMAGES
    variance = (squares + _PRIOR_IMAGES * binary_variance) / freedom
    tail = (1 + confidence) / 2
    reduction = float(stats.norm.ppf(tail) / stats.t.ppf(tail, freedom)) ** 2
    return min(binary_variance / (variance / images) * reduction, float(images * draws))
