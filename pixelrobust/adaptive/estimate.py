"""From what was allotted and seen to wrong rates and their intervals."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.outcomes import CELL_COLUMNS, cell_of
from pixelrobust.pixel_index import AmplitudeShare, pixel_index
from pixelrobust.statistics import Interval, wilson_interval
from pixelrobust.tables import SUMMARY_COLUMNS, ordered_summary

ADAPTIVE_SUMMARY_COLUMNS = [*SUMMARY_COLUMNS, "standard_error", "passes", "share_of_census"]


def summarize_adaptive(
    rows: pd.DataFrame,
    census_draws: int,
    image_size: tuple[int, int] = (224, 224),
    amplitude_share: AmplitudeShare = "range",
) -> pd.DataFrame:
    """One row for each model and cell.

    Args:
        rows: from `evaluate_adaptively`.
        census_draws: what was asked for.
        image_size, amplitude_share: as in `pixelrobust.summarize`.

    Returns:
        Its columns, where draws is the census that the precision was to be that of, wrong counts all
        that were seen, and the interval is for exactly these images, over draws; and
        standard_error, passes (the pilot's too) and share_of_census, passes over those of the census.
    """
    groups = rows.groupby(["model", *CELL_COLUMNS], observed=True, dropna=False, sort=False)
    summaries = [
        _summary_row(group, census_draws, image_size, amplitude_share) for _, group in groups
    ]
    return ordered_summary(pd.DataFrame(summaries, columns=ADAPTIVE_SUMMARY_COLUMNS))


def _summary_row(
    rows: pd.DataFrame,
    census_draws: int,
    image_size: tuple[int, int],
    amplitude_share: AmplitudeShare,
) -> dict[str, object]:
    cell = cell_of(rows)
    images = rows["image"].nunique()
    passes = int(rows["draws"].sum())
    if cell.num == 0:
        rate, variance, draws = float(rows["wrong"].sum() / images), 0.0, 1
    else:
        rate, variance = estimate(rows)
        draws = census_draws
    interval = rate_interval(rate, variance, images)
    reported = min(max(rate, 0.0), 1.0)
    return {
        "model": str(rows["model"].iloc[0]),
        "num": cell.num,
        "amplitude": cell.amplitude,
        "area": cell.area,
        "images": images,
        "draws": draws,
        "wrong": int(rows["wrong"].sum()),
        "wrong_rate": reported,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "pixel_index": pixel_index(
            reported, cell.num, cell.amplitude, cell.area, image_size, amplitude_share
        ),
        "standard_error": float(np.sqrt(variance)),
        "passes": passes,
        "share_of_census": passes / (images * draws),
    }


def estimate(rows: pd.DataFrame) -> tuple[float, float]:
    """The wrong rate of a cell, and the estimated variance of that estimate.

    An image with whole draws gives their mean. One with the chance e of a draw gives the guess g, and
    with the draw g + (outcome - g) / e (the difference estimator; Särndal, Swensson & Wretman 1992).
    Rounds are uncorrelated, since each is unbiased given all before.

    Args:
        rows: of one model in one cell; each image in each round.
    """
    rows = rows[rows["round"] > 0]
    values, variances = _of_images(
        *(rows[column].to_numpy(np.float64) for column in ("expected", "draws", "wrong", "guessed"))
    )
    images = rows["image"].nunique()
    weights = rows["weight"].to_numpy() / images
    return float((weights * values).sum()), float((weights**2 * variances).sum())


def _of_images(
    expected: NDArray[np.float64],
    draws: NDArray[np.float64],
    wrong: NDArray[np.float64],
    guessed: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unbiased estimates of each image's wrong rate, and of their variances."""
    by_chance = expected < 1
    divisor = np.where(by_chance, expected, np.maximum(draws, 1))
    residual = np.where(draws > 0, (wrong - draws * guessed) / divisor, 0.0)
    mean = wrong / np.maximum(draws, 1)
    several = mean * (1 - mean) / np.maximum(draws - 1, 1)
    # A single outcome shows no variance; its distance from the guess is more than that, on average.
    variances = np.where(draws > 1, several, residual**2)
    return guessed + residual, variances


def rate_interval(rate: float, variance: float, images: int) -> Interval:
    """Wilson's interval on the number of outcomes that would be as precise.

    Where nothing or everything was wrong no variance is seen; then it is on the images.
    """
    share = min(max(rate, 0.0), 1.0)
    precise = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else images
    return wilson_interval(share, max(precise, 1.0))
