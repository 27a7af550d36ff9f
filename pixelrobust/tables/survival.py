"""Pixels to flip as tables: a row a model, and a row a pair of models."""

from itertools import combinations
from typing import Any

import pandas as pd

from pixelrobust.outcomes.rows import cell_of
from pixelrobust.statistics.paired import holm
from pixelrobust.statistics.survival import SurvivalCurve, logrank, pixels_to_flip, survival_curve
from pixelrobust.tables.rates import rate_with_interval


def survival_curves(outcomes: pd.DataFrame) -> dict[str, SurvivalCurve]:
    """Return the curve of each model, over images, in draw 0.

    Args:
        outcomes: as for `pixelrobust.statistics.survival.pixels_to_flip`.
    """
    return {
        model: survival_curve(flips["num"], flips["flipped"])
        for model, flips in _by_model(outcomes).items()
    }


def tabulate_survival(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Tabulate how many changed pixels flip the images of each model.

    Args:
        outcomes: as for `pixelrobust.statistics.survival.pixels_to_flip`.

    Returns:
        Columns model, amplitude, area, images; wrong_unchanged: further images, which are left out;
        flipped: images wrong at some num up to largest_num,
        the largest num tried; survival: the share of the others, with its 95 % interval ci_low,
        ci_high; median: the num by which half the images have flipped, with its 95 % interval;
        missing: beyond largest_num.
    """
    cell = cell_of(outcomes[outcomes["num"] > 0])
    # Where all images have flipped, none was followed up to the largest num.
    largest = outcomes.groupby(outcomes["model"].astype(str))["num"].max()
    unchanged = outcomes[outcomes["num"] == 0]
    wrong = unchanged.groupby(unchanged["model"].astype(str))["wrong"].sum()
    rows = []
    for model, flips in _by_model(outcomes).items():
        curve = survival_curve(flips["num"], flips["flipped"])
        rows.append(
            {
                "model": model,
                "amplitude": cell.amplitude,
                "area": cell.area,
                "images": len(flips),
                "wrong_unchanged": int(wrong.get(model, 0)),
                "flipped": int(flips["flipped"].sum()),
                "largest_num": int(largest[model]),
                "survival": curve.survival[-1],
                "ci_low": curve.low[-1],
                "ci_high": curve.high[-1],
                "median": curve.median,
                "median_low": curve.median_low,
                "median_high": curve.median_high,
            }
        )
    medians = dict.fromkeys(("median", "median_low", "median_high"), "Int64")
    return pd.DataFrame(rows).astype({"amplitude": "Int16", "area": "Int32", **medians})


def compare_survival(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Compare the models, each with each, by log-rank tests.

    Returns:
        Columns first, second, p, and p_holm: p corrected for the number of pairs.
    """
    flips = _by_model(outcomes)
    rows = [(one, two, logrank(flips[one], flips[two])) for one, two in combinations(flips, 2)]
    pairs = pd.DataFrame(rows, columns=["first", "second", "p"])
    return pairs.assign(p_holm=holm(pairs["p"].to_numpy(dtype=float)))


def survival_for_reading(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text."""
    rows = table.to_dict("records")
    return pd.DataFrame(
        {
            "Model": table["model"],
            "Images": table["images"].astype(str),
            "Flipped": table["flipped"].astype(str),
            "Not flipped (%)": [rate_with_interval(row["survival"], row) for row in rows],
            "Median pixels to flip": [_median(row) for row in rows],
        }
    )


def pairs_for_reading(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the tests as text."""
    return pd.DataFrame(
        {
            "First": pairs["first"],
            "Second": pairs["second"],
            "p (log-rank)": [readable_p(p) for p in pairs["p"]],
            "p (Holm)": [readable_p(p) for p in pairs["p_holm"]],
        }
    )


def readable_p(p: float) -> str:
    """Return a p-value as text."""
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _median(row: dict[Any, Any]) -> str:
    low, median, high = (
        f"over {row['largest_num']:,}" if pd.isna(row[key]) else f"{row[key]:,}"
        for key in ("median_low", "median", "median_high")
    )
    return median if low == median == high else f"{median} ({low} to {high})"


def _by_model(outcomes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    flips = pixels_to_flip(outcomes)
    return {str(model): rows for model, rows in flips.groupby("model", observed=True, sort=False)}
