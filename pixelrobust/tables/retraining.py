"""Tables of retrained networks: training by testing, what still fools them, distances to the boundary.

Training seeds are averaged for each image before anything else, and intervals are over images: they
hold for networks of just these seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.outcomes.kinds import CELL_COLUMNS, HELDOUT, ORIGINAL, SAME, UNCHANGED
from pixelrobust.outcomes.rows import cell_in, cell_of
from pixelrobust.perturbation.grid import AmplitudeShare, Cell
from pixelrobust.settings import MINIMAL, overshoot_of
from pixelrobust.statistics.paired import (
    compare_pairs,
    holm,
    interval_over_seeds,
    mean_interval,
    sign_flip_test,
)
from pixelrobust.statistics.rates import (
    CONFIDENCE,
    Interval,
    WrongShares,
    effective_sample_size,
    wilson_interval,
)
from pixelrobust.tables.adversarial import is_restored
from pixelrobust.tables.rates import SUMMARY_COLUMNS, percent, points, rate_with_interval, summarize

REFERENCES = ("baseline", "unchanged")
"""What retrained networks are compared with: the original, and retraining on unchanged images."""

TRANSFER_SUMMARY = [
    "against", "epsilon", "rounded", "model", "training_seeds", "images", "fooled", "fooled_rate",
    "ci_low", "ci_high", "difference", "difference_low", "difference_high", "difference_p",
]  # fmt: skip
_DIFFERENCE = ("difference", "low", "high", "p")
_CHANGE = ("change", "low", "high", "p", "grown", "compared")


def find_references(rows: pd.DataFrame) -> dict[str, str]:
    """Return the names of the reference networks among those of the rows, by `REFERENCES`."""
    models = [str(model) for model in rows["model"].unique()]
    return {
        reference: model
        for reference, ending in zip(REFERENCES, (ORIGINAL, UNCHANGED), strict=True)
        for model in models
        if model.endswith(ending)
    }


def retrained_on_pixels(rows: pd.DataFrame) -> list[str]:
    """Return the networks that were retrained on changed pixels, from the fewest to the most."""
    models = [str(model) for model in rows["model"].unique()]
    own = [model for model in models if model.rpartition("-")[2].isdigit()]
    return sorted(own, key=lambda model: int(model.rpartition("-")[2]))


def most_telling(rows: pd.DataFrame) -> str:
    """Return which test images say most: heldout ones where there are any, else those trained on."""
    return HELDOUT if HELDOUT in set(rows["images_are"]) else SAME


def summarize_retraining(
    outcomes: pd.DataFrame,
    image_size: tuple[int, int] | None = None,
    amplitude_share: AmplitudeShare = "range",
) -> pd.DataFrame:
    """Summarize each set of test images, network and test cell (the paper's Table 10).

    Args:
        outcomes: columns of `pixelrobust.outcomes.kinds.RETRAINING`.
        image_size: (height, width), for the Pixel-index; None: as the outcomes say.
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


def pool_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return outcomes of one set of test images, every seed's draws as draws of their own.

    Rates are then means over seeds too. Intervals stay intervals over images, for networks of just
    these seeds: a handful of retrainings says little about all others.
    """
    draws = int(rows["draw"].max()) + 1
    seeds = {seed: rank for rank, seed in enumerate(sorted(rows["training_seed"].unique()))}
    return rows.assign(draw=rows["draw"] + draws * rows["training_seed"].map(seeds).astype("int32"))


class SeedShares:
    """Shares of draws that were wrong: of each image and training seed, for some networks.

    Args:
        rows: columns of `pixelrobust.outcomes.kinds.RETRAINING`, of one set of test images.
        models: the networks. One that was not retrained has one seed; it counts beside every seed.
        right: keep, of each seed, only images that all these networks classify correctly unchanged,
            as Experiments 1 to 3 do (Section 6.1.1).
    """

    def __init__(self, rows: pd.DataFrame, models: Sequence[str], right: bool = False) -> None:
        own = rows[rows["model"].isin(list(models))].astype({"model": str, "image": str})
        seeds = set(own["training_seed"])
        parts = [own]
        for _, of_one in own.groupby("model", sort=False):
            known = set(of_one["training_seed"])
            if len(known) == 1:
                parts += [of_one.assign(training_seed=seed) for seed in sorted(seeds - known)]
        whole = pd.concat(parts)
        groups = whole.groupby(CELL_COLUMNS, dropna=False)
        named = {number: cell_of(rows) for number, (_, rows) in enumerate(groups)}
        whole["cell"] = groups.ngroup().map(named)
        table = whole.groupby(["image", "training_seed", "model", "cell"], sort=False)["wrong"]
        self._shares = table.mean().unstack(["model", "cell"]).sort_index()  # noqa: PD010
        self.draws = int(own["draw"].max()) + 1 if len(own) else 1
        if right:
            unchanged = self._shares.loc[
                :, self._shares.columns.get_level_values("cell") == Cell(0)
            ]
            self._shares = self._shares[(unchanged == 0).all(axis=1)]

    @property
    def images(self) -> int:
        """Count the images that are left under one seed at least."""
        return self._shares.index.get_level_values("image").nunique()

    def has(self, model: str, *cells: Cell) -> bool:
        """Tell whether the rows hold this network in all these cells, and an image is left."""
        return len(self._shares) > 0 and all((model, cell) in self._shares for cell in cells)

    def of(self, model: str, *cells: Cell) -> "pd.Series[float]":
        """Return of each image and seed the share of draws that were wrong, mean of these cells."""
        return self._shares[[(model, cell) for cell in cells]].mean(axis=1)


@dataclass(frozen=True)
class Contrast:
    """Result of comparing two networks, in share units.

    Attributes:
        mean: of first minus second, over images; of each image the mean over the seeds.
        low, high: its interval over images, for networks of just these seeds.
        seeds_low, seeds_high: the interval over images and seeds; with one seed the same.
        p: two-sided, over images, that it is 0, not corrected.
        images: how many.
    """

    mean: float
    low: float
    high: float
    seeds_low: float
    seeds_high: float
    p: float
    images: int


def contrast(
    first: "pd.Series[float]", second: "pd.Series[float]", confidence: float = CONFIDENCE
) -> Contrast:
    """Compare wrong rates, each given as shares in 0..1 of each image and seed."""
    one, two = (shares.groupby(level="image").mean().to_numpy() for shares in (first, second))
    pair = compare_pairs(one, two, confidence)
    means = (first - second).groupby(level="training_seed").mean()
    whole = interval_over_seeds(pair.mean, Interval(pair.low, pair.high), means, confidence)
    return Contrast(pair.mean, pair.low, pair.high, whole.low, whole.high, pair.p, len(one))


def contrast_of_rises(
    shares: SeedShares, first: str, second: str, *cells: Cell, confidence: float = CONFIDENCE
) -> Contrast:
    """Compare how much wrong rates rise from the unchanged images: the difference in differences.

    (wrong of first here - unchanged) - (wrong of second here - unchanged), in -2..2. Unlike rates on
    images that are right unchanged, it leaves no image out.

    Args:
        shares: of all images.
        first, second: the networks.
        cells: rates are means of these.
        confidence: of the intervals, in 0..1.
    """
    unchanged = Cell(0)
    # Halves of sums are shares again, and their difference is half of that in differences.
    half = contrast(
        (shares.of(first, *cells) + shares.of(second, unchanged)) / 2,
        (shares.of(second, *cells) + shares.of(first, unchanged)) / 2,
        confidence,
    )
    mean, low, high, seeds_low, seeds_high, p, images = astuple(half)
    return Contrast(2 * mean, 2 * low, 2 * high, 2 * seeds_low, 2 * seeds_high, p, images)


def summarize_right(rows: pd.DataFrame) -> pd.DataFrame:
    """Summarize wrong rates on images that the compared networks classify correctly unchanged.

    These are the original network, the one retrained on unchanged images, and those retrained on
    changed pixels.

    Args:
        rows: columns of `pixelrobust.outcomes.kinds.RETRAINING`.

    Returns:
        Columns images_are, training_seeds, model, num, amplitude, area, images (right under one seed
        at least), outcomes, wrong_rate (over images, of each the mean over its seeds) with its 95 %
        intervals ci_low and ci_high over images, seeds_low and seeds_high over images and seeds;
        no row where no image is left.
    """
    references = find_references(rows)
    compared = [*references.values(), *retrained_on_pixels(rows)]
    found = []
    for kind, own in rows.groupby("images_are", observed=True, sort=False):
        shares = SeedShares(own, compared, right=True)
        for model, cell in _changed_cells(own, compared):
            if shares.has(model, cell):
                found.append(
                    {"images_are": str(kind), "model": model} | _right_row(shares, model, cell)
                )
    columns = ["images_are", "training_seeds", "model", *CELL_COLUMNS, "images", "outcomes",
               "wrong_rate", "ci_low", "ci_high", "seeds_low", "seeds_high"]  # fmt: skip
    return pd.DataFrame(found, columns=columns).astype({"amplitude": "Int16", "area": "Int32"})


def summarize_rises(rows: pd.DataFrame) -> pd.DataFrame:
    """Summarize the difference in differences of each network and cell, against the control.

    The control is the network retrained on unchanged images.

    Args:
        rows: columns of `pixelrobust.outcomes.kinds.RETRAINING`.

    Returns:
        Columns images_are, training_seeds, model, num, amplitude, area, images, and of
        `contrast_of_rises` difference, low, high, seeds_low, seeds_high, and p after Holm's
        correction over the rows of these images; no row without a control.
    """
    control = find_references(rows).get("unchanged")
    columns = ["images_are", "training_seeds", "model", *CELL_COLUMNS, "images", "difference",
               "low", "high", "seeds_low", "seeds_high", "p"]  # fmt: skip
    parts = [pd.DataFrame(columns=columns)]
    for kind, own in rows.groupby("images_are", observed=True, sort=False):
        models = [str(model) for model in own["model"].unique()]
        shares = SeedShares(own, models)
        seeds = own.groupby("model", observed=True)["training_seed"].nunique()
        found = []
        for model, cell in _changed_cells(own, models):
            cells = (cell, Cell(0))
            if not control or model == control or not shares.has(control, *cells):
                continue
            pair = contrast_of_rises(shares, model, control, cell)
            found.append(
                {"images_are": str(kind), "model": model, "training_seeds": int(seeds[model])}
                | asdict(cell)
                | asdict(pair)
                | {"difference": pair.mean}
            )
        table = pd.DataFrame(found, columns=columns)
        parts.append(table.assign(p=_corrected(table["p"])))
    whole = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return whole.astype({"amplitude": "Int16", "area": "Int32"})


def rates_of_right_for_reading(summary: pd.DataFrame) -> pd.DataFrame:
    """Return rates of `summarize_right` as text, laid out like the matrix, with intervals over both."""
    entries = [
        rate_with_interval(
            row["wrong_rate"], {"ci_low": row["seeds_low"], "ci_high": row["seeds_high"]}
        )
        for row in summary.to_dict("records")
    ]
    return _laid_out(summary, entries)


def rises_for_reading(summary: pd.DataFrame) -> pd.DataFrame:
    """Return differences of `summarize_rises` as text, in points, with intervals over both."""
    entries = []
    for row in summary.to_dict("records"):
        low, high = row["seeds_low"], row["seeds_high"]
        star = " *" if row["p"] < 0.05 and not low <= 0 <= high else ""
        entries.append(f"{points(row['difference'], low, high)}{star}")
    return _laid_out(summary, entries)


def _changed_cells(rows: pd.DataFrame, models: Sequence[str]) -> Iterator[tuple[str, Cell]]:
    """Yield networks with the changed cells that they were tested in, in the order of the rows."""
    tested = rows.loc[rows["num"] > 0, ["model", *CELL_COLUMNS]].drop_duplicates()
    for row in tested.to_dict("records"):
        if str(row["model"]) in models:
            yield str(row["model"]), cell_in(row)


def _right_row(shares: SeedShares, model: str, cell: Cell) -> dict[str, object]:
    own = shares.of(model, cell)
    by_image = np.asarray(own.groupby(level="image").mean(), dtype=np.float64)
    means = own.groupby(level="training_seed").mean()
    seeds, outcomes = len(means), len(own) * shares.draws
    rate = float(by_image.mean())
    interval = _interval(by_image, seeds * shares.draws, outcomes)
    whole = interval_over_seeds(rate, interval, means)
    return asdict(cell) | {
        "training_seeds": seeds, "images": len(by_image), "outcomes": outcomes, "wrong_rate": rate,
        "ci_low": interval.low, "ci_high": interval.high,
        "seeds_low": max(whole.low, 0.0), "seeds_high": min(whole.high, 1.0),
    }  # fmt: skip


def matrix_for_reading(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the matrix as text: a row for each set of images and network, a column a test cell."""
    entries = [rate_with_interval(row["wrong_rate"], row) for row in summary.to_dict("records")]
    return _laid_out(summary, entries)


def differences_for_reading(summary: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Return differences to a reference as text, in points, laid out like the matrix."""
    compared = summary[summary[f"{reference}_difference"].notna()]
    entries = []
    for row in compared.to_dict("records"):
        value, low, high, p = (row[f"{reference}_{end}"] for end in _DIFFERENCE)
        star = " *" if p < 0.05 else ""
        entries.append(f"{points(value, low, high)}{star}")
    return _laid_out(compared, entries)


def _with_differences(
    table: pd.DataFrame, shares: WrongShares, reference: str, name: str | None
) -> pd.DataFrame:
    """Return the table with each row's difference to the reference network of this name."""
    found = []
    for row in table.to_dict("records"):
        model, cell = str(row["model"]), cell_in(row)
        if name is None or model == name or name not in shares.models:
            found.append((np.nan,) * len(_DIFFERENCE))
            continue
        pair = compare_pairs(shares.of(model, cell), shares.of(name, cell))
        found.append(astuple(pair))
    names = [f"{reference}_{end}" for end in _DIFFERENCE]
    columns = pd.DataFrame(found, columns=names, index=table.index)
    corrected = _corrected(columns[f"{reference}_p"])
    return pd.concat([table, columns.assign(**{f"{reference}_p": corrected})], axis=1)


def _corrected(p_values: "pd.Series[float]") -> "pd.Series[float]":
    """Correct the p-values that are there, by Holm's method."""
    tested = p_values.dropna()
    return pd.Series(holm(tested.to_numpy(float)), tested.index).reindex(p_values.index)


def _laid_out(summary: pd.DataFrame, entries: list[str]) -> pd.DataFrame:
    """Lay entries of a summary's rows out, a row for each set of images and network."""
    records = summary.to_dict("records")
    headings = []
    for row in records:
        cell = cell_in(row)
        amplitude = "" if cell.amplitude is None else f", ±{cell.amplitude}"
        area = "" if cell.area is None else f", {cell.area} × {cell.area}"
        headings.append(f"{cell.num}{amplitude}{area}")
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row, heading, entry in zip(records, headings, entries, strict=True):
        kind, model = str(row["images_are"]), str(row["model"])
        empty = {"Tested on": kind, "Network": model, **dict.fromkeys(headings, "")}
        rows.setdefault((kind, model), empty)[heading] = entry
    return pd.DataFrame(list(rows.values()))


def _by_image(rows: pd.DataFrame, column: str) -> "pd.Series[float]":
    """Return the mean of a column over seeds, for each image."""
    return rows.groupby(rows["image"].astype(str))[column].mean()


# Adversarial images that still fool (the paper's Table 11)


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
    change: float = 0.0
    change_low: float = 0.0
    change_high: float = 0.0


def summarize_transfer(rows: pd.DataFrame, control: str) -> pd.DataFrame:
    """Summarize how many adversarial images fool each network.

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
        reference = _by_image(group[group["model"] == control], "wrong")
        for model, own in group.groupby("model", observed=True, sort=False):
            shares, seeds = fooled_shares(own, str(model))
            interval = _interval(shares, seeds, len(own))
            row: dict[str, object] = {
                "against": against,
                "epsilon": epsilon,
                "rounded": rounded,
                "model": str(model),
                "training_seeds": seeds,
                "images": len(shares),
                "fooled": int(own["wrong"].sum()),
                "fooled_rate": float(shares.mean()),
                "ci_low": interval.low,
                "ci_high": interval.high,
            }
            if against == "original" and model != control and len(reference):
                same = reference.loc[_by_image(own, "wrong").index]
                pair = compare_pairs(shares, same.to_numpy())
                row |= dict(zip(TRANSFER_SUMMARY[-4:], astuple(pair), strict=True))
            found.append(row)
    summary = pd.DataFrame(found, columns=TRANSFER_SUMMARY)
    return summary.assign(difference_p=_corrected(summary["difference_p"]))


def transfer_for_reading(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the summary as text: a row for each kind of image and network, a column an epsilon."""
    epsilons = list(dict.fromkeys(summary["epsilon"].astype(str)))
    rows, keys = [], ["against", "rounded", "model"]
    for (against, rounded, model), group in summary.groupby(keys, observed=True, sort=False):
        entries = {
            str(row["epsilon"]): rate_with_interval(row["fooled_rate"], row)
            for row in group.to_dict("records")
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


def fall(rows: pd.DataFrame, stages: Sequence[tuple[str, str, bool | None]]) -> list[Step]:
    """Find what each of several causes takes from the images that fool, one after the other.

    Args:
        rows: columns of `pixelrobust.outcomes.kinds.TRANSFER`, of one epsilon, against the original.
        stages: (label, network, whether images are rounded; None: those that rounding turns back into
            the original), from first to last.
    """
    steps: list[Step] = []
    before: NDArray[np.float64] | None = None
    for label, model, rounded in stages:
        shown = rows["rounded"] == (is_restored(rows) if rounded is None else rounded)
        shares, seeds = fooled_shares(rows[shown], model)
        interval = _interval(shares, seeds, len(shares) * seeds)
        change = () if before is None else astuple(compare_pairs(shares, before))[:3]
        steps.append(Step(label, float(shares.mean()), interval.low, interval.high, *change))
        before = shares
    return steps


def fall_for_reading(steps: Sequence[Step]) -> pd.DataFrame:
    """Return the steps as text."""
    rates = [f"{percent(step.rate)} ({percent(step.low)}–{percent(step.high)})" for step in steps]
    changes = [points(step.change, step.change_low, step.change_high) for step in steps[1:]]
    labels = [step.label for step in steps]
    return pd.DataFrame(
        {"Step": labels, "Still fool (%)": rates, "Change (points)": ["", *changes]}
    )


def of_the_smallest_epsilon(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows made against the original at the smallest epsilon."""
    against = rows[rows["against"] == "original"]
    epsilons = [str(epsilon) for epsilon in against["epsilon"].unique()]
    return against[against["epsilon"] == min(epsilons, key=_smallness)]


def _smallness(epsilon: str) -> tuple[int, float]:
    """Return what epsilons are sorted by: the images' smallest, its multiples, then numbers."""
    overshoot = overshoot_of(epsilon)
    if overshoot is not None:
        return 1, overshoot
    return (0, 0.0) if epsilon == MINIMAL else (2, float(epsilon))


def fooled_shares(rows: pd.DataFrame, model: str) -> tuple[NDArray[np.float64], int]:
    """Return (N,) of each image the share of seeds whose network it fools, and how many seeds."""
    own = rows[rows["model"] == model]
    shares = np.asarray(_by_image(own, "wrong"), dtype=np.float64)
    return shares, int(own["training_seed"].nunique())


def _interval(shares: NDArray[np.float64], seeds: int, outcomes: int) -> Interval:
    """Return Wilson's interval on the effective sample size, as in `pixelrobust.statistics.rates`.

    Args:
        shares: (N,) of each image, of the seeds that it was shown to.
        seeds: at most so many of each image: those against the networks themselves need not be the
            same for all seeds.
        outcomes: how many there are altogether.
    """
    n = min(effective_sample_size(shares, seeds), outcomes)
    return wilson_interval(float(shares.mean()), n)


# Distances of images to the classification boundary (the paper's Eq. 3 to 6)


def summarize_distances(rows: pd.DataFrame, references: dict[str, str]) -> pd.DataFrame:
    """Summarize distances of each network, and their changes in pairs of one image each.

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
        distances = _by_image(own, "distance")
        finite = np.isfinite(own[["distance", "measured"]].to_numpy(float)).all(axis=1)
        row: dict[str, Any] = {
            "images_are": kind,
            "model": str(model),
            "training_seeds": int(own["training_seed"].nunique()),
            "images": len(distances),
            "median": float(distances.median()),
            "mean": float(distances.mean()),
            "measured": own.loc[finite, "image"].nunique(),
            "correlation": _rank_correlation(own[finite]),
        }
        same_kind = rows[rows["images_are"] == kind]
        for name, reference in references.items():
            changes = np.asarray(changes_by_image(same_kind, str(model), reference), np.float64)
            # With itself nothing is compared.
            row |= _change(name, changes if model != reference else changes[:0])
        found.append(row)
    summary = pd.DataFrame(found).sort_values(
        "images_are", key=lambda kinds: pd.factorize(kinds)[0], kind="stable", ignore_index=True
    )
    for column in [f"{name}_p" for name in references]:
        summary[column] = summary.groupby("images_are")[column].transform(_corrected)
    return summary


def distances_for_reading(summary: pd.DataFrame, references: dict[str, str]) -> pd.DataFrame:
    """Return the summary as text."""
    rows = summary.to_dict("records")
    table = {
        "Images": summary["images_are"].astype(str),
        "Network": summary["model"],
        "Median r": [f"{row['median']:.3g}" for row in rows],
        "Mean r": [f"{row['mean']:.3g}" for row in rows],
    }
    if summary["measured"].any():
        table["Rank correlation with DeepFool"] = [
            ""
            if pd.isna(row["correlation"])
            else f"{row['correlation']:.2f} ({row['measured']} images)"
            for row in rows
        ]
    for name, reference in references.items():
        table[f"Change from {reference}"] = [_readable_change(row, name) for row in rows]
    return pd.DataFrame(table)


def changes_by_image(rows: pd.DataFrame, model: str, reference: str) -> "pd.Series[float]":
    """Return (N,) change of each image's distance, mean over training seeds, from the reference's.

    Images whose distance from either is not finite, where gradients vanish, are left out.
    """
    after, before = (
        _by_image(rows[rows["model"] == one], "distance") for one in (model, reference)
    )
    changes = after - before
    return changes[np.isfinite(changes)]


def _rank_correlation(rows: pd.DataFrame) -> float:
    """Return Spearman's, over images; of each the means over seeds."""
    means = rows.groupby(rows["image"].astype(str))[["distance", "measured"]].mean()
    if (means.nunique() < 2).any():
        return np.nan
    return float(means["distance"].corr(means["measured"], method="spearman"))


def _change(name: str, changes: NDArray[np.float64]) -> dict[str, float]:
    """Return the mean of changes with interval and test; missing where there are fewer than two."""
    values: Sequence[float] = (np.nan,) * len(_CHANGE)
    if len(changes) > 1:
        interval = mean_interval(changes)
        p, grown = sign_flip_test(changes), float((changes > 0).mean())
        values = (float(changes.mean()), interval.low, interval.high, p, grown, len(changes))
    return {f"{name}_{end}": value for end, value in zip(_CHANGE, values, strict=True)}


def _readable_change(row: dict[Any, Any], name: str) -> str:
    change, low, high, p, grown, _ = (row[f"{name}_{end}"] for end in _CHANGE)
    if pd.isna(change):
        return ""
    star = " *" if p < 0.05 else ""
    return f"{change:+.3g} ({low:+.3g} to {high:+.3g}){star}; {100 * grown:.0f} % grow"
