"""A results page in one HTML file: what it is made of, and how it is written.

Its pieces are plain data that the templates lay out; `kind` names the template of a block. All texts
are shown as they are, and none is taken for markup.
"""

import base64
import csv
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import ClassVar

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from pixelrobust.errors import InputError, printable

# More rows than anybody reads; the file holds them all.
MOST_ROWS = 1_000
_DIGITS = 4
_NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)
# Digests, which may begin with digits, are none.
_BEGINS_AS_A_NUMBER = re.compile(
    r"^(?:over |[<>±] ?)?[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)", re.IGNORECASE
)
# A value, an interval in parentheses, and what follows.
_WITH_INTERVAL = re.compile(r"^(?P<value>[^()]*\S)\s*(?P<rest>\([^()]*\).*)$", re.DOTALL)
_PACKAGE = "pixelrobust.report"


@dataclass(frozen=True)
class Text:
    """A paragraph; one that must not be overlooked is marked."""

    kind: ClassVar[str] = "text"
    text: str
    marked: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a part."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Attributes:
        text: what is shown first.
        rest: what is shown smaller behind it, an interval for example.
        key: what it is sorted by: the number in full where its column is numeric; empty: last.
    """

    text: str
    rest: str = ""
    key: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted.

    Attributes:
        label: its name for those who cannot see it.
        columns: title of each, and whether it holds numbers, which stand on the right.
        rows: of it.
        more: how many rows were left out.
    """

    kind: ClassVar[str] = "table"
    label: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Entry]]
    more: int = 0


@dataclass(frozen=True)
class Drawing:
    """A figure: SVG from `inline_svg`, its title, and what must be known to read it."""

    kind: ClassVar[str] = "drawing"
    svg: str
    title: str
    caption: str = ""


@dataclass(frozen=True)
class Line:
    """Small print, and a place on the page that it leads to; no anchor: it leads nowhere."""

    kind: ClassVar[str] = "line"
    text: str
    anchor: str = ""
    link: str = ""


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Disclosure:
    """Blocks that are shown on demand."""

    kind: ClassVar[str] = "disclosure"
    summary: str
    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Judged:
    """A claim, and what was found.

    Attributes:
        sentence: the claim.
        source: who made it, where.
        badges: what was found, and of whom (empty: of all).
        blocks: the details.
    """

    sentence: str
    source: str
    badges: Sequence[tuple[str, str]]
    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Verdicts:
    """Claims that open to their details; `counts` holds how many have each badge."""

    kind: ClassVar[str] = "verdicts"
    claims: Sequence[Judged]
    counts: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Card:
    """One image at all positions of a slider.

    Attributes:
        title: what it shows.
        layers: data URIs of pictures; each position shows its own upon all before it.
        predictions: at each position, of each network its name, its prediction, and whether that is
            right.
    """

    title: str
    layers: Sequence[str]
    predictions: Sequence[Sequence[tuple[str, str, bool]]]


@dataclass(frozen=True)
class Gallery:
    """Images under one slider.

    Attributes:
        label: what the slider sets.
        stops: its positions, in words.
        cards: each with a layer for every stop.
        size: (width, height) of the pictures, in pixels.
    """

    kind: ClassVar[str] = "gallery"
    label: str
    stops: Sequence[str]
    cards: Sequence[Card]
    size: tuple[int, int]


Block = Text | Heading | Table | Drawing | Line | Facts | Disclosure | Verdicts | Gallery


@dataclass(frozen=True)
class Part:
    """A part of a section."""

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """A section of the page: blocks, then parts."""

    anchor: str
    title: str
    blocks: Sequence[Block] = ()
    parts: Sequence[Part] = ()


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        name: of what it reports.
        title: the heading.
        lead: the first sentences.
        caveat: what must be known before anything is concluded; may be empty.
        sections: in their order.
        footer: the last line.
    """

    name: str
    title: str
    lead: Sequence[str]
    caveat: str
    sections: Sequence[Section]
    footer: str


def render(page: Page) -> str:
    """Return the page as HTML; equal pages are equal texts.

    Style, script, figures and pictures are inside. A content security policy lets the one script that
    is written here run, and nothing be loaded from anywhere.
    """
    environment = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["printable"] = printable
    style, script = (
        (resources.files(_PACKAGE) / "static" / f"report.{kind}").read_text(encoding="utf-8")
        for kind in ("css", "js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment.get_template("page.html")
    return template.render(page=page, style=style, script=script, hash=f"'sha256-{digest}'")


def anchor_of(kind: str, name: str) -> str:
    """Return a place on the page for a name, a place of its own, whatever the name holds."""
    letters = (c if c.isalnum() or c == "-" else f"_{ord(c):x}_" for c in name)
    return f"{kind}-{''.join(letters)}"


def table_for_reading(table: pd.DataFrame, label: str) -> Table:
    """Return a table of text, sorted by the first number of an entry.

    A column is numeric where half of its entries that are not empty, or more, begin with a number.
    """
    columns = [
        (printable(title), _is_numeric(list(table.iloc[:, index])))
        for index, title in enumerate(table.columns)
    ]
    rows = [
        [_entry(text, numeric) for text, (_, numeric) in zip(row, columns, strict=True)]
        for row in table.itertuples(index=False)
    ]
    return Table(label, columns, rows)


def table_of_csv(path: Path) -> Table:
    """Return all numbers of a CSV file, rounded for reading and in full.

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
        (printable(title), all(_is_float(row[index]) for row in rows if row[index]))
        for index, title in enumerate(header)
    ]
    shown = [
        [
            _exact_entry(text) if numeric else _entry(text, False)
            for text, (_, numeric) in zip(row, columns, strict=True)
        ]
        for row in rows[:MOST_ROWS]
    ]
    return Table(path.name, columns, shown, len(rows) - len(shown))


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


def _exact_entry(text: str) -> Entry:
    if not text or not math.isfinite(float(text)):
        return Entry(text)
    if text.lstrip("-").isdigit():
        return Entry(f"{int(text):,}", key=text)
    return Entry(f"{float(text):.{_DIGITS}g}", key=text)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
