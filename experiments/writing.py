"""A table with its notes and figures, and the files that they are written to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pixelrobust.errors import escape_markdown, escape_paragraph
from pixelrobust.figures import remove_figure, write_figure
from pixelrobust.files import write_text
from pixelrobust.tables.rates import markdown_table, write_csv, write_latex


@dataclass(frozen=True)
class Below:
    """A further table below the notes of another.

    Attributes:
        title: of the table.
        table: for reading.
        notes: its caption.
        of_words: whether it holds words, which stand on the left.
    """

    title: str
    table: pd.DataFrame
    notes: Sequence[str] = ()
    of_words: bool = False


@dataclass(frozen=True)
class Presented:
    """Hold what is presented of a run, or of several.

    Attributes:
        title: of the table.
        table: for reading.
        notes: its caption.
        stem: of its files; empty: it has none of its own, and stands below another.
        numbers: the rows of its CSV file.
        below: further tables.
        beside: the rows of further CSV files, by stem.
        figures: by the stem of their files.
        about_figures: what must be known to read them, beyond the notes.
        lines: what stands on a line above the row at a position, such as "beyond the paper's 64 pixels".
        undrawn: stems of figures that would show nothing; files of an earlier run are removed.
    """

    title: str
    table: pd.DataFrame
    notes: list[str]
    stem: str = ""
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)
    below: Sequence[Below] = ()
    beside: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    about_figures: str = ""
    lines: Mapping[int, str] = field(default_factory=dict)
    undrawn: Sequence[str] = ()


def write_presented(directory: Path, presented: Sequence[Presented]) -> None:
    """Write tables (CSV, Markdown, LaTeX) and figures (PNG, PDF) into a folder."""
    for each in presented:
        if each.stem:
            _write_tables(directory / each.stem, each)
        for name, numbers in each.beside.items():
            write_csv(numbers, directory / f"{name}.csv")
        for name, figure in each.figures.items():
            write_figure(figure, directory / name)
        for name in each.undrawn:
            remove_figure(directory / name)


def is_written(directory: Path, presented: Sequence[Presented]) -> bool:
    """Tell whether a folder holds all files that `write_presented` would write."""
    names = [
        f"{stem}.{kind}"
        for each in presented
        for stems, kinds in (
            ([each.stem] if each.stem else [], ("csv", "md", "tex")),
            (each.beside, ("csv",)),
            (each.figures, ("png", "pdf")),
        )
        for stem in stems
        for kind in kinds
    ]
    paths = [directory / name for name in names]
    # A link is replaced, whatever it leads to.
    return all(path.is_file() and not path.is_symlink() for path in paths)


def _write_tables(stem: Path, presented: Presented) -> None:
    title, table, lines = presented.title, presented.table, presented.lines
    parts = [f"# {escape_markdown(title)}", markdown_table(table, lines)]
    parts += map(escape_paragraph, presented.notes)
    for below in presented.below:
        parts += [
            f"## {below.title}",
            words_as_markdown(below.table) if below.of_words else markdown_table(below.table),
            *map(escape_paragraph, below.notes),
        ]
    write_csv(presented.numbers, stem.with_suffix(".csv"))
    write_text(stem.with_suffix(".md"), "\n\n".join(parts) + "\n")
    write_latex(table, title, presented.notes, stem.name, stem.with_suffix(".tex"), lines)


def words_as_markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown whose cells may have several lines."""
    cells = table.map(lambda text: "<br>".join(escape_markdown(line) for line in text.splitlines()))
    return str(cells.to_markdown(index=False, disable_numparse=True))
