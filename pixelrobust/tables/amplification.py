"""Amplification: are small pixel changes "magnified inside the model" (the paper's Section 3)?

Answered from a table of how far images' activations move, layer by layer, relative to their size:
for a few changed pixels, and, as the control that the paper lacks, for Gaussian noise of the same
L2 norm. `pixelrobust.evaluation.activations` measures it; nothing here needs torch.

Relative to what, depends on where 0 lies: normalisation alone, which takes the mean away, doubles
relative changes of photographs. An amplification above 1 therefore says little by itself; it is the
two changes of one image, which pass through the same layers, that can be compared.
"""

import math
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from pixelrobust.errors import InputError
from pixelrobust.outcomes.kinds import CELL_COLUMNS
from pixelrobust.outcomes.rows import cell_of
from pixelrobust.statistics.rates import CONFIDENCE

CHANGES = ("pixels", "noise")


def summarize_amplification(changes: pd.DataFrame) -> pd.DataFrame:
    """Summarize changes by change and layer: medians and quartiles over images.

    Args:
        changes: from `pixelrobust.evaluation.activations.layer_changes`. Images whose input did not change, or
            whose noise does not match, are left out.

    Returns:
        Columns change, layer, depth, images, relative_change with relative_change_q1 and _q3, and
        amplification with _q1 and _q3: relative_change as a multiple of the same image's at the
        input, above 1 where the difference has grown.
    """
    columns = ["relative_change", "amplification"]
    by = ["change", "layer", "depth"]
    groups = _amplifications(changes).groupby(by, observed=True, sort=False)
    parts = [groups["amplification"].count().to_frame("images")]
    for suffix, share in (("", 0.5), ("_q1", 0.25), ("_q3", 0.75)):
        parts.append(groups[columns].quantile(share).add_suffix(suffix))
    table = pd.concat(parts, axis=1)
    names = [f"{column}{suffix}" for column in columns for suffix in ("", "_q1", "_q3")]
    return table[["images", *names]].reset_index()


@dataclass(frozen=True)
class Estimate:
    """A value and its two-sided 95 % interval; NaN where too few images give none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AmplificationVerdict:
    """Hold what the logits say, over images.

    Attributes:
        images: that the estimates rest on.
        left_out: images without comparable or finite changes.
        pixels, noise: median amplification from input to logits, with its distribution-free
            interval.
        log_ratio: mean natural logarithm of amplification of pixels / of noise, in pairs of one image
            each, with its t interval; where norms match, that is the ratio of what the two changes do
            to the logits.
    """

    images: int
    left_out: int
    pixels: Estimate
    noise: Estimate
    log_ratio: Estimate


def amplification_verdict(changes: pd.DataFrame) -> AmplificationVerdict:
    """Estimate how much pixel changes are magnified, and how much more than noise of the same norm.

    Args:
        changes: from `pixelrobust.evaluation.activations.layer_changes`.

    Raises:
        InputError: no image has comparable changes.
    """
    table = _amplifications(changes)
    logits = table[table["depth"] == changes["depth"].max()]
    pairs = logits.pivot_table(
        index="image", columns="change", values="amplification", observed=True
    ).reindex(columns=list(CHANGES))
    usable = pairs[(np.isfinite(pairs) & (pairs > 0)).all(axis=1)]
    if usable.empty:
        raise InputError(
            "no image has comparable pixel and noise changes at the logits; give other images, or "
            "a smaller perturbation.num."
        )
    pixels, noise = (usable[change].to_numpy() for change in CHANGES)
    return AmplificationVerdict(
        images=len(usable),
        left_out=changes["image"].nunique() - len(usable),
        pixels=_median(pixels),
        noise=_median(noise),
        log_ratio=_mean(np.log(pixels / noise)),
    )


def augmentation_ratios(changes: pd.DataFrame) -> dict[str, tuple[Estimate, int]]:
    """Compare how far augmented images lie from their originals at the logits with changed pixels.

    Args:
        changes: as for `amplification_verdict`.

    Returns:
        For each augmentation, the mean natural logarithm of relative change by it / by pixels, in
        pairs of one image each, with its t interval, and how many images it is of; images that an
        augmentation leaves as they are are left out.
    """
    logits = changes[changes["depth"] == changes["depth"].max()]
    table = logits.pivot_table(
        index="image", columns="change", values="relative_change", observed=True
    )
    found = {}
    for name in table.columns.difference(list(CHANGES), sort=False):
        ratio = table[name] / table[CHANGES[0]]
        usable = ratio[np.isfinite(ratio) & (ratio > 0)].to_numpy(dtype=np.float64)
        if len(usable):
            found[str(name)] = _mean(np.log(usable)), len(usable)
    return found


def tabulate_augmentations(changes: pd.DataFrame) -> pd.DataFrame:
    """Tabulate `augmentation_ratios` of each model and cell, a row each.

    Returns:
        Columns model, num, amplitude, area, augmentation, images, and ratio, the geometric mean, with
        its 95 % interval ratio_low and ratio_high.
    """
    groups = changes.groupby(["model", *CELL_COLUMNS], observed=True, dropna=False, sort=False)
    rows = [
        {"model": str(own["model"].iloc[0])}
        | asdict(cell_of(own))
        | {"augmentation": name, "images": images}
        | {
            f"ratio{end}": math.exp(value)
            for end, value in zip(("", "_low", "_high"), astuple(log), strict=True)
        }
        for _, own in groups
        for name, (log, images) in augmentation_ratios(own).items()
    ]
    columns = ["model", *CELL_COLUMNS, "augmentation", "images", "ratio", "ratio_low", "ratio_high"]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({"amplitude": "Int16", "area": "Int32"})


def augmentations_for_reading(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of augmentations as text."""
    return pd.DataFrame(
        {
            "Model": table["model"],
            "Num": table["num"].astype(str),
            "Augmentation": table["augmentation"],
            "Images": table["images"].astype(str),
            "Times as far": [_readable(row, "ratio") for row in table.to_dict("records")],
        }
    )


def tabulate_verdicts(changes: pd.DataFrame) -> pd.DataFrame:
    """Tabulate the verdict of each model and cell, a row each.

    Args:
        changes: from `pixelrobust.evaluation.activations.layer_changes`, with columns model and of the cell.

    Returns:
        Columns model, num, amplitude, area, images, left_out; pixels, noise: median amplification
        from input to logits; ratio: the geometric mean over images of the one divided by the other;
        each with its 95 % interval; exceeds_noise: yes, no or not decided, by the t interval of the
        mean logarithm of the ratio.
    """
    groups = changes.groupby(["model", *CELL_COLUMNS], observed=True, dropna=False, sort=False)
    rows = [
        {"model": str(rows["model"].iloc[0])}
        | asdict(cell_of(rows))
        | _verdict_row(amplification_verdict(rows))
        for _, rows in groups
    ]
    return pd.DataFrame(rows).astype({"amplitude": "Int16", "area": "Int32"})


def verdicts_for_reading(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the table of verdicts as text, one row a model and cell."""
    rows = verdicts.to_dict("records")
    return pd.DataFrame(
        {
            "Model": verdicts["model"],
            "Num": verdicts["num"].astype(str),
            "Changed pixels": [_readable(row, "pixels") for row in rows],
            "Equal noise": [_readable(row, "noise") for row in rows],
            "Ratio": [_readable(row, "ratio") for row in rows],
            "Magnified more than noise": verdicts["exceeds_noise"],
        }
    )


def _verdict_row(verdict: AmplificationVerdict) -> dict[str, object]:
    log = verdict.log_ratio
    ratio = Estimate(*(math.exp(value) for value in (log.value, log.low, log.high)))
    estimates = (("pixels", verdict.pixels), ("noise", verdict.noise), ("ratio", ratio))
    return {
        "images": verdict.images,
        "left_out": verdict.left_out,
        **{
            f"{name}{end}": value
            for name, estimate in estimates
            for end, value in zip(("", "_low", "_high"), astuple(estimate), strict=True)
        },
        "exceeds_noise": _decision(log),
    }


def _readable(row: dict[Any, Any], name: str) -> str:
    low, high = (row[f"{name}_{end}"] for end in ("low", "high"))
    interval = "no interval" if math.isnan(low + high) else f"{low:.2f}–{high:.2f}"
    return f"{row[name]:.2f} ({interval})"


def _amplifications(changes: pd.DataFrame) -> pd.DataFrame:
    """Return comparable images only, under pixels and noise, with the column amplification."""
    changes = changes[changes["change"].isin(CHANGES)]
    inputs = changes.loc[changes["depth"] == 0, ["image", "change", "relative_change"]]
    unusable = inputs.loc[~(inputs["relative_change"] > 0), "image"]
    kept = changes[changes["matched"] & ~changes["image"].isin(unusable)]
    merged = kept.merge(inputs, how="left", on=["image", "change"], suffixes=("", "_of_input"))
    ratio = merged["relative_change"] / merged["relative_change_of_input"]
    return merged.assign(amplification=ratio)


def _median(values: NDArray[np.float64]) -> Estimate:
    interval: Any = stats.quantile_test(values, p=0.5).confidence_interval(CONFIDENCE)
    return Estimate(float(np.median(values)), float(interval.low), float(interval.high))


def _mean(values: NDArray[np.float64]) -> Estimate:
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Estimate(mean, math.nan, math.nan)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    half_width = quantile * float(values.std(ddof=1)) / math.sqrt(count)
    return Estimate(mean, mean - half_width, mean + half_width)


def _decision(logarithm: Estimate) -> str:
    if logarithm.low > 0:
        return "yes"
    return "no" if logarithm.high < 0 else "not decided"
