"""Tables and paragraphs as a terminal shows them: no word and no number is broken at its edge."""

import html
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pixelrobust.errors import printable

_WIDTH = 80
_GAP = 2
# A number stands with its sign of per cent, and both ends of an interval on one line.
_UNIT = re.compile(r"(?<=\d) (?=%|to [-+]?\d)|(?<=\d to) (?=[-+]?\d)")
_KEPT_SPACE = "\N{NO-BREAK SPACE}"
_NUMBER = re.compile(r"[-+]?\d\S*")
# An interval, and what stands behind a semicolon, can have lines of their own.
_PARTS = re.compile(r"; | (?=\()")

# In Markdown.
_BAR = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\(.)")


def console(*, quiet: bool = False) -> Console:
    """Return what prints to a terminal; elsewhere lines are as long as COLUMNS says, or 80 characters."""
    is_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if is_known else _WIDTH, quiet=quiet, highlight=False)


def say(out: Console, text: object, style: str = "", indent: str = "") -> None:
    """Print a paragraph, broken between words only: a path that is longer than a line stays whole."""
    for line in _wrapped(printable(text), out.width, indent, indent):
        _line(out, line, style)


def say_table(out: Console, table: pd.DataFrame, lines: Mapping[int, str]) -> None:
    """Print a table of text, and what stands on a line above the row at a position."""
    for line, style in laid_out(table, out.width, lines):
        _line(out, line, style)


def say_page(out: Console, markdown: str) -> None:
    """Print the headings, tables and paragraphs of a page that this software has written."""
    for block in filter(None, markdown.strip().split("\n\n")):
        if block.startswith("|"):
            say_table(out, *_table_in(block))
        else:
            say(out, _plain(block.lstrip("#")), "bold" if block.startswith("#") else "")
        out.print()


def _table_in(block: str) -> tuple[pd.DataFrame, dict[int, str]]:
    """Return a table in Markdown, and the lines across it: rows with nothing but a first cell."""
    header, _, *rows = (
        [_plain(cell) for cell in _BAR.split(line.strip()[1:-1])] for line in block.splitlines()
    )
    lines: dict[int, str] = {}
    cells: list[list[str]] = []
    for first, *others in rows:
        if others and not any(others):
            lines[len(cells)] = first
        else:
            cells.append([first, *others])
    return pd.DataFrame(cells, columns=header), lines


def _plain(markdown: str) -> str:
    """Return the text that our Markdown stands for."""
    return html.unescape(_ESCAPED.sub(r"\1", markdown.strip().replace("<br>", "\n")))


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def laid_out(
    table: pd.DataFrame, width: int, lines: Mapping[int, str] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the lines of a table of text, and the style of each.

    Columns stand side by side where they fit. Else long headers are staggered, what rows have in common
    becomes a heading above them, and intervals get lines of their own; where that is not enough, the
    columns are divided among several tables, or each row becomes a list.
    """
    cells = table.map(lambda cell: str(cell).strip()).astype(object)
    cells.columns = [printable(name) for name in table.columns]
    n_keys = _count_keys(cells)
    layout = _best_layout(cells, n_keys, width)
    if layout is None:
        yield from _as_lists(cells, n_keys, width, lines or {})
        return
    for number, block in enumerate(layout.blocks):
        if number:
            yield "", ""
        yield from _as_table(block, layout, width, lines or {})


class _Column(NamedTuple):
    """Hold the header of a column, and the lines of each of its cells."""

    header: str
    cells: list[list[str]]

    @property
    def width(self) -> int:
        """Return the width of the widest cell."""
        return max((cell_len(line) for cell in self.cells for line in cell), default=0)


class _Layout(NamedTuple):
    """Say how columns are shown.

    Attributes:
        blocks: the columns of each of several tables below each other.
        headings: for each row what stands above it, where that differs from the row before.
        is_staggered: whether each header has a line of its own, so that it may be wider than its column.
    """

    blocks: list[list[_Column]]
    headings: list[str]
    is_staggered: bool


def _count_keys(cells: pd.DataFrame) -> int:
    """Return how many columns on the left tell the rows apart."""
    for count in range(1, len(cells.columns)):
        if not cells.iloc[:, :count].duplicated().any():
            return count
    return 1


def _best_layout(cells: pd.DataFrame, n_keys: int, width: int) -> _Layout | None:
    """Return the layout of fewest tables; None where lists read better than several tables."""
    found: list[_Layout] = []
    for has_parts in (False, True):
        values = [_column(cells, at, has_parts) for at in range(n_keys, len(cells.columns))]
        for is_hoisted in (False, True):
            keys, headings = _keys_of(cells, n_keys, is_hoisted)
            for is_staggered in (False, True):
                blocks = _divided(keys, values, width, is_staggered)
                if blocks:
                    found.append(_Layout(blocks, headings, is_staggered))
    best = min(found, key=lambda layout: len(layout.blocks), default=None)
    is_prose = max((column.width for column in values), default=0) > width // 2
    return None if best and len(best.blocks) > 1 and is_prose else best


def _column(cells: pd.DataFrame, at: int, has_parts: bool) -> _Column:
    """Return a column whose numbers end below each other."""
    texts = [str(cell) for cell in cells.iloc[:, at]]
    numbers = [found[0] if (found := _NUMBER.match(text)) else "" for text in texts]
    widest = max(map(len, numbers), default=0)
    padded = [
        " " * (widest - len(number)) + text if number else text
        for number, text in zip(numbers, texts, strict=True)
    ]
    split: Callable[[str], list[str]] = _PARTS.split if has_parts else lambda text: [text]
    return _Column(
        str(cells.columns[at]),
        [list(map(printable, split(text.replace("\n", "; ")))) for text in padded],
    )


def _keys_of(cells: pd.DataFrame, n_keys: int, is_hoisted: bool) -> tuple[list[_Column], list[str]]:
    """Return the columns that tell rows apart, and headings of what many rows have in common."""
    keys = [_column(cells, at, False) for at in range(n_keys)]
    none = [""] * len(cells)
    if not is_hoisted or n_keys < 2:
        return keys, none
    changes = [sum(one != other for one, other in pairwise(key.cells)) for key in keys]
    varying = changes.index(max(changes))
    # A heading for every other row would be no help.
    hoisted = [at for at in range(n_keys) if at != varying and changes[at] <= len(cells) // 3]
    headings = [
        "; ".join(
            f"{keys[at].header}: {keys[at].cells[row][0].strip()}"
            for at in hoisted
            if keys[at].cells[row][0]
        )
        for row in range(len(cells))
    ]
    return [key for at, key in enumerate(keys) if at not in hoisted], headings


def _divided(
    keys: list[_Column], values: list[_Column], width: int, is_staggered: bool
) -> list[list[_Column]] | None:
    """Divide columns among as few tables as fit; None where one alone is too wide."""
    blocks: list[list[_Column]] = []
    for value in values:
        if blocks and _fits([*blocks[-1], value], width, is_staggered):
            blocks[-1].append(value)
        elif _fits([*keys, value], width, is_staggered):
            blocks.append([*keys, value])
        else:
            return None
    if not values:
        return [keys] if _fits(keys, width, is_staggered) else None
    # As many in each.
    size = -(-len(values) // len(blocks))
    even = [[*keys, *values[at : at + size]] for at in range(0, len(values), size)]
    return even if all(_fits(block, width, is_staggered) for block in even) else blocks


def _widths(columns: Sequence[_Column], is_staggered: bool) -> list[int]:
    """Return how wide columns are shown."""
    return [
        max(column.width, 0 if is_staggered and at else _longest_word(column.header))
        for at, column in enumerate(columns)
    ]


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _fits(columns: Sequence[_Column], width: int, is_staggered: bool) -> bool:
    widths = _widths(columns, is_staggered)
    starts = _starts(widths)
    return starts[-1] + widths[-1] <= width and all(
        start + _longest_word(column.header) <= width
        for start, column in zip(starts, columns, strict=True)
    )


def _starts(widths: Sequence[int]) -> list[int]:
    return [sum(widths[:at]) + _GAP * at for at in range(len(widths))]


def _as_table(
    columns: list[_Column], layout: _Layout, width: int, lines: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    widths = _widths(columns, layout.is_staggered)
    total = sum(widths) + _GAP * (len(widths) - 1)
    header = _staggered if layout.is_staggered else _side_by_side
    for line in header(columns, widths, width):
        yield line, "bold"
    yield "─" * total, ""
    above = ""
    for row, heading in enumerate(layout.headings):
        if row in lines:
            yield _across(lines[row], total), ""
        if heading and heading != above:
            if above:
                yield "", ""
            for line in _wrapped(heading, width):
                yield line, "bold"
        above = heading
        for line in _row([column.cells[row] for column in columns], widths):
            yield line, ""


def _row(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """Yield the lines of cells of several lines, side by side."""
    for number in range(max(map(len, cells))):
        parts = [cell[number] if number < len(cell) else "" for cell in cells]
        yield (" " * _GAP).join(map(_padded, parts, widths)).rstrip()


def _side_by_side(columns: Sequence[_Column], widths: Sequence[int], width: int) -> Iterator[str]:
    """Yield headers above their columns, the last lines of all on one line."""
    headers = [
        _wrapped(column.header, own) if column.header else [""]
        for column, own in zip(columns, widths, strict=True)
    ]
    height = max(map(len, headers))
    yield from _row([[""] * (height - len(lines)) + lines for lines in headers], widths)


def _staggered(columns: Sequence[_Column], widths: Sequence[int], width: int) -> Iterator[str]:
    """Yield headers each on lines of its own, with strokes down to their columns."""
    first, *others = columns
    starts = _starts(widths)[1:]
    *before, last = [
        "".join("│" if place in starts[:at] else " " for place in range(starts[at])) + line
        for at, column in enumerate(others)
        for line in _wrapped(column.header, width - starts[at]) or [""]
    ]
    yield from before
    # The first column's header stands in the blanks before the last one's.
    yield _padded(first.header, widths[0]) + last[widths[0] :]


def _as_lists(
    cells: pd.DataFrame, n_keys: int, width: int, lines: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    """Yield each row as a list of what its columns hold."""
    names = [str(name) for name in cells.columns[n_keys:]]
    indent = max(map(cell_len, names), default=0) + _GAP
    for number, row in enumerate(cells.to_numpy().tolist()):
        if number:
            yield "", ""
        if number in lines:
            yield _across(lines[number], width), ""
        for line in _wrapped(", ".join(map(printable, row[:n_keys])), width):
            yield line, "bold"
        for name, value in zip(names, row[n_keys:], strict=True):
            label = _padded(name, indent)
            for text in map(printable, value.split("\n") if value else ()):
                for line in _wrapped(text, width, f"  {label}", " " * (indent + 2)):
                    yield line, ""
                label = " " * indent


def _wrapped(text: str, width: int, indent: str = "", hanging: str = "") -> list[str]:
    """Break a text between words, but not between a number and its sign of per cent."""
    kept = _UNIT.sub(_KEPT_SPACE, text)
    return [
        line.replace(_KEPT_SPACE, " ")
        for line in textwrap.wrap(
            kept, max(width, 1), initial_indent=indent, subsequent_indent=hanging,
            break_long_words=False, break_on_hyphens=False,
        )
    ]  # fmt: skip


def _across(words: str, width: int) -> str:
    """Return words on a stroke across a table."""
    return f"── {printable(words)} ".ljust(width, "─")


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _line(out: Console, line: str, style: str) -> None:
    out.print(Text(line, style), soft_wrap=True)
