"""How many draws each image gets in a round."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROUND_WEIGHTS = (0.1, 0.15, 0.25, 0.25, 0.25)
"""Of the rounds' estimates in the average. Later rounds know better whom to ask."""

# From here on one draw for sure costs less precision than a chance of one.
_RATHER_ONE = 0.7
_LEAST_CHANCE = 0.02


class Allotment(NamedTuple):
    """Draws of N images in one round.

    Attributes:
        expected: (N,) float64, how many draws each image was to get on average; below 1 it is the
            probability of the single one.
        draws: (N,) int64, how many it gets.
    """

    expected: NDArray[np.float64]
    draws: NDArray[np.int64]


def allot(
    spread: NDArray[np.float64], weight: float, census_draws: int, rng: np.random.Generator
) -> Allotment:
    """Draws in proportion to spread (Neyman 1934), so that the average over rounds is as precise as asked.

    A round whose weight is w may have 1 / w times the variance of the whole, for
    sum over rounds of w^2 / w = 1.

    Args:
        spread: (N,) standard deviations of an outcome of each image, as guessed; above 0.
        weight: of the round.
        census_draws: the precision wanted is that of so many draws of every image.
        rng: decides who gets one where less than one is due.
    """
    due = census_draws * weight * spread * spread.sum() / (spread**2).sum()
    whole = due >= _RATHER_ONE
    expected = np.where(whole, np.maximum(np.round(due), 1), np.maximum(due, _LEAST_CHANCE))
    by_chance = rng.random(len(due)) < expected
    return Allotment(expected, np.where(whole, expected, by_chance).astype(np.int64))
