"""What a results page is made of: plain data that the templates lay out.

All texts are shown as they are; none is taken for markup. `kind` names the template of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pixelrobust.report.grids import Grid
from pixelrobust.report.plots import Plot


def anchor_of(kind: str, name: str) -> str:
    """A place on the page for a name, a place of its own, whatever the name holds."""
    letters = (c if c.isalnum() or c == "-" else f"_{ord(c):x}_" for c in name)
    return f"{kind}-{''.join(letters)}"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Note:
    """A paragraph that must not be overlooked."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True)
class Heading:
    """A heading within a part."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class TableBlock:
    """A table that can be sorted; `label` is its name for those who cannot see it."""

    kind: ClassVar[str] = "table"
    grid: Grid
    label: str


@dataclass(frozen=True)
class Figure:
    """An interactive figure."""

    kind: ClassVar[str] = "figure"
    plot: Plot


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
class Verdict:
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
    """Claims, which the reader can filter; `counts` holds how many have each badge."""

    kind: ClassVar[str] = "verdicts"
    verdicts: Sequence[Verdict]
    counts: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Stop:
    """A picture at one position of the slider.

    Attributes:
        picture: a data URI.
        answers: of each network its name, its answer, and whether that is right.
    """

    picture: str
    answers: Sequence[tuple[str, str, bool]]


@dataclass(frozen=True)
class Card:
    """One image at all positions of the slider; `title` is what it shows."""

    title: str
    stops: Sequence[Stop]


@dataclass(frozen=True)
class Gallery:
    """Images under one slider.

    Attributes:
        label: what the slider sets.
        stops: its positions, in words.
        cards: each with a picture for every stop.
        size: (width, height) of the pictures, in pixels.
    """

    kind: ClassVar[str] = "gallery"
    label: str
    stops: Sequence[str]
    cards: Sequence[Card]
    size: tuple[int, int]


Block = Text | Note | Heading | TableBlock | Figure | Line | Facts | Disclosure | Verdicts | Gallery


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
