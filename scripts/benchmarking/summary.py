"""From the runs of a benchmark to its table: medians, and ratios of neighbours in time."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import pandas as pd

from pixelrobust.tables import significant
from scripts.benchmarking.arms import ARMS
from scripts.benchmarking.records import Measured

COLUMNS = [
    "model",
    "arm",
    "images_per_second",
    "ratio_to_a",
    "ratio_to_d",
    "peak_mb",
    "runs",
    "images_per_second_low",
    "images_per_second_high",
    "ratio_to_a_low",
    "ratio_to_a_high",
    "ratio_to_d_low",
    "ratio_to_d_high",
    "passes",
    "seconds",
    "whole_process_seconds",
    "engine",
    "precision",
    "batch_size",
    "workers",
]
"""Of benchmark.csv. Rates, ratios, MB (1e6 bytes) and seconds are medians over runs, low and high
their range."""

_DECIMALS = {"images_per_second": 2, "ratio": 4, "peak_mb": 1, "seconds": 2, "whole": 2}


class Spread(NamedTuple):
    """Of some numbers the median, and the smallest and largest."""

    median: float
    low: float
    high: float


def summarise(runs: Sequence[Measured]) -> pd.DataFrame:
    """One row a network and arm, in the order of their first runs; columns as in COLUMNS."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for run in sorted(runs, key=lambda run: run.round):
        groups.setdefault((run.model, run.arm), []).append(run)
    models = dict.fromkeys(model for model, _ in groups)
    rows = [
        _row(groups[model, arm], runs) for model in models for arm in ARMS if (model, arm) in groups
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"workers": "Int64"}).round(
        {
            column: digits
            for column in COLUMNS
            for start, digits in _DECIMALS.items()
            if column.startswith(start)
        }
    )


def ratios(runs: Sequence[Measured], model: str, arm: str, other: str) -> Spread | None:
    """Of the rates of two arms in each round that has both; None where none has."""
    rates = {(run.round, run.arm): run.rate for run in runs if run.model == model}
    found = [
        rate / rates[number, other]
        for (number, name), rate in rates.items()
        if name == arm and (number, other) in rates
    ]
    return spread(found) if found else None


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(median(values), min(values), max(values))


def _row(own: Sequence[Measured], runs: Sequence[Measured]) -> dict[str, object]:
    """The row of the runs of one arm on one network, among all runs."""
    first = own[0]
    row: dict[str, object] = {
        "model": first.model,
        "arm": first.arm,
        "runs": len(own),
        "passes": median(run.steady.passes for run in own),
        "seconds": median(run.steady.seconds for run in own),
        "whole_process_seconds": median(run.whole_seconds for run in own),
        "engine": first.steady.engine,
        "precision": first.steady.precision,
        "batch_size": first.steady.batch_size,
        "workers": first.steady.workers,
    }
    peaks = [run.peak_bytes / 1e6 for run in own if run.peak_bytes is not None]
    row["peak_mb"] = median(peaks) if peaks else None
    found = {
        "images_per_second": spread([run.rate for run in own]),
        "ratio_to_a": ratios(runs, first.model, first.arm, "a"),
        "ratio_to_d": ratios(runs, first.model, first.arm, "d"),
    }
    for column, values in found.items():
        if values is not None:
            row |= {
                column: values.median,
                f"{column}_low": values.low,
                f"{column}_high": values.high,
            }
    return row


def for_reading(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary as text."""
    return pd.DataFrame(
        {
            "Model": summary["model"],
            "Arm": [f"({arm}) {ARMS[arm]}" for arm in summary["arm"]],
            "Images/s": _with_range(summary, "images_per_second"),
            "Times (a)": _with_range(summary, "ratio_to_a"),
            "Times (d)": _with_range(summary, "ratio_to_d"),
            "Peak memory, MB": _numbers(summary["peak_mb"]),
            "Forward passes": [f"{passes:,.0f}" for passes in summary["passes"]],
            "Their seconds": _numbers(summary["seconds"]),
            "Seconds of the whole process": _numbers(summary["whole_process_seconds"]),
            "Runs": summary["runs"].astype(str),
        }
    )


def _with_range(summary: pd.DataFrame, column: str) -> list[str]:
    values, lows, highs = (_numbers(summary[column + end]) for end in ("", "_low", "_high"))
    return [
        value if low == high else f"{value} ({low}–{high})"
        for value, low, high in zip(values, lows, highs, strict=True)
    ]


def _numbers(values: "pd.Series[float]") -> list[str]:
    return ["" if pd.isna(value) else significant(value) for value in values]
