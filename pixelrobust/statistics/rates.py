"""Wrong rates: what they are made of image by image, and their intervals over images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from pixelrobust.errors import InputError
from pixelrobust.perturbation.grid import Cell, as_plain

CONFIDENCE = 0.95

# How many imaginary images, each failing always or never, the between-image variance is shrunk
# towards. Twenty images of which one flips now and then say little about that variance; without
# this the intervals of such samples cover less than 90 %. With hundreds of images it vanishes.
_PRIOR_IMAGES = 2
# Stands for no amplitude and no area, which may be 0 and 1.
_UNLIMITED = -1


@dataclass(frozen=True)
class Interval:
    """Two ends of an interval; low <= high."""

    low: float
    high: float


def wilson_interval(rate: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's score interval (Wilson 1927) for a share, within 0..1.

    Args:
        rate: the observed share, in 0..1.
        n: the number of observations, above 0; need not be whole.
        confidence: in 0..1.
    """
    rate, n = as_plain(rate), as_plain(n)
    z = float(special.ndtri((1 + confidence) / 2))
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    low = 0.0 if rate == 0 else max(centre - half_width, 0.0)
    high = 1.0 if rate == 1 else min(centre + half_width, 1.0)
    return Interval(low, high)


def correlation_interval(correlation: float, n: float) -> Interval:
    """Return the 95 % interval for Spearman's rank correlation (Bonett & Wright 2000), within -1..1.

    Args:
        correlation: in -1..1.
        n: the number of pairs; with three or fewer, nothing is excluded.
    """
    correlation, n = as_plain(correlation), as_plain(n)
    if n <= 3:
        return Interval(-1.0, 1.0)
    if abs(correlation) >= 1:
        return Interval(correlation, correlation)
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    half_width = z * math.sqrt((1 + correlation**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(correlation) + end) for end in (-half_width, half_width))
    return Interval(low, high)


def wrong_rate_interval(
    wrong_per_image: ArrayLike, draws: int, confidence: float = CONFIDENCE
) -> Interval:
    """Return the interval for the wrong rate of a population of images, from a sample of them.

    Args:
        wrong_per_image: (N,) how many of an image's draws were wrong, each in 0..draws.
        draws: independent changes of each image, 1 or more.
        confidence: in 0..1.

    Returns:
        Wilson's interval on the effective sample size: draws of one image resemble each other, so
        N * draws outcomes are worth fewer independent ones.
    """
    draws = as_plain(draws)
    shares = np.asarray(wrong_per_image, dtype=float) / draws
    n = effective_sample_size(shares, draws, confidence)
    return wilson_interval(float(shares.mean()), n, confidence)


def effective_sample_size(shares: ArrayLike, draws: int, confidence: float = CONFIDENCE) -> float:
    """Count how many independent outcomes the images are worth (Korn & Graubard 1998).

    One draw an image, or nothing or everything wrong, gives the number of images.

    Args:
        shares: (N,) share of wrong draws of each image, in 0..1.
        draws: independent changes of each image.
        confidence: in 0..1.
    """
    shares, draws = np.asarray(shares, dtype=float), as_plain(draws)
    images, rate = len(shares), float(shares.mean())
    if draws == 1 or rate in (0.0, 1.0):
        return float(images)
    return min(effective_images(shares, rate * (1 - rate), confidence), float(images * draws))


def effective_images(values: NDArray[np.float64], largest: float, confidence: float) -> float:
    """Count how many numbers of the largest variance the images' own are worth, N or more.

    The variance between images is shrunk towards the largest. Where few images make all of it, it is
    known badly: its degrees of freedom follow from the kurtosis (Satterthwaite 1946; O'Neill 2014,
    "Some useful moment results in sampling problems"), and as many fewer numbers are counted as
    Student's quantile is further out than the normal one. At worst all draws of an image agree,
    and then each image counts once.

    Args:
        values: (N,) one number an image, not all equal to 0.
        largest: the variance that numbers of their mean can have at most.
        confidence: of the interval that the count is for, in 0..1.
    """
    images = len(values)
    deviations = values - float(values.mean())
    squares = float((deviations**2).sum())
    freedom = images - 1.0 + _PRIOR_IMAGES
    variance = (squares + _PRIOR_IMAGES * largest) / freedom
    if squares > 0:
        kurtosis = images * float((deviations**4).sum()) / squares**2
        excess = kurtosis - (images - 3) / (images - 1)
        freedom = min(freedom, max(2 * images / excess, 1.0)) if excess > 0 else freedom
    tail = (1 + confidence) / 2
    reduction = float(special.ndtri(tail) / special.stdtrit(freedom, tail)) ** 2
    return max(images * largest / variance * reduction, float(images))


class WrongShares:
    """Shares of draws that were wrong: of each image, for every model and cell.

    Args:
        outcomes: columns of `pixelrobust.outcomes.kinds.OUTCOMES`, of the same images for every model and cell.

    Attributes:
        models: their names, in the order of the outcomes.
        nums, amplitudes, areas: of the changed cells, rising; unlimited amplitudes and areas, None,
            are left out.
        draws: of each image in the changed cells; 1 where there are none.
    """

    def __init__(self, outcomes: pd.DataFrame) -> None:
        changed = outcomes[outcomes["num"] > 0]
        self.models = [str(model) for model in outcomes["model"].unique()]
        self.nums, self.amplitudes, self.areas = (
            sorted(int(value) for value in changed[column].dropna().unique())
            for column in ("num", "amplitude", "area")
        )
        self.draws = int(changed["draw"].max()) + 1 if len(changed) else 1
        keys = outcomes[["model", "num", "image"]].astype({"model": str, "image": str})
        limits = outcomes[["amplitude", "area"]].astype("Int64").fillna(_UNLIMITED)
        rows = pd.concat([keys, limits, outcomes["wrong"]], axis=1)
        shares = rows.groupby(["model", "num", "amplitude", "area", "image"], sort=True)["wrong"]
        self._shares = shares.mean()
        self._images = sorted(set(keys["image"]))

    def has(self, model: str, *cells: Cell) -> bool:
        """Tell whether the outcomes hold this model in all these cells."""
        return all(_key(model, cell) in self._shares.index for cell in cells)

    def of(self, model: str, cell: Cell) -> NDArray[np.float64]:
        """Return (N,) shares in 0..1, images in the order of their keys.

        Raises:
            InputError: the outcomes lack this model in this cell, or some of its images.
        """
        if not self.has(model, cell):
            raise InputError(f"there are no outcomes of {model} in {cell}.")
        shares = self._shares.loc[_key(model, cell)]
        if list(shares.index) != self._images:
            raise InputError(
                f"{model} has outcomes of {len(shares)} of {len(self._images)} images in {cell}; "
                "images are compared in pairs, so every model and cell needs the same."
            )
        return np.asarray(shares.to_numpy(dtype=float))

    def over(self, model: str, cells: Sequence[Cell]) -> NDArray[np.float64]:
        """Return (N, len(cells)) shares, a column a cell; InputError as for `of`."""
        return np.stack([self.of(model, cell) for cell in cells], axis=1)


def _key(model: str, cell: Cell) -> tuple[str, int, int, int]:
    amplitude = _UNLIMITED if cell.amplitude is None else cell.amplitude
    return model, cell.num, amplitude, _UNLIMITED if cell.area is None else cell.area
