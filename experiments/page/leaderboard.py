"""Networks ranked by Pixel-index, and which of them these images do not tell apart."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pandas as pd

from experiments.claims.findings import LEVEL
from experiments.page.folder import Stored
from experiments.page.provenance import source_lines
from experiments.paper import TABLE_5, TABLE_5_SOURCES, experiment_called
from pixelrobust.comparisons import holm, paired_test
from pixelrobust.grid import Cell
from pixelrobust.outcomes import COLUMNS
from pixelrobust.report import Block, Figure, Note, Section, TableBlock, Text, text_grid
from pixelrobust.report.axes import numbers
from pixelrobust.report.charts import dots_plot
from pixelrobust.shares import WrongShares
from pixelrobust.tables import significant

_TITLE = "Leaderboard: networks by Pixel-index"
_RANKING = f"{TABLE_5.table}-ranking"
_COLUMNS = (
    "model",
    "accuracy",
    "pixel_index",
    "pi_low",
    "pi_high",
    "pi_rank",
    "smallest",
    "largest",
)
_MISSING = (
    "Networks are ranked where Tables 6, 7 and 8 of one set of images lie in the folder: "
    "`make reproduce-table5` runs them."
)
_LIMITS_OF_IT = (
    "This ranks networks on these images only. Do not conclude that a network is better where the two are "
    "not told apart, nor that a Pixel-index here is a property of the network: it is that of one cell, and "
    "the column over cells says how far the others are from it. Networks of other runs, or other images, "
    "have no place in this ranking."
)


def leaderboard_section(stored: Stored) -> Section:
    """The ranking, or what it lacks."""
    table = stored.table(_RANKING)
    if table is None or not set(_COLUMNS) <= set(table.columns):
        return Section("leaderboard", _TITLE, [Text(_MISSING)])
    table = numbers(table, *_COLUMNS[1:]).sort_values("pixel_index", kind="stable")
    cell = _cell(stored)
    alike = _not_told_apart(stored, cell) if cell else None
    where = f"{cell.num:,} changed pixels" if cell else "the largest num"
    lead = (
        f"By the Pixel-index at {where} anywhere in the image, of any value; smaller is more robust. "
        "Accuracy is on all candidates, unchanged."
    )
    blocks: list[Block] = [Text(lead)]
    points = [_point(row) for row in _records(table)]
    if points:
        blocks.append(Figure(dots_plot(points, f"Pixel-index at {where}", "Pixel-index (Pi)")))
    blocks += [TableBlock(_grid(table, alike), _TITLE), *_ties(alike), Note(_LIMITS_OF_IT)]
    return Section("leaderboard", _TITLE, [*blocks, *source_lines(stored, TABLE_5.table)])


def _grid(table: pd.DataFrame, alike: Mapping[str, list[str]] | None) -> Any:
    header = ["Place", "Network", "Pixel-index (95 %)", "Accuracy (%)", "Pi over cells"]
    rows = [
        [
            f"{row['pi_rank']:.0f}", str(row["model"]), _with_interval(row),
            f"{100 * row['accuracy']:.1f}",
            f"{significant(row['smallest'])} to {significant(row['largest'])}",
        ]
        for row in _records(table)
    ]  # fmt: skip
    if alike is not None:
        header.append("Not told apart from")
        for row in rows:
            row.append(", ".join(alike.get(row[1], [])) or "none")
    return text_grid(header, rows)


def _ties(alike: Mapping[str, list[str]] | None) -> list[Block]:
    if alike is None:
        return [Text("Whether networks differ is not known: their outcomes are not in the folder.")]
    count = sum(map(len, alike.values())) // 2
    pairs = len(alike) * (len(alike) - 1) // 2
    return [
        Text(
            f"{count} of {pairs} pairs of networks are not told apart: paired tests of their wrong "
            f"predictions on the same images, p {LEVEL:g} or more after Holm's correction."
        )
    ]


def _not_told_apart(stored: Stored, cell: Cell) -> dict[str, list[str]] | None:
    """For each network those whose wrong rates in this cell could be the same."""
    shares = _shares(stored, cell)
    if shares is None:
        return None
    models = [model for model in shares.models if shares.has(model, cell)]
    pairs = list(combinations(models, 2))
    adjusted = holm(
        [paired_test(shares.of(one, cell), shares.of(two, cell), shares.draws) for one, two in pairs]
    )  # fmt: skip
    alike: dict[str, list[str]] = {model: [] for model in models}
    for (one, two), p in zip(pairs, adjusted, strict=True):
        if p >= LEVEL:
            alike[one].append(two)
            alike[two].append(one)
    return alike


def _shares(stored: Stored, cell: Cell) -> WrongShares | None:
    """The first run of Table 5 that holds the cell."""
    for name in TABLE_5_SOURCES:
        rows = stored.rows(experiment_called(name).table)
        if rows is not None and list(rows.columns) == COLUMNS:
            shares = WrongShares(rows)
            if any(shares.has(model, cell) for model in shares.models):
                return shares
    return None


def _cell(stored: Stored) -> Cell | None:
    """The cell that networks are ranked by: of the largest num, otherwise unlimited."""
    table = stored.table(TABLE_5.table)
    if table is None or not {"num", "amplitude", "area"} <= set(table.columns):
        return None
    unlimited = numbers(table, "num")
    unlimited = unlimited[unlimited["amplitude"].isna() & unlimited["area"].isna()]
    return Cell(int(unlimited["num"].max())) if len(unlimited) else None


def _point(row: dict[str, Any]) -> tuple[str, float, float, float, list[str]]:
    label = str(row["model"])
    ends = (float(row[key]) for key in ("pixel_index", "pi_low", "pi_high"))
    value, low, high = ends
    return label, value, low, high, [label, f"Pi {_with_interval(row)}"]


def _with_interval(row: dict[str, Any]) -> str:
    index, low, high = (
        significant(float(row[key])) for key in ("pixel_index", "pi_low", "pi_high")
    )
    return f"{index} ({low}–{high})"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
