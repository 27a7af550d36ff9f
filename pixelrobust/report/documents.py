"""Markdown files of results as plain text and tables: no link, image or markup of theirs counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token

from pixelrobust.errors import InputError


@dataclass(frozen=True)
class Piece:
    """A piece of a document.

    Attributes:
        kind: what it is.
        text: of a heading or paragraph.
        table: header and rows of a table.
    """

    kind: Literal["heading", "text", "table"]
    text: str = ""
    table: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Document:
    """A document: its title, and what follows."""

    title: str
    pieces: Sequence[Piece]


def read_document(path: Path) -> Document:
    """Read a Markdown file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"page {path} cannot be read ({error}); rebuild it.") from error
    pieces = list(_pieces(MarkdownIt("commonmark").enable("table").parse(text)))
    if pieces and pieces[0].kind == "heading":
        return Document(pieces[0].text, pieces[1:])
    return Document(path.stem, pieces)


def _pieces(tokens: Sequence[Token]) -> Iterator[Piece]:
    rows: list[list[str]] = []
    inside = ""
    for token in tokens:
        if token.type in ("table_open", "heading_open"):
            inside, rows = token.type, []
        elif token.type == "table_close":
            yield Piece("table", table=rows)
            inside = ""
        elif token.type == "heading_close":
            inside = ""
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and inside == "table_open":
            rows[-1].append(_plain(token))
        elif token.type == "inline":
            yield Piece("heading" if inside else "text", _plain(token))
        elif token.content.strip():
            yield Piece("text", token.content.strip())


def _plain(token: Token) -> str:
    """The words of a line; markup that is not a line break is shown as it is written."""
    words = []
    for child in token.children or []:
        # Names are escaped, so that a break is one of the writer's.
        if child.type == "hardbreak" or (child.type == "html_inline" and child.content == "<br>"):
            words.append("\n")
        else:
            words.append(" " if child.type == "softbreak" else child.content)
    return "".join(words).strip()
