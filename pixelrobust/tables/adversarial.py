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
    "restored",
]  # fmt: skip
UNROUNDED, ROUNDED = "unrounded", "rounded"
PERTURBED, FOOLING = "rounded, still perturbed", "rounded, still fooling"
"""What images are: of an attack, of a file, and of those the ones that rounding leaves changed, or
fooling."""

# An attack is undone by rounding where it changes no value by half a step of 8 bits; float32 images
# are no more exact than this, and at 0.5/255 itself some of many values are rounded away.
_RESTORED_BELOW = 0.5 - 1e-4


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
        images_are: "unrounded"; "rounded"; "rounded, still perturbed": those of the rounded that
        rounding does not turn back into the original; "rounded, still fooling": those that fool the
        network before any pixel is changed. returned (to the true class), third (another
        class), stayed (the adversarial class): outcomes; return_rate with its 95 % interval;
        gain: return rate minus that of num 0, paired by image, with interval and p-value;
        pixel_index with the share of outcomes that left the adversarial class as w; restored: how
        many of the images rounding has turned back into the original, bit for bit.
    """
    rounded = outcomes[outcomes["rounded"]]
    kinds = [
        outcomes[~outcomes["rounded"]].assign(images_are=UNROUNDED),
        rounded.assign(images_are=ROUNDED),
        rounded[~is_restored(rounded)].assign(images_are=PERTURBED),
        still_fooling(rounded).assign(images_are=FOOLING),
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


def is_restored(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Tell of attacked images whether rounding to 8 bits gives the original back, bit for bit.

    That follows from the size of the attack, but within 0.0001/255 of one half.

    Args:
        rows: with the column size, the largest absolute change in 1/255, before rounding.
    """
    return rows["size"] < _RESTORED_BELOW


def still_fooling(rounded: pd.DataFrame) -> pd.DataFrame:
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
        "restored": outcomes.loc[outcomes["rounded"] & is_restored(outcomes), "image"].nunique(),
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
    if row["num"]:
        return f"{entry}; {100 * row['gain']:+.1f}"
    if row["images_are"] == ROUNDED:
        return f"{entry}; {row['restored']:,} of {row['images']:,} restored"
    return f"{entry}; {row['images']:,} images"
