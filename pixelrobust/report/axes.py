"""Axes that figures share, and rows as the points of a curve."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from pixelrobust.report.plots import Axis, Series

PLACE = "place"
"""The column that holds where a row stands along x."""

Row = Mapping[str, Any]

_ROOM = 0.05  # of an axis, beyond what is drawn


def numbers(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table with these columns as numbers, without rows in which one of them is none."""
    as_numbers = {column: pd.to_numeric(table[column], errors="coerce") for column in columns}
    return table.assign(**as_numbers).dropna(subset=list(columns))


def num_places(nums: Sequence[int]) -> dict[int, float]:
    """Where numbers of pixels stand: at their logarithms, 0 one doubling below the smallest."""
    smallest = min((num for num in nums if num > 0), default=1)
    return {num: math.log2(num) if num > 0 else math.log2(smallest) - 1 for num in sorted(nums)}


def num_axis(nums: Sequence[int]) -> Axis:
    """Numbers of pixels along the bottom."""
    places = num_places(nums)
    ticks = [(place, f"{num:,}") for num, place in places.items()]
    return Axis("changed pixels (num), log scale", ticks, ends(list(places.values())))


def with_num_places(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the places of its nums."""
    places = num_places([int(num) for num in table["num"].unique()])
    return table.assign(**{PLACE: table["num"].astype(int).map(places)})


def ends(places: Sequence[float]) -> tuple[float, float]:
    """The two ends of an axis that shows all these places, rising."""
    room = _ROOM * max(places[-1] - places[0], 1)
    return places[0] - room, places[-1] + room


def from_zero(title: str, highest: float) -> Axis:
    """An axis from 0 to the largest value."""
    return Axis(title, range=(-_ROOM * highest / 2, (1 + _ROOM) * (highest or 1.0)))


def logarithmic(title: str, least: float, most: float) -> Axis:
    """A logarithmic axis, with ticks at 1, 2 and 5, from above 0 to the largest value."""
    low, high = math.log10(least), math.log10(most)
    room = _ROOM * max(high - low, 1)
    exponents = range(math.floor(low - room), math.ceil(high + room) + 1)
    ticks = [(digit * 10.0**exponent) for exponent in exponents for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if low - room <= math.log10(tick) <= high + room]
    return Axis(title, [(tick, f"{tick:g}") for tick in shown], (low - room, high + room), log=True)


def series_of(
    name: str,
    rows: pd.DataFrame,
    keys: tuple[str, str, str],
    scale: float,
    hover: Callable[[Row], list[str]],
) -> Series:
    """A curve through rows.

    Args:
        name: of the curve.
        rows: with the column PLACE.
        keys: columns of the value, and of its interval's ends.
        scale: what they are multiplied by.
        hover: what a reader is told of a row.
    """
    rows = rows.sort_values(PLACE)
    y, low, high = ([scale * float(value) for value in rows[key]] for key in keys)
    x = [float(value) for value in rows[PLACE]]
    return Series(name, x, y, low, high, [hover(row) for row in _records(rows)])


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
