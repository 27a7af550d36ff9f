"""Do images that fool the original network still fool retrained ones? Tables, and the paper's fall."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.comparisons import compare_pairs, holm
from pixelrobust.statistics import Interval, effective_sample_size, wilson_interval
from pixelrobust.tables import percent, rate_with_interval

TRANSFER_SUMMARY = [
    "against",
    "epsilon",
    "rounded",
    "model",
    "training_seeds",
    "images",
    "fooled",
    "fooled_rate",
    "ci_low",
    "ci_high",
    "difference",
    "difference_low",
    "difference_high",
    "difference_p",
]


@dataclass(frozen=True)
class Step:
    """One step of a fall.

    Attributes:
        label: what was added.
        rate, low, high: share of images that still fool after it, with its 95 % interval.
        change, change_low, change_high: in pairs, from the step before; 0 at the first.
    """

    label: str
    rate: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


def summarize_transfer(rows: pd.DataFrame, control: str) -> pd.DataFrame:
    """How many adversarial images fool each network.

    Args:
        rows: columns `outcomes.TRANSFER_COLUMNS`.
        control: the network retrained on unchanged images.

    Returns:
        A row for each (against: "original" or "itself", epsilon, rounded, model): training_seeds,
        images; fooled: outcomes over seeds; fooled_rate, the mean over images, with its 95 %
        interval over images; difference: fooled_rate minus the control's on the same images, in
        pairs, with its 95 % interval difference_low and difference_high, and difference_p after
        Holm's correction over the table; missing for the control, and for images made against each
        network itself, which differ.
    """
    found = []
    keys = ["against", "epsilon", "rounded"]
    for (against, epsilon, rounded), group in rows.groupby(keys, observed=True, sort=False):
        reference = _shares(group[group["model"] == control])
        for model, own in group.groupby("model", observed=True, sort=False):
            row = {"against": against, "epsilon": epsilon, "rounded": rounded, "model": str(model)}
            comparable = against == "original" and model != control and len(reference) > 0
            found.append(row | _row(own, reference if comparable else None))
    summary = pd.DataFrame(found, columns=TRANSFER_SUMMARY)
    tested = summary["difference_p"].notna()
    summary.loc[tested, "difference_p"] = holm(summary.loc[tested, "difference_p"].to_numpy(float))
    return summary


def transfer_for_reading(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary as text: a row for each kind of image and network, a column for each epsilon."""
    epsilons = list(dict.fromkeys(summary["epsilon"].astype(str)))
    rows = []
    keys = ["against", "rounded", "model"]
    for (against, rounded, model), group in summary.groupby(keys, observed=True, sort=False):
        entries = {
            str(row["epsilon"]): rate_with_interval(row["fooled_rate"], row)
            for row in _records(group)
        }
        rows.append(
            {
                "Made against": against,
                "Images": "rounded" if rounded else "unrounded",
                "Network": model,
                **{epsilon: entries.get(epsilon, "") for epsilon in epsilons},
            }
        )
    order = {"original": 0, "itself": 1}
    rows.sort(key=lambda row: (order[str(row["Made against"])], row["Images"] == "rounded"))
    return pd.DataFrame(rows)


def fall(rows: pd.DataFrame, stages: Sequence[tuple[str, str, bool]]) -> list[Step]:
    """What each of several causes takes from the images that fool, one after the other.

    Args:
        rows: columns `outcomes.TRANSFER_COLUMNS`, of one epsilon, against the original.
        stages: (label, network, whether images are rounded), from first to last.
    """
    steps: list[Step] = []
    before: NDArray[np.float64] | None = None
    for label, model, rounded in stages:
        shares, seeds = fooled_shares(rows[rows["rounded"] == rounded], model)
        interval = _interval(shares, seeds, len(shares) * seeds)
        change = compare_pairs(shares, before) if before is not None else None
        steps.append(
            Step(
                label, float(shares.mean()), interval.low, interval.high,
                change.mean if change else 0.0, change.low if change else 0.0,
                change.high if change else 0.0,
            )
        )  # fmt: skip
        before = shares
    return steps


def fall_for_reading(steps: Sequence[Step]) -> pd.DataFrame:
    """The steps as text."""
    return pd.DataFrame(
        {
            "Step": [step.label for step in steps],
            "Still fool (%)": [
                f"{percent(step.rate)} ({percent(step.low)}–{percent(step.high)})" for step in steps
            ],
            "Change (points)": [
                f"{100 * step.change:+.1f} ({100 * step.change_low:+.1f} to {100 * step.change_high:+.1f})"
                if index
                else ""
                for index, step in enumerate(steps)
            ],
        }
    )


def of_the_smallest_epsilon(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of images made against the original at the smallest epsilon: minimal, if it is there."""
    against = rows[rows["against"] == "original"]
    epsilons = [str(epsilon) for epsilon in against["epsilon"].unique()]
    wanted = "minimal" if "minimal" in epsilons else min(epsilons, key=float)
    return against[against["epsilon"] == wanted]


def fooled_shares(rows: pd.DataFrame, model: str) -> tuple[NDArray[np.float64], int]:
    """(N,) of each image the share of training seeds whose network it fools, and how many seeds."""
    own = rows[rows["model"] == model]
    return np.asarray(_shares(own), dtype=np.float64), int(own["training_seed"].nunique())


def _shares(rows: pd.DataFrame) -> "pd.Series[float]":
    """Of each image, the share of training seeds whose network it fools."""
    return rows.assign(image=rows["image"].astype(str)).groupby("image")["wrong"].mean()


def _row(own: pd.DataFrame, reference: "pd.Series[float] | None") -> dict[str, object]:
    shares, seeds = _shares(own), int(own["training_seed"].nunique())
    interval = _interval(np.asarray(shares, dtype=np.float64), seeds, len(own))
    row: dict[str, object] = {
        "training_seeds": seeds,
        "images": len(shares),
        "fooled": int(own["wrong"].sum()),
        "fooled_rate": float(shares.mean()),
        "ci_low": interval.low,
        "ci_high": interval.high,
    }
    if reference is None:
        return row
    one, two = shares.to_numpy(), reference.loc[shares.index].to_numpy()
    difference = compare_pairs(one, two)
    return row | {
        "difference": difference.mean,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "difference_p": difference.p,
    }


def _interval(shares: NDArray[np.float64], seeds: int, outcomes: int) -> Interval:
    """Wilson's interval on the effective sample size, as in `pixelrobust.statistics`.

    Args:
        shares: (N,) of each image, of the seeds that it was shown to.
        seeds: at most so many of each image: those against the networks themselves need not be the
            same for all seeds.
        outcomes: how many there are altogether.
    """
    n = min(effective_sample_size(shares, seeds), outcomes)
    return wilson_interval(float(shares.mean()), n)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
