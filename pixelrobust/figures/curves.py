"""Means with error bars over the number of changed pixels, or over depth: pure functions of tables."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pixelrobust.figures import (
    Look,
    add_complement,
    add_legend,
    add_series,
    add_words,
    log_axis,
    looks_of,
    new_figure,
    num_axis,
    set_places,
    tidy,
)
from pixelrobust.settings import overshoot_of
from pixelrobust.statistics.survival import SurvivalCurve
from pixelrobust.tables.adversarial import ROUNDED, UNROUNDED

_MOST_COLUMNS = 2
_LIMITS = ("amplitude", "area")
_PIXEL_INDEX_OVER = {
    "num": "changed pixels (num)",
    "amplitude": "amplitude (R), at the largest num",
    "area": "side of the area (P), at the largest num",
}
_CHANGES = {"pixels": "a few changed pixels", "noise": "Gaussian noise of the same L2 norm"}


def rate_curves(
    summary: pd.DataFrame, by: str, title: str, caption: str, networks: Sequence[str] = ()
) -> Figure:
    """Draw accuracy, on the left axis, and wrong predictions, on the right, over changed pixels.

    Args:
        summary: from `pixelrobust.tables.rates.summarize`.
        by: what a series stands for: "model", or "amplitude" or "area" with a panel for each model.
            The control belongs to every series.
        title, caption: words above the panels, and small print below them.
        networks: all of the run, which decide colours; empty: those of the summary.

    Returns:
        A figure with means side by side, their 95 % intervals as bars, and one scale in all panels.
    """
    models = [str(model) for model in summary["model"].unique()]
    groups = {"": summary} if by == "model" else {m: summary[summary["model"] == m] for m in models}
    figure, panels = _panels(len(groups), "accuracy (%)", "wrong predictions (%)")
    for axes, (model, group) in zip(panels, groups.items(), strict=True):
        axes.set_title(model, fontsize=9, parse_math=False)
        num_axis(axes, sorted(int(num) for num in summary["num"].unique()))
        series = dict(_rates(group, by))
        names = list(dict.fromkeys([*networks, *series])) if by == "model" else list(series)
        looks = looks_of(names, ordered=by != "model")
        for index, (label, rows) in enumerate(series.items()):
            values = [100 * (1 - rows[key]) for key in ("wrong_rate", "ci_high", "ci_low")]
            place = (index, len(series))
            add_series(
                axes, rows["num"], (values[0], values[1], values[2]), label, looks[label], place
            )
        tidy(axes)
    add_legend(figure, panels[0].lines)
    add_words(figure, title, caption)
    return figure


def ladder_curves(pixels: pd.DataFrame, noise: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw accuracy under changed pixels, and under noise of several severities that changes single values.

    Args:
        pixels: from `pixelrobust.tables.rates.summarize`, with the control.
        noise: the same of noise, its num that of pixels with as many values, rising with severity.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a panel for each model and two series; 95 % intervals as bars, and the severities,
        counted from 1, below their points.
    """
    models = [str(model) for model in pixels["model"].unique()]
    figure, panels = _panels(len(models), "accuracy (%)", "wrong predictions (%)")
    series = {"changed pixels": pixels, "impulse noise (1 to 5: its severity)": noise}
    looks = looks_of(list(series))
    for axes, model in zip(panels, models, strict=True):
        axes.set_title(model, fontsize=9, parse_math=False)
        num_axis(axes, sorted(int(num) for num in pixels["num"].unique()))
        for name, summary in series.items():
            rows = summary[summary["model"] == model].sort_values("num")
            middle, low, high = (
                100 * (1 - rows[key]) for key in ("wrong_rate", "ci_high", "ci_low")
            )
            # The two stand at places of their own.
            add_series(axes, rows["num"], (middle, low, high), name, looks[name], (0, 1))
            ends = zip(rows["num"], low, strict=True) if summary is noise else ()
            for severity, (num, end) in enumerate(ends, start=1):
                axes.annotate(
                    str(severity), (num, end), xytext=(0, -9), textcoords="offset points",
                    ha="center", fontsize=7, color=looks[name].colour,
                )  # fmt: skip
        axes.set_ylim(-8, 104)
        tidy(axes)
    add_legend(figure, panels[0].lines)
    add_words(figure, title, caption)
    return figure


def survival_figure(
    curves: Mapping[str, SurvivalCurve],
    nums: Sequence[int],
    title: str,
    caption: str,
    networks: Sequence[str] = (),
) -> Figure:
    """Draw the share of images not flipped yet (Kaplan-Meier), and of those flipped, over changed pixels.

    Args:
        curves: of each model.
        nums: the numbers of changed pixels that were tried, rising.
        title, caption: words above the panels, and small print below them.
        networks: all of the run, which decide colours; empty: those of the curves.

    Returns:
        A figure with shares side by side, their 95 % intervals as bars.
    """
    figure, (axes,) = _panels(1, "images not flipped yet (%)", "images flipped (%)")
    num_axis(axes, [0, *(num for num in nums if num)])
    looks = looks_of(list(dict.fromkeys([*networks, *curves])))
    for index, (model, curve) in enumerate(curves.items()):
        middle, low, high = (
            100 * np.concatenate([[1.0], shares])
            for shares in (curve.survival, curve.low, curve.high)
        )
        at = np.concatenate([[0.0], curve.nums])
        add_series(axes, at, (middle, low, high), model, looks[model], (index, len(curves)))
    tidy(axes)
    add_legend(figure, axes.lines)
    add_words(figure, title, caption)
    return figure


def amplification_curves(summaries: Mapping[str, pd.DataFrame], title: str, caption: str) -> Figure:
    """Draw how far activations move, block by block, for each way to change an image.

    Args:
        summaries: by model, from `pixelrobust.tables.amplification.summarize_blocks`; at least one.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a panel for each model: geometric means over images side by side, their 95 %
        intervals as bars, on one logarithmic axis.
    """
    label = "relative change (%, log scale)"
    figure, panels = _panels(len(summaries), label, height=3.3)
    changes = dict.fromkeys(
        str(c) for table in summaries.values() for c in table["change"].unique()
    )
    looks = looks_of(list(changes))
    for axes, (model, summary) in zip(panels, summaries.items(), strict=True):
        blocks = list(summary["block"].unique())
        set_places(
            axes, range(len(blocks)), blocks, size=7, rotation=45, ha="right", rotation_mode="anchor",
            parse_math=False,
        )  # fmt: skip
        for index, change in enumerate(changes):
            rows = summary[summary["change"] == change]
            keys = ("relative_change", "ci_low", "ci_high")
            middle, low, high = (100 * rows[key] for key in keys)
            at = [blocks.index(block) for block in rows["block"]]
            place, name = (index, len(changes)), _CHANGES.get(change, change)
            add_series(axes, at, (middle, low, high), name, looks[change], place)
        axes.set_title(model, fontsize=9, parse_math=False)
        log_axis(axes)
        tidy(axes)
    add_legend(figure, panels[0].lines)
    add_words(figure, title, caption)
    return figure


def overshoot_curves(summary: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw the share of recovered adversarial images over the multiple of their own smallest epsilon.

    Args:
        summary: from `pixelrobust.tables.adversarial.summarize_returns`, all epsilons multiples of the
            smallest, with one amplitude and one area.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a panel for each model: a series for each num, of images as the attack left them,
        and one of what rounding alone recovers; 95 % intervals as bars. What lies beyond the smallest
        epsilon has a logarithmic axis.
    """
    models = list(summary["model"].unique())
    figure, panels = _panels(len(models), "returned to the true class (%)")
    is_changed = (summary["num"] > 0) & (summary["images_are"] == UNROUNDED)
    by_rounding = (summary["num"] == 0) & (summary["images_are"] == ROUNDED)
    beyond = summary["epsilon"].map(overshoot_of).astype(float) - 1
    shown = summary[is_changed | by_rounding].assign(beyond=beyond).sort_values("beyond")
    for axes, model in zip(panels, models, strict=True):
        _overshoot_panel(axes, shown[shown["model"] == model])
        axes.set_title(model, fontsize=9, parse_math=False)
    add_legend(figure, panels[0].lines)
    add_words(figure, title, caption)
    return figure


def pixel_index_curves(
    indices: pd.DataFrame, title: str, caption: str, networks: Sequence[str] = ()
) -> Figure:
    """Draw the Pixel-index over num, amplitude and area, each while nothing else limits changes.

    Were it a property of the model, the series would be level.

    Args:
        indices: from `pixelrobust.tables.pixel_index.pixel_indices`.
        title, caption: words above the panels, and small print below them.
        networks: all of the run, which decide colours; empty: those of the indices.

    Returns:
        A figure with a panel for each of the three that varies, and 95 % intervals as bars.
    """
    shown = {
        key: rows
        for key in _PIXEL_INDEX_OVER
        if (rows := _varying_alone(indices, key))[key].nunique() > 1
    }
    figure = new_figure(2.7 * max(len(shown), 1) + 0.9, 3.6)
    panels = figure.subplots(1, max(len(shown), 1), sharey=True, squeeze=False)[0]
    models = [str(model) for model in indices["model"].unique()]
    looks = looks_of(list(dict.fromkeys([*networks, *models])))
    for axes, (key, rows) in zip(panels, shown.items(), strict=False):
        places = sorted(int(place) for place in rows[key].unique())
        if key == "num":
            num_axis(axes, places)
        else:
            set_places(axes, places)
            axes.set_xlabel(_PIXEL_INDEX_OVER[key])
        for index, model in enumerate(models):
            series = rows[rows["model"] == model].sort_values(key)
            middle, low, high = (series[name] for name in ("pixel_index", "pi_low", "pi_high"))
            at, place = series[key].astype(float), (index, len(models))
            add_series(axes, at, (middle, low, high), model, looks[model], place)
        tidy(axes)
    # Once all panels, which share the axis, have their series.
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("Pixel-index (Pi)")
    add_legend(figure, panels[0].lines)
    add_words(figure, title, caption)
    return figure


def _panels(
    count: int, left: str, right: str = "", height: float = 2.9
) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many panels of one scale, and what stands along their sides."""
    columns = min(count, _MOST_COLUMNS)
    rows = math.ceil(count / columns)
    figure = new_figure(*((7, 4.4) if count == 1 else (3.8 * columns + 0.8, height * rows + 0.8)))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.remove()
    for place, axes in enumerate(panels[:count]):
        if place % columns == 0:
            axes.set_ylabel(left)
        if right:
            add_complement(
                axes, right if place % columns == columns - 1 or place == count - 1 else ""
            )
    return figure, list(panels[:count])


def _rates(summary: pd.DataFrame, by: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield label and rows of each series, in the order of the summary."""
    control = summary["num"] == 0
    values = summary.loc[~control | (by == "model"), by].drop_duplicates()
    for value in values:
        same = summary[by].isna() if pd.isna(value) else (summary[by] == value).fillna(False)
        rows = summary[same | (control & (by != "model"))].sort_values("num")
        yield _label(by, value), rows


def _label(by: str, value: Any) -> str:
    if by == "model":
        return str(value)
    if pd.isna(value):
        return "unlimited"
    return f"±{value}" if by == "amplitude" else f"{value} × {value}"


def _overshoot_panel(axes: Axes, rows: pd.DataFrame) -> None:
    nums = sorted(int(num) for num in rows["num"].unique())
    nums = [num for num in nums if num] + [num for num in nums if not num]
    looks: dict[int, Look] = {0: Look("#000000", "X")}
    changed = [str(num) for num in nums if num]
    looks |= {int(num): look for num, look in looks_of(changed, ordered=True).items()}
    places = sorted(set(rows["beyond"]))
    # The smallest epsilon itself lies at 0, for which a logarithm has no place.
    axes.set_xscale("symlog", linthresh=min(place for place in places if place > 0))
    axes.minorticks_off()
    set_places(axes, places, [f"{1 + place:g}" for place in places], size=7)
    for index, num in enumerate(nums):
        series = rows[rows["num"] == num]
        middle, low, high = (100 * series[key] for key in ("return_rate", "ci_low", "ci_high"))
        label, line = (f"num {num}", "-") if num else ("rounding alone", "--")
        values, place = (middle, low, high), (index, len(nums))
        add_series(axes, series["beyond"], values, label, looks[num], place, line)
    axes.set_ylim(0, 100)
    axes.set_xlabel("epsilon / smallest (excess on a log scale)")
    tidy(axes)


def _varying_alone(indices: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the cells that only this key, and num, limit; at the largest num unless it is the key."""
    limited = indices[[*_LIMITS]].notna()
    rows = indices[(limited == [limit == key for limit in _LIMITS]).all(axis=1)]
    return rows if key == "num" else rows[rows["num"] == rows["num"].max()]
