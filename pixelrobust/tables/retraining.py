"""Tables of retrained networks: the matrix of training by testing, and differences in pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.outcomes.kinds import HELDOUT, ORIGINAL, SAME, UNCHANGED
from pixelrobust.perturbation.grid import AmplitudeShare, Cell
from pixelrobust.statistics.paired import compare_pairs, holm, mean_interval, sign_flip_test
from pixelrobust.statistics.rates import (
    Interval,
    WrongShares,
    effective_sample_size,
    wilson_interval,
)
from pixelrobust.tables.rates import SUMMARY_COLUMNS, percent, rate_with_interval, summarize

REFERENCES = ("baseline", "unchanged")
"""What retrained networks are compared with: the original, and retraining on unchanged images."""

_DIFFERENCE = ("difference", "low", "high", "p")


def summarize_retraining(
    outcomes: pd.DataFrame,
    image_size: tuple[int, int] = (224, 224),
    amplitude_share: AmplitudeShare = "range",
) -> pd.DataFrame:
    """One row for each set of test images, network and test cell.

    Args:
        outcomes: columns of `pixelrobust.outcomes.kinds.RETRAINING`.
        image_size: (height, width), for the Pixel-index.
        amplitude_share: see `pixelrobust.perturbation.grid`.

    Returns:
        Columns images_are ("same" as trained on, or "heldout"), training_seeds, those of
        `pixelrobust.tables.rates.summarize` (draws counts those of all seeds; intervals are over images),
        and for each reference <name>_difference in -1..1, the network's wrong rate minus the
        reference's on the same images, with its 95 % interval <name>_low and <name>_high, and
        <name>_p after Holm's correction over the rows of these images; missing for itself.
    """
    references = find_references(outcomes)
    parts = []
    for kind, rows in outcomes.groupby("images_are", observed=True, sort=False):
        pooled = pool_seeds(rows)
        summary = summarize(pooled, image_size, amplitude_share)
        seeds = rows.groupby("model", observed=True)["training_seed"].nunique()
        table = summary.assign(images_are=str(kind), training_seeds=summary["model"].map(seeds))
        shares = WrongShares(pooled)
        for reference in REFERENCES:
            table = _with_differences(table, shares, reference, references.get(reference))
        parts.append(table)
    columns = ["images_are", "training_seeds", *SUMMARY_COLUMNS]
    columns += [f"{name}_{end}" for name in REFERENCES for end in _DIFFERENCE]
    return pd.concat(parts, ignore_index=True)[columns].astype({"training_seeds": "int64"})


def find_references(rows: pd.DataFrame) -> dict[str, str]:
    """The names of the reference networks among those of the rows, by `REFERENCES`."""
    endings = dict(zip(REFERENCES, (ORIGINAL, UNCHANGED), strict=True))
    models = [str(model) for model in rows["model"].unique()]
    return {
        reference: model
        for reference, ending in endings.items()
        for model in models
        if model.endswith(ending)
    }


def retrained_on_pixels(rows: pd.DataFrame) -> list[str]:
    """The networks that were retrained on changed pixels, from the fewest to the most."""
    models = [str(model) for model in rows["model"].unique()]
    own = [model for model in models if model.rpartition("-")[2].isdigit()]
    return sorted(own, key=lambda model: int(model.rpartition("-")[2]))


def most_telling(rows: pd.DataFrame) -> str:
    """Which of the test images say most: heldout ones where there are any, else those trained on."""
    kinds = {str(kind) for kind in rows["images_are"].unique()}
    return HELDOUT if HELDOUT in kinds else SAME


def matrix_for_reading(summary: pd.DataFrame) -> pd.DataFrame:
    """The matrix as text: a row for each set of images and network, a column for each test cell."""
    entries = [rate_with_interval(row["wrong_rate"], row) for row in _records(summary)]
    return _laid_out(summary, entries)


def differences_for_reading(summary: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Differences to a reference as text, in points, laid out like the matrix."""
    compared = summary[summary[f"{reference}_difference"].notna()]
    return _laid_out(compared, [_difference(row, reference) for row in _records(compared)])


def pool_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Outcomes of one set of test images, every training seed's draws as draws of their own.

    Rates are then means over seeds too. Intervals stay intervals over images, for networks of just
    these seeds: a handful of retrainings says little about all others.
    """
    draws = int(rows["draw"].max()) + 1
    seeds = {seed: rank for rank, seed in enumerate(sorted(rows["training_seed"].unique()))}
    return rows.assign(draw=rows["draw"] + draws * rows["training_seed"].map(seeds).astype("int32"))


def _with_differences(
    table: pd.DataFrame, shares: WrongShares, reference: str, name: str | None
) -> pd.DataFrame:
    found = [
        _compare(shares, str(row["model"]), name, _cell(row))
        if name in shares.models and row["model"] != name
        else (np.nan,) * len(_DIFFERENCE)
        for row in _records(table)
    ]
    columns = pd.DataFrame(
        found, columns=[f"{reference}_{end}" for end in _DIFFERENCE], index=table.index
    )
    p = columns[f"{reference}_p"].astype(float)
    tested = p.notna()
    columns.loc[tested, f"{reference}_p"] = holm(p[tested].to_numpy())
    return pd.concat([table, columns], axis=1)


def _compare(
    shares: WrongShares, model: str, reference: str | None, cell: Cell
) -> tuple[float, float, float, float]:
    assert reference
    found = compare_pairs(shares.of(model, cell), shares.of(reference, cell))
    return found.mean, found.low, found.high, found.p


def _laid_out(summary: pd.DataFrame, entries: list[str]) -> pd.DataFrame:
    """Entries of the summary's rows, a row for each set of images and network."""
    headings = _headings(summary)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row, heading, entry in zip(_records(summary), headings, entries, strict=True):
        kind, model = str(row["images_are"]), str(row["model"])
        empty = {"Tested on": kind, "Network": model, **dict.fromkeys(headings, "")}
        rows.setdefault((kind, model), empty)[heading] = entry
    return pd.DataFrame(list(rows.values()))


def _headings(summary: pd.DataFrame) -> list[str]:
    """Of each row the num, with amplitude and area where they limit anything."""
    texts = []
    for row in _records(summary):
        cell = _cell(row)
        amplitude = "" if cell.amplitude is None else f", ±{cell.amplitude}"
        area = "" if cell.area is None else f", {cell.area} × {cell.area}"
        texts.append(f"{cell.num}{amplitude}{area}")
    return texts


def _cell(row: dict[str, Any]) -> Cell:
    limits = (None if pd.isna(row[key]) else int(row[key]) for key in ("amplitude", "area"))
    return Cell(int(row["num"]), *limits)


def _difference(row: dict[str, Any], reference: str) -> str:
    value, low, high, p = (row[f"{reference}_{end}"] for end in _DIFFERENCE)
    star = " *" if p < 0.05 else ""
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}){star}"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


# Do images that fool the original network still fool retrained ones? Tables, and the paper's
# fall.

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
        rows: columns of `pixelrobust.outcomes.kinds.TRANSFER`.
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
            for row in _records_transfer(group)
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
        rows: columns of `pixelrobust.outcomes.kinds.TRANSFER`, of one epsilon, against the original.
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
    """Wilson's interval on the effective sample size, as in `pixelrobust.statistics.rates`.

    Args:
        shares: (N,) of each image, of the seeds that it was shown to.
        seeds: at most so many of each image: those against the networks themselves need not be the
            same for all seeds.
        outcomes: how many there are altogether.
    """
    n = min(effective_sample_size(shares, seeds), outcomes)
    return wilson_interval(float(shares.mean()), n)


def _records_transfer(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


# Does the distance of samples to the classification boundary grow? (The paper's Eq. 3 to 6.)

_CHANGE = ("change", "low", "high", "p", "grown", "compared")


def summarize_distances(rows: pd.DataFrame, references: dict[str, str]) -> pd.DataFrame:
    """Distances of each network, and their changes from references in pairs of one image each.

    Args:
        rows: columns of `pixelrobust.outcomes.kinds.DISTANCES`; distances are L2 in [0, 1] pixel space.
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
    return _difference_distance_tables(
        *(_by_image(rows[rows["model"] == name]) for name in (model, reference))
    )


def _by_image(rows: pd.DataFrame) -> "pd.Series[float]":
    return rows.assign(image=rows["image"].astype(str)).groupby("image")["distance"].mean()


def _difference_distance_tables(
    after: "pd.Series[float]", before: "pd.Series[float]"
) -> "pd.Series[float]":
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
    changes = _difference_distance_tables(after, before).to_numpy()
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
