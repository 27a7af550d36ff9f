"""Does the distance of samples to the classification boundary grow? (The paper's Eq. 3 to 6.)"""

from typing import Any

import numpy as np
import pandas as pd

from pixelrobust.comparisons import holm, mean_interval, sign_flip_test

_CHANGE = ("change", "low", "high", "p", "grown", "compared")


def summarize_distances(rows: pd.DataFrame, references: dict[str, str]) -> pd.DataFrame:
    """Distances of each network, and their changes from references in pairs of one image each.

    Args:
        rows: columns `outcomes.DISTANCE_COLUMNS`; distances are L2 in [0, 1] pixel space.
        references: networks' names, by what they are called in the columns.

    Returns:
        A row for each (images_are, model), those of one kind of images together: training_seeds,
        images, median and mean distance over images (of each the mean over seeds), measured: images
        with a measured one, correlation: rank correlation of both, missing where one of them is
        constant; and for each reference <name>_change: mean change over images, with its 95 %
        interval _low, _high, _p (sign-flip test, after Holm's correction over the networks of these
        images), _grown: share of images whose distance is larger, and _compared: of how many
        images, those whose distances are finite; missing for itself.
    """
    found = []
    for (kind, model), own in rows.groupby(["images_are", "model"], observed=True, sort=False):
        distances = _by_image(own)
        both = _finite(own, ["distance", "measured"])
        row: dict[str, Any] = {
            "images_are": kind,
            "model": str(model),
            "training_seeds": int(own["training_seed"].nunique()),
            "images": len(distances),
            "median": float(distances.median()),
            "mean": float(distances.mean()),
            "measured": both["image"].nunique(),
            "correlation": _rank_correlation(both),
        }
        same_kind = rows[rows["images_are"] == kind]
        for name, reference in references.items():
            before = _by_image(same_kind[same_kind["model"] == reference])
            row |= _change(name, distances, before if model != reference else before[:0])
        found.append(row)
    summary = pd.DataFrame(found).sort_values(
        "images_are", key=lambda kinds: pd.factorize(kinds)[0], kind="stable", ignore_index=True
    )
    for name in references:
        column = f"{name}_p"
        for _, rows_of_kind in summary[summary[column].notna()].groupby("images_are"):
            corrected = holm(rows_of_kind[column].to_numpy(float))
            summary.loc[rows_of_kind.index, column] = corrected
    return summary


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
    if summary["measured"].any():
        table["Rank correlation with DeepFool"] = [_correlation(row) for row in rows]
    for name, reference in references.items():
        table[f"Change from {reference}"] = [_readable(row, name) for row in rows]
    return pd.DataFrame(table)


def changes_by_image(rows: pd.DataFrame, model: str, reference: str) -> "pd.Series[float]":
    """(N,) change of each image's distance, mean over training seeds, from the reference's.

    Images whose distance from either is not finite, where gradients vanish, are left out.
    """
    return _difference(*(_by_image(rows[rows["model"] == name]) for name in (model, reference)))


def _by_image(rows: pd.DataFrame) -> "pd.Series[float]":
    return rows.assign(image=rows["image"].astype(str)).groupby("image")["distance"].mean()


def _difference(after: "pd.Series[float]", before: "pd.Series[float]") -> "pd.Series[float]":
    changes = after - before
    return changes[np.isfinite(changes)]


def _finite(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    whole = pd.Series(np.isfinite(rows[columns].to_numpy(float)).all(axis=1), index=rows.index)
    return rows[whole]


def _rank_correlation(rows: pd.DataFrame) -> float:
    """Spearman's, over images; of each the means over seeds."""
    means = rows.groupby(rows["image"].astype(str))[["distance", "measured"]].mean()
    if (means.nunique() < 2).any():
        return np.nan
    return float(means["distance"].corr(means["measured"], method="spearman"))


def _correlation(row: dict[str, Any]) -> str:
    if pd.isna(row["correlation"]):
        return ""
    return f"{row['correlation']:.2f} ({row['measured']} images)"


def _change(name: str, after: "pd.Series[float]", before: "pd.Series[float]") -> dict[str, float]:
    changes = _difference(after, before).to_numpy()
    if len(changes) < 2:
        return {f"{name}_{end}": np.nan for end in _CHANGE}
    interval = mean_interval(changes)
    grown = float((changes > 0).mean())
    p = sign_flip_test(changes)
    values = (float(changes.mean()), interval.low, interval.high, p, grown, len(changes))
    return {f"{name}_{end}": value for end, value in zip(_CHANGE, values, strict=True)}


def _readable(row: dict[str, Any], name: str) -> str:
    change, low, high, p, grown, _ = (row[f"{name}_{end}"] for end in _CHANGE)
    if pd.isna(change):
        return ""
    star = " *" if p < 0.05 else ""
    return f"{change:+.3g} ({low:+.3g} to {high:+.3g}){star}; {100 * grown:.0f} % grow"
