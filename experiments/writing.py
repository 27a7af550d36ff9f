"""The files of a table, and what is told of it in the terminal."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pixelrobust.escaping import escape_paragraph
from pixelrobust.tables import write_csv, write_latex, write_markdown


@dataclass(frozen=True)
class Presented:
    """A table as it was written.

    Attributes:
        title: of the table.
        table: for reading.
        notes: its caption.
    """

    title: str
    table: pd.DataFrame
    notes: list[str]


def write_tables(
    directory: Path,
    name: str,
    title: str,
    table: pd.DataFrame,
    readable: pd.DataFrame,
    notes: list[str],
    below: list[str],
) -> None:
    """The three files of a table; `below` is Markdown that follows the notes."""
    stem = directory / name
    write_csv(table, stem.with_suffix(".csv"))
    markdown = [*map(escape_paragraph, notes), *below]
    write_markdown(readable, title, markdown, stem.with_suffix(".md"))
    write_latex(readable, title, notes, name, stem.with_suffix(".tex"))
