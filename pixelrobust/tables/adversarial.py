"""Adversarial images that changed pixels recover: tables from stored outcomes."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from pixelrobust.outcomes.kinds import CELL_COLUMNS
from pixelrobust.outcomes.rows import cell_of
from pixelrobust.perturbation.grid import AmplitudeShare, pixel_index
from pixelrobust.statistics.paired import difference_interval, paired_test
from pixelrobust.statistics.rates import wrong_rate_interval
from pixelrobust.tables.rates import one_column_a_model, rate_with_interval, readable_cells

RETURN_COLUMNS = [
    "model", "epsilon", "images_are", *CELL_COLUMNS, "images", "draws", "returned", "third", "stayed",
    "return_rate", "ci_low", "ci_high", "gain", "gain_low", "gain_high", "gain_p", "pixel_index",
]  # fmt: skip


def summarize_returns(
    outcomes: pd.DataFrame,
    image_size: tuple[int, int] = (224, 224),
    amplitude_share: AmplitudeShare = "range",
) -> pd.DataFrame:
    """Summarize recovered images for each model, epsilon, kind of image and cell.

    Args:
        outcomes: from `evaluate_adversarial`.
        image_size: (height, width), for the Pixel-index.
        amplitude_share: see `pixelrobust.perturbation.grid`.

    Returns:
        images_are: "unrounded"; "rounded"; "rounded, still fooling": those of the rounded that fool
        the network before any pixel is changed. returned (to the true class), third (another
        class), stayed (the adversarial class): outcomes; return_rate with its 95 % interval;
        gain: return rate minus that of num 0, paired by image, with interval and p-value;
        pixel_index with the share of outcomes that left the adversarial class as w.
    """
    rounded = outcomes[outcomes["rounded"]]
    kinds = [
        outcomes[~outcomes["rounded"]].assign(images_are="unrounded"),
        rounded.assign(images_are="rounded"),
        _still_fooling(rounded).assign(images_are="rounded, still fooling"),
    ]
    rows = []
    keys = ["model", "epsilon", "images_are"]
    for (model, epsilon, kind), group in pd.concat(kinds).groupby(keys, observed=True, sort=False):
        control = _recovered_shares(group[group["num"] == 0])
        for _, cell in group.groupby(CELL_COLUMNS, dropna=False, sort=False):
            row = _return_row(cell, control, image_size, amplitude_share)
            rows.append({"model": model, "epsilon": epsilon, "images_are": kind} | row)
    summary = pd.DataFrame(rows, columns=RETURN_COLUMNS)
    return summary.astype({"amplitude": "Int16", "area": "Int32"})


def _still_fooling(rounded: pd.DataFrame) -> pd.DataFrame:
    """Return the rounded images that fool the network before any pixel is changed."""
    identity = ["model", "epsilon", "image"]
    unchanged = rounded[(rounded["num"] == 0) & rounded["wrong"]]
    fooling = pd.MultiIndex.from_frame(unchanged[identity].astype(str))
    kept = pd.MultiIndex.from_frame(rounded[identity].astype(str)).isin(fooling)
    return rounded[kept]


def _recovered_shares(cell: pd.DataFrame) -> "pd.Series[float]":
    """Return, for each image, the share of draws in which it was recovered."""
    return 1 - cell.assign(image=cell["image"].astype(str)).groupby("image")["wrong"].mean()


def _return_row(
    outcomes: pd.DataFrame,
    control: "pd.Series[float]",
    image_size: tuple[int, int],
    amplitude_share: AmplitudeShare,
) -> dict[str, object]:
    cell = cell_of(outcomes)
    recovered = _recovered_shares(outcomes)
    shares, before = recovered.to_numpy(), control.loc[recovered.index].to_numpy()
    draws = len(outcomes) // len(shares)
    returned = ~outcomes["wrong"]
    stayed = outcomes["prediction"] == outcomes["adversarial"]
    interval = wrong_rate_interval(shares * draws, draws)
    gain = difference_interval(shares, before)
    left = 1 - float(stayed.mean())
    return {
        **asdict(cell),
        "images": len(shares),
        "draws": draws,
        "returned": int(returned.sum()),
        "third": int((~returned & ~stayed).sum()),
        "stayed": int(stayed.sum()),
        "return_rate": float(returned.mean()),
        "ci_low": interval.low,
        "ci_high": interval.high,
        "gain": float((shares - before).mean()),
        "gain_low": gain.low,
        "gain_high": gain.high,
        "gain_p": paired_test(shares, before, draws) if cell.num else 1.0,
        "pixel_index": pixel_index(
            left, cell.num, cell.amplitude, cell.area, image_size, amplitude_share
        ),
    }


def returns_for_reading(summary: pd.DataFrame, image_size: tuple[int, int]) -> pd.DataFrame:
    """Return the summary as text: a row an epsilon, kind of image and cell, a column a model."""
    entries = [_entry(row) for row in summary.to_dict("records")]
    keys = ["epsilon", "images_are", *CELL_COLUMNS]
    rows, models = one_column_a_model(summary, entries, keys, missing="none")
    named = rows[["epsilon", "images_are"]].set_axis(["Epsilon", "Images"], axis=1)
    return pd.concat([named, readable_cells(rows, image_size), models], axis=1)


def _entry(row: dict[Any, Any]) -> str:
    entry = rate_with_interval(row["return_rate"], row)
    return entry if row["num"] == 0 else f"{entry}; {100 * row['gain']:+.1f}"
