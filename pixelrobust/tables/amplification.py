"""Amplification: are small pixel changes "magnified inside the model" (the paper's Section 3)?

Answered from a table of how far images' activations move, layer by layer, relative to their size:
for a few changed pixels, and, as the control that the paper lacks, for Gaussian noise of the same
L2 norm. `pixelrobust.evaluation.activations` measures it; nothing here needs torch.

Relative to what, depends on where 0 lies: normalisation alone, which takes the mean away, doubles
relative changes of photographs. An amplification above 1 therefore says little by itself; it is the
two changes of one image, which pass through the same layers, that can be compared.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
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

_ENDS = ("input", "logits")
_LAYERS_A_BLOCK, _FEWEST_BLOCKS, _BLOCKS_IN_ORDER = 3, 4, 10


def summarize_blocks(changes: pd.DataFrame) -> pd.DataFrame:
    """Summarize how far activations move, for each change and block of layers.

    Args:
        changes: from `pixelrobust.evaluation.activations.layer_changes`. Under pixels and noise, images
            whose input did not change, or whose noise does not match, are left out; under any change,
            images that it does not move.

    Returns:
        Columns change, block, images, relative_change, ci_low, ci_high: the geometric mean over images,
        each image's own geometric mean over the block's layers, with its 95 % t interval; without one
        image that moves, a block has no row.
    """
    blocks = blocks_of(list(changes.sort_values("depth")["layer"].drop_duplicates().astype(str)))
    is_control = changes["change"].isin(CHANGES)
    kept = pd.concat([_comparable(changes), changes[~is_control]])
    kept = kept[np.isfinite(kept["relative_change"]) & (kept["relative_change"] > 0)]
    kept = kept.assign(
        block=kept["layer"].astype(str).map(blocks), log=np.log(kept["relative_change"])
    )
    by_image = kept.groupby(["change", "block", "image"], observed=True, sort=False)["log"].mean()
    groups = dict(list(by_image.groupby(["change", "block"], observed=True, sort=False)))
    rows = []
    for change in map(str, changes["change"].unique()):
        for block in dict.fromkeys(blocks.values()):
            if (change, block) in groups:
                logs = groups[change, block].to_numpy()
                ends = (math.exp(value) for value in astuple(_mean(logs)))
                rows.append((change, block, len(logs), *ends))
    columns = ["change", "block", "images", "relative_change", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def blocks_of(layers: Sequence[str]) -> dict[str, str]:
    """Return the block of each layer, by how the layers' names nest.

    A block is a module that holds several layers, at the first level of nesting where there are
    several such. Layers before the first are the stem, those after the last the head; others belong to
    the block before them. Where modules make no blocks, layers are taken together in their order.

    Args:
        layers: names in the order of execution, "input" first and "logits" last.
    """
    inner = [layer for layer in layers if layer not in _ENDS]
    paths = {layer: layer.partition("#")[0].split(".") for layer in inner}
    if len({path[0] for path in paths.values() if len(path) > 1}) == 1:
        # That of the wrapper which normalises.
        paths = {layer: path[1:] for layer, path in paths.items()}
    for level in range(1, max(map(len, paths.values()), default=0)):
        modules = [".".join(path[:level]) for path in paths.values() if len(path) > level]
        large = [module for module, count in Counter(modules).items() if count >= _LAYERS_A_BLOCK]
        if len(large) >= _FEWEST_BLOCKS:
            own = {layer: ".".join(path[:level]) for layer, path in paths.items()}
            return _nested(layers, {layer: name for layer, name in own.items() if name in large})
    size = math.ceil(len(inner) / _BLOCKS_IN_ORDER)
    blocks = {layer: layer for layer in layers if layer in _ENDS}
    for start in range(0, len(inner), size):
        last = min(start + size, len(inner))
        name = f"layer {last}" if last == start + 1 else f"layers {start + 1}–{last}"
        blocks |= dict.fromkeys(inner[start:last], name)
    return {layer: blocks[layer] for layer in layers}


def _nested(layers: Sequence[str], inside: Mapping[str, str]) -> dict[str, str]:
    """Return the block of each layer, given those of the layers inside blocks."""
    last = max(layers.index(layer) for layer in inside)
    blocks, block = {}, "stem"
    for place, layer in enumerate(layers):
        block = inside.get(layer, "head" if place > last else block)
        blocks[layer] = layer if layer in _ENDS else block
    return blocks


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


def _comparable(changes: pd.DataFrame) -> pd.DataFrame:
    """Return comparable images only, under pixels and noise."""
    changes = changes[changes["change"].isin(CHANGES)]
    unmoved = (changes["depth"] == 0) & ~(changes["relative_change"] > 0)
    return changes[changes["matched"] & ~changes["image"].isin(changes.loc[unmoved, "image"])]


def _amplifications(changes: pd.DataFrame) -> pd.DataFrame:
    """Return comparable images only, under pixels and noise, with the column amplification."""
    kept = _comparable(changes)
    inputs = kept.loc[kept["depth"] == 0, ["image", "change", "relative_change"]]
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
