"""Tables for a page: text that is shown, and what it is sorted by."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelrobust.errors import InputError
from pixelrobust.escaping import printable

# More rows than anybody reads; the file holds them all.
MOST_ROWS = 1_000
_DIGITS = 4
_NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)
_BEGINS_AS_A_NUMBER = re.compile(r"^(?:over |[<>±] ?)?[-+−]?\d")
# A value, an interval in parentheses, and what follows.
_WITH_INTERVAL = re.compile(r"^(?P<value>[^()]*\S)\s*(?P<rest>\([^()]*\).*)$", re.DOTALL)


@dataclass(frozen=True)
class Column:
    """A column; numbers stand on the right."""

    title: str
    numeric: bool


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Attributes:
        text: what is shown first.
        rest: what is shown smaller behind it, an interval for example.
        key: what it is sorted by: a number where its column is numeric; empty: last.
        exact: the number in full, where the text is rounded.
    """

    text: str
    rest: str = ""
    key: str = ""
    exact: str = ""


@dataclass(frozen=True)
class Grid:
    """A table; `more` rows were left out."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Entry]]
    more: int = 0


def text_grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    """A table of text for reading, sorted by the first number of an entry.

    A column is numeric where half of its entries that are not empty, or more, begin with a number.
    """
    columns = [
        Column(printable(title), _is_numeric([row[index] for row in rows]))
        for index, title in enumerate(header)
    ]
    return Grid(
        columns,
        [
            [_entry(text, column.numeric) for text, column in zip(row, columns, strict=True)]
            for row in rows
        ],
    )


def csv_grid(path: Path) -> Grid:
    """All numbers of a CSV file, rounded for reading and in full.

    Raises:
        InputError: the file cannot be read, or its rows differ in length.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"table {path} cannot be read ({error}); rebuild it.") from error
    if any(len(row) != len(header) for row in rows):
        raise InputError(f"table {path} has rows of several lengths; rebuild it.")
    columns = [
        Column(printable(title), all(_is_float(row[index]) for row in rows if row[index]))
        for index, title in enumerate(header)
    ]
    shown = [
        [
            _exact_entry(text, column.numeric) if column.numeric else _entry(text, False)
            for text, column in zip(row, columns, strict=True)
        ]
        for row in rows[:MOST_ROWS]
    ]
    return Grid(columns, shown, len(rows) - len(shown))


def _is_numeric(texts: Sequence[str]) -> bool:
    filled = [text for text in texts if text]
    numbers = sum(bool(_BEGINS_AS_A_NUMBER.match(text)) for text in filled)
    return 0 < len(filled) <= 2 * numbers


def _entry(text: str, numeric: bool) -> Entry:
    lines = "\n".join(map(printable, text.splitlines()))
    if not numeric:
        return Entry(lines, key=lines)
    found = _NUMBER.search(lines)
    key = found[0].replace(",", "").replace("−", "-") if found else ""
    parts = _WITH_INTERVAL.match(lines)
    return Entry(parts["value"], parts["rest"], key) if parts else Entry(lines, key=key)


def _exact_entry(text: str, numeric: bool) -> Entry:
    if not text:
        return Entry("")
    value = float(text)
    whole = text.lstrip("-").isdigit()
    short = f"{value:,.0f}" if whole else f"{value:.{_DIGITS}g}"
    return Entry(short, key=text if math.isfinite(value) else "", exact=text)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
