"""Wrong rates as tables, how all tables print numbers, and the files that they are written to."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pixelrobust.errors import InputError, escape_cell, escape_latex, escape_markdown
from pixelrobust.files import write_text
from pixelrobust.outcomes.kinds import CELL_COLUMNS, IMAGE_SIZE
from pixelrobust.outcomes.rows import cell_in, cell_of
from pixelrobust.perturbation.grid import AmplitudeShare, Cell, as_image_size, pixel_index
from pixelrobust.statistics.rates import wrong_rate_interval

SUMMARY_COLUMNS = [
    "model", *CELL_COLUMNS, "images", "draws", "wrong", "wrong_rate", "ci_low", "ci_high", "pixel_index",
]  # fmt: skip

_MISSING = "missing"
_WIDTH = 80
_INTERVALS = "ci_low to ci_high: 95 % interval of wrong_rate"

# Numbers differ from 0 by rounding errors alone beyond these decimals.
_NOISE_DECIMALS = 10


class Summary(pd.DataFrame):
    """A table of wrong rates that prints within 80 columns; in all else a plain DataFrame."""

    @property
    def _constructor(self) -> type["Summary"]:
        return Summary

    def __repr__(self) -> str:
        if list(self.columns) != SUMMARY_COLUMNS or self.empty:
            return super().__repr__()
        # What nothing limits, and what is the same in all cells, needs no column.
        changed = self[self["num"] > 0]
        counts = {
            key: f"{key}: {changed[key].iloc[0]:,}"
            for key in ("images", "draws")
            if changed[key].nunique() == 1 == self["images"].nunique()
        }
        limits = [key for key in ("amplitude", "area") if self[key].isna().all()]
        shown = pd.DataFrame(self).drop(columns=["wrong", *limits, *counts])
        rows = pd.get_option("display.max_rows")
        table = shown.to_string(
            index=False, line_width=_WIDTH, max_rows=rows, float_format=significant
        )
        return "; ".join([f"{table}\n{_INTERVALS}", *counts.values()])


def summarize(
    outcomes: pd.DataFrame,
    image_size: int | tuple[int, int] | None = None,
    amplitude_share: AmplitudeShare = "range",
) -> pd.DataFrame:
    """Summarize outcomes: one row for each model and cell.

    Args:
        outcomes: as from `pixelrobust.evaluate`.
        image_size: (height, width) of the images in pixels, or the side of squares, for the
            Pixel-index. None: as the outcomes say, which `evaluate`, and `read_outcomes` where a
            run's record lies beside them, note in `outcomes.attrs`.
        amplitude_share: see `pixelrobust.perturbation.grid`.

    Raises:
        InputError: the outcomes say another size than is given, or none where none is given.

    Returns:
        Columns model, num, amplitude, area (missing: unlimited), images, draws, wrong (outcomes),
        wrong_rate in 0..1, ci_low and ci_high (95 %, see `pixelrobust.statistics.rates`), pixel_index.
        It prints within 80 columns. Models in the order of the outcomes; then by area, amplitude and num, the control first.
    """
    size = _image_size_of(outcomes, image_size)
    groups = outcomes.groupby(["model", *CELL_COLUMNS], observed=True, dropna=False, sort=False)
    rows = [_summary_row(group, size, amplitude_share) for _, group in groups]
    return Summary(ordered_summary(pd.DataFrame(rows, columns=SUMMARY_COLUMNS)))


def _image_size_of(outcomes: pd.DataFrame, given: int | tuple[int, int] | None) -> tuple[int, int]:
    """Return the (height, width) of the images of outcomes, checked against what is given."""
    known = outcomes.attrs.get(IMAGE_SIZE)
    if known is None and given is None:
        raise InputError(
            "these outcomes do not say how large their images are, or were put together from images of "
            "several sizes; give image_size=(height, width) in pixels."
        )
    size = as_image_size(known if given is None else given)
    if known is not None and size != as_image_size(known):
        raise InputError(
            f"image_size={given!r} is not the size of the images of these outcomes, "
            f"{tuple(known)}; leave it out."
        )
    return size


def ordered_summary(summary: pd.DataFrame) -> pd.DataFrame:
    """Return rows of models and cells in the order that `summarize` states."""
    # Unlimited stands last among amplitudes and areas: it is the largest of them.
    sorting = summary.assign(model=pd.factorize(summary["model"])[0], control=summary["num"] > 0)
    index = sorting.sort_values(
        ["model", "control", "area", "amplitude", "num"], na_position="last", kind="stable"
    ).index
    return summary.loc[index].reset_index(drop=True).astype({"amplitude": "Int16", "area": "Int32"})


def _summary_row(
    outcomes: pd.DataFrame, image_size: tuple[int, int], amplitude_share: AmplitudeShare
) -> dict[str, object]:
    """Return the row of the outcomes of one model in one cell."""
    cell = cell_of(outcomes)
    wrong_per_image = outcomes.groupby("image", observed=True)["wrong"].sum().to_numpy()
    draws = len(outcomes) // len(wrong_per_image)
    rate = float(outcomes["wrong"].mean())
    interval = wrong_rate_interval(wrong_per_image, draws)
    return {
        "model": str(outcomes["model"].iloc[0]),
        **asdict(cell),
        "images": len(wrong_per_image),
        "draws": draws,
        "wrong": int(outcomes["wrong"].sum()),
        "wrong_rate": rate,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "pixel_index": pixel_index(
            rate, cell.num, cell.amplitude, cell.area, image_size, amplitude_share
        ),
    }


def with_missing(summary: pd.DataFrame, missing: Iterable[tuple[str, Cell]]) -> pd.DataFrame:
    """Return the summary with an empty row for each of these models and cells that it lacks."""
    known = {(row["model"], cell_in(row)) for row in summary.to_dict("records")}
    lacking = [
        {"model": model, **asdict(cell)}
        for model, cell in dict.fromkeys(missing)
        if (model, cell) not in known
    ]
    if not lacking:
        return summary
    counts = dict.fromkeys(("images", "draws", "wrong"), "Int64")
    rows = pd.DataFrame(lacking, columns=summary.columns)
    return ordered_summary(pd.concat([summary, rows], ignore_index=True).astype(counts))


def for_reading(summary: pd.DataFrame, image_size: tuple[int, int]) -> pd.DataFrame:
    """Return the summary as text: a row a cell, a column a model, wrong rates in percent with intervals.

    A cell that a model lacks is shown as missing.
    """
    entries = [
        _MISSING if pd.isna(row["wrong_rate"]) else rate_with_interval(row["wrong_rate"], row)
        for row in summary.to_dict("records")
    ]
    cells, models = one_column_a_model(summary, entries, CELL_COLUMNS, _MISSING)
    return pd.concat([readable_cells(cells, image_size), models], axis=1)


def one_column_a_model(
    summary: pd.DataFrame, entries: list[str], keys: list[str], missing: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lay the models of a summary side by side.

    Args:
        summary: with the columns model and keys, the cell's columns among them.
        entries: one text for each of its rows.
        keys: what distinguishes the rows of one model.
        missing: what stands where a model lacks a row.

    Returns:
        The different keys in their order, and the entries, one row each, one column a model.
    """
    text = summary[["model", *keys]].assign(entry=entries)
    text[CELL_COLUMNS] = text[CELL_COLUMNS].astype("Int64")
    rows = text[keys].drop_duplicates(ignore_index=True)
    for model in summary["model"].unique():
        of_model = text.loc[text["model"] == model, [*keys, "entry"]]
        rows = rows.merge(of_model.rename(columns={"entry": model}), how="left", on=keys)
    return rows[keys], rows.drop(columns=keys).fillna(missing)


def rate_with_interval(rate: float, row: Mapping[Any, Any], unit: str = "") -> str:
    """Return a rate in percent with its interval, ci_low and ci_high of the row, in parentheses."""
    return f"{percent(rate)}{unit} ({percent(row['ci_low'])}–{percent(row['ci_high'])})"


def points(value: float, low: float, high: float) -> str:
    """Return a difference of rates with its interval, in points."""
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def readable_cells(cells: pd.DataFrame, image_size: tuple[int, int]) -> pd.DataFrame:
    """Return num, and R and P where anything limits them, as text; the index is that of the cells."""
    pixels = image_size[0] * image_size[1]
    readable = pd.DataFrame(
        {"Num": [f"{num} ({100 * num / pixels:.2g} %)" for num in cells["num"]]}, index=cells.index
    )
    for column, title, form in (("amplitude", "R", "±{}"), ("area", "P", "{0} × {0}")):
        if cells[column].notna().any():
            readable[title] = [
                "" if num == 0 else "unlimited" if pd.isna(value) else form.format(value)
                for num, value in zip(cells["num"], cells[column], strict=True)
            ]
    return readable


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write numbers for machines: counts and fractions, empty where nothing limits a change."""
    text = table.select_dtypes(exclude=["number", "bool"])
    safe = table.assign(**{str(name): text[name].map(escape_cell) for name in text})
    write_text(path, safe.to_csv(index=False, lineterminator="\n"))


def markdown_table(table: pd.DataFrame, lines: Mapping[int, str] | None = None) -> str:
    """Return a table of text as Markdown.

    Args:
        table: of text.
        lines: what stands in a row of its own above the row at a position.
    """
    escaped = table.map(escape_markdown).rename(columns=escape_markdown)
    for position, line in sorted((lines or {}).items(), reverse=True):
        row = [f"*{escape_markdown(line)}*", *[""] * (len(escaped.columns) - 1)]
        own = pd.DataFrame([row], columns=escaped.columns)
        escaped = pd.concat([escaped[:position], own, escaped[position:]], ignore_index=True)
    alignment = ["left"] + ["right"] * (len(table.columns) - 1)
    return str(escaped.to_markdown(index=False, disable_numparse=True, colalign=alignment))


def write_latex(
    table: pd.DataFrame,
    title: str,
    notes: list[str],
    label: str,
    path: Path,
    lines: Mapping[int, str] | None = None,
) -> None:
    """Write a table for a paper (package booktabs), with title and caption; lines as in `markdown_table`."""
    escaped = table.map(escape_latex).rename(columns=escape_latex)
    caption = escape_latex(" ".join([f"{title}.", *notes]))
    width = len(table.columns)
    written = escaped.to_latex(
        index=False,
        escape=False,
        caption=caption,
        label=f"tab:{label}",
        position="htbp",
        column_format="l" + "r" * (width - 1),
    ).splitlines()
    for position, line in sorted((lines or {}).items(), reverse=True):
        # A row is a line of the file.
        at = written.index(r"\midrule") + 1 + position
        own = rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape_latex(line)}}}}} \\"
        written[at:at] = [r"\midrule", own]
    write_text(path, "\n".join(written) + "\n")


def percent(share: float) -> str:
    """Return a share in percent, without the sign, to a tenth; to a hundredth near 0 and 1."""
    digits = 2 if 0 < share < 0.001 or 0.999 < share < 1 else 1
    return f"{100 * share:.{digits}f}"


def significant(value: float) -> str:
    """Return a number to three digits, whole ones from 100 on; rounding errors of 0 are 0."""
    if math.isnan(value):
        return "undefined"
    # Adding 0 takes the sign off a negative 0.
    value = round(value, _NOISE_DECIMALS) + 0.0
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
