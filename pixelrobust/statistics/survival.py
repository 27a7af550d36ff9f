"""Pixels to flip: how many changed pixels it takes until a model is wrong about an image.

The pixels changed at one num are among those changed at every larger num, so in one draw each image
has a smallest num at which it is wrong, or stays right up to the largest one (censored). Only the
nums of the grid are tried: "64" means after the num before 64 and no later than 64.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pixelrobust.errors import InputError
from pixelrobust.perturbation.grid import as_plain
from pixelrobust.statistics.rates import CONFIDENCE, wilson_interval


@dataclass(frozen=True)
class SurvivalCurve:
    """Share of images that a model is still right about after `nums` changed pixels.

    Attributes:
        nums: (K,) the nums at which images flipped or were censored, rising.
        survival: (K,) share of images not flipped up to and including that num, falling, in 0..1.
        low, high: (K,) pointwise interval of each share.
        median: smallest num at which no more than half the images are left; None: not reached.
        median_low, median_high: its interval (Brookmeyer & Crowley 1982), where the band's two
            edges come down to one half; None: not reached.
    """

    nums: NDArray[np.float64]
    survival: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    median: float | None
    median_low: float | None
    median_high: float | None


def pixels_to_flip(outcomes: pd.DataFrame, draw: int = 0) -> pd.DataFrame:
    """Find, for each model and image, the smallest num at which one draw is wrong.

    An image that is wrong at 4 and right again at 8 flips at 4. What is wrong unchanged, at num 0,
    cannot flip: a model's images of that kind are left out.

    Args:
        outcomes: columns of `pixelrobust.outcomes.kinds.OUTCOMES`, of one amplitude and area.
        draw: which draw.

    Returns:
        Columns model, image, num (the smallest num above 0 that is wrong, else the largest num of
        that model and image), flipped (bool); no rows where nothing is right unchanged.

    Raises:
        InputError: several amplitudes or areas, or nothing of that draw above num 0.
    """
    rows = outcomes[(outcomes["num"] > 0) & (outcomes["draw"] == as_plain(draw))]
    if rows.empty:
        raise InputError(f"The outcomes hold nothing of draw {draw} with num above 0.")
    ranges = rows[["amplitude", "area"]].drop_duplicates()
    if len(ranges) > 1:
        raise InputError(
            f"Pixels to flip need outcomes of one amplitude and area; these hold {len(ranges)} "
            "combinations. Filter them first."
        )
    groups = ["model", "image"]
    control = outcomes[(outcomes["num"] == 0) & outcomes["wrong"]]
    wrong_unchanged = pd.MultiIndex.from_frame(control[groups].astype(str))
    rows = rows[~pd.MultiIndex.from_frame(rows[groups].astype(str)).isin(wrong_unchanged)]
    largest = rows.groupby(groups, observed=True, sort=False)["num"].max()
    wrong = rows[rows["wrong"]].groupby(groups, observed=True, sort=False)["num"].min()
    smallest = wrong.reindex(largest.index)
    table = pd.DataFrame(
        {"num": smallest.fillna(largest).astype(np.int64), "flipped": smallest.notna()}
    )
    return table.reset_index()


def survival_curve(
    num: ArrayLike, flipped: ArrayLike, confidence: float = CONFIDENCE
) -> SurvivalCurve:
    """Estimate survival (Kaplan & Meier 1958), with log-log intervals (Kalbfleisch & Prentice).

    Args:
        num: (N,) smallest num at which each image flips, or the largest tried; above 0.
        flipped: (N,) bool, False where the image was still right at `num`.
        confidence: in 0..1.

    Raises:
        InputError: no images, the shapes differ, or a num is not a number above 0.
    """
    data = _censored(num, flipped)
    curve = stats.ecdf(data).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # At survival 0 and 1 the log-log interval divides by zero; `_filled` mends it.
        warnings.simplefilter("ignore", RuntimeWarning)
        # The stubs type the two ends as numbers; they are step functions.
        band: Any = curve.confidence_interval(confidence_level=confidence, method="log-log")
    nums, survival = np.asarray(curve.quantiles, float), np.asarray(curve.probabilities, float)
    low, high = _filled(
        survival, band.low.probabilities, band.high.probabilities, len(data), confidence
    )
    return SurvivalCurve(
        nums, survival, low, high, _reach(nums, survival), _reach(nums, low), _reach(nums, high)
    )


def logrank(first: pd.DataFrame, second: pd.DataFrame) -> float:
    """Return the two-sided p-value of the log-rank test (Mantel 1966) that two groups flip alike.

    The test takes the groups as independent. Two models share their images and the pixels changed,
    so their flips go together and the p-value is approximate: with that positive dependence it is
    usually too large, that is cautious. `paired_test` at one num is the paired test.

    Args:
        first, second: rows of `pixels_to_flip`, of one model each; columns num and flipped.

    Returns:
        The p-value; 1 where no image flips, or where flips leave nothing to compare.

    Raises:
        InputError: a group is empty or a num is not a number above 0.
    """
    one, two = (_censored(group["num"], group["flipped"]) for group in (first, second))
    if not any(group["flipped"].any() for group in (first, second)):
        return 1.0
    with np.errstate(all="ignore"):
        p_value = float(stats.logrank(one, two).pvalue)
    # No variance: whenever images flipped, all that were left did so at once, in both groups.
    return 1.0 if np.isnan(p_value) else p_value


def _censored(num: ArrayLike, flipped: ArrayLike) -> stats.CensoredData:
    nums, events = np.asarray(num, dtype=float), np.asarray(flipped, dtype=bool)
    if nums.ndim != 1 or nums.shape != events.shape or len(nums) == 0:
        raise InputError(
            f"A survival curve needs one num and one flag for each image; the shapes are "
            f"{nums.shape} and {events.shape}."
        )
    if not (np.isfinite(nums) & (nums > 0)).all():
        raise InputError("Pixels to flip must be finite numbers above 0.")
    return stats.CensoredData(uncensored=nums[events], right=nums[~events])


def _filled(
    survival: NDArray[np.float64], low: ArrayLike, high: ArrayLike, images: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the band Wilson's bounds where all images or none are left.

    At the ends the log-log interval is undefined (or of no width), though few images say little.
    """
    lows, highs = np.array(low, dtype=float), np.array(high, dtype=float)
    for share in (0.0, 1.0):
        wilson = wilson_interval(share, images, confidence)
        lows[survival == share], highs[survival == share] = wilson.low, wilson.high
    return lows, highs


def _reach(nums: NDArray[np.float64], shares: NDArray[np.float64]) -> float | None:
    """Return the first num at which the shares have come down to one half."""
    # Products of shares carry rounding errors, and one half is a common share of few images.
    below = np.flatnonzero(shares <= 0.5 + 1e-12)
    return float(nums[below[0]]) if len(below) else None
