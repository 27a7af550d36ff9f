"""Does the distance of samples to the classification boundary grow? (The paper's Eq. 3 to 6.)"""

from typing import Any

import numpy as np
import pandas as pd

from pixelrobust.comparisons import mean_interval, sign_flip_test

_CHANGE = ("change", "low", "high", "p", "grown")


def summarize_distances(rows: pd.DataFrame, references: dict[str, str]) -> pd.DataFrame:
    """Distances of each network, and their changes from references in pairs of one image each.

    Args:
        rows: columns `outcomes.DISTANCE_COLUMNS`; distances are L2 in [0, 1] pixel space.
        references: networks' names, by what they are called in the columns.

    Returns:
        A row for each (images_are, model): training_seeds, images, median and mean distance,
        measured: images with a measured one, correlation: rank correlation of both; and for each
        reference <name>_change: mean change over images, with its 95 % interval _low, _high, _p
        (sign-flip test), and _grown: share of images whose distance is larger; missing for itself.
    """
    found = []
    for (kind, model), own in rows.groupby(["images_are", "model"], observed=True, sort=False):
        distances = _by_image(own)
        both = own.dropna(subset=["distance", "measured"])
        row: dict[str, Any] = {
            "images_are": kind,
            "model": str(model),
            "training_seeds": int(own["training_seed"].nunique()),
            "images": len(distances),
            "median": float(distances.median()),
            "mean": float(distances.mean()),
            "measured": len(both),
            "correlation": both["distance"].corr(both["measured"], method="spearman"),
        }
        same_kind = rows[rows["images_are"] == kind]
        for name, reference in references.items():
            before = _by_image(same_kind[same_kind["model"] == reference])
            row |= _change(name, distances, before if model != reference else before[:0])
        found.append(row)
    return pd.DataFrame(found)


def distances_for_reading(summary: pd.DataFrame, references: dict[str, str]) -> pd.DataFrame:
    """The summary as text."""
    rows: list[dict[str, Any]] = [
        {str(key): value for key, value in row.items()} for row in summary.to_dict("records")
    ]
    table = {
        "Images": summary["images_are"].astype(str),
        "Network": summary["model"],
        "Median r": [f"{row['median']:.3g}" for row in rows],
        "Mean r": [f"{row['mean']:.3g}" for row in rows],
    }
    for name in references:
        table[f"Change from {name}"] = [_readable(row, name) for row in rows]
    return pd.DataFrame(table)


def changes_by_image(rows: pd.DataFrame, model: str, reference: str) -> "pd.Series[float]":
    """(N,) change of each image's distance, mean over training seeds, from the reference's."""
    after, before = (_by_image(rows[rows["model"] == name]) for name in (model, reference))
    return (after - before).dropna()


def _by_image(rows: pd.DataFrame) -> "pd.Series[float]":
    return rows.assign(image=rows["image"].astype(str)).groupby("image")["distance"].mean()


def _change(name: str, after: "pd.Series[float]", before: "pd.Series[float]") -> dict[str, float]:
    changes = (after - before).dropna().to_numpy()
    if len(changes) < 2:
        return {f"{name}_{end}": np.nan for end in _CHANGE}
    interval = mean_interval(changes)
    grown = float((changes > 0).mean())
    values = (float(changes.mean()), interval.low, interval.high, sign_flip_test(changes), grown)
    return {f"{name}_{end}": value for end, value in zip(_CHANGE, values, strict=True)}


def _readable(row: dict[str, Any], name: str) -> str:
    change, low, high, p, grown = (row[f"{name}_{end}"] for end in _CHANGE)
    if pd.isna(change):
        return ""
    star = " *" if p < 0.05 else ""
    return f"{change:+.3g} ({low:+.3g} to {high:+.3g}){star}; {100 * grown:.0f} % grow"
