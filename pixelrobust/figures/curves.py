"""Curves over the number of changed pixels, or over depth: pure functions of summary tables."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike

from pixelrobust.figures import COLOURS, MARKERS, add_legend, add_words, new_figure, num_axis, tidy
from pixelrobust.settings import overshoot_of
from pixelrobust.statistics.survival import SurvivalCurve
from pixelrobust.tables.adversarial import ROUNDED, UNROUNDED

_LINES = ("-", "--", "-.", ":")
_MARKERS_A_CURVE = 12
_MOST_COLUMNS = 3
_LIMITS = ("amplitude", "area")
_PIXEL_INDEX_OVER = {
    "num": "changed pixels (num)",
    "amplitude": "amplitude (R), at the largest num",
    "area": "side of the area (P), at the largest num",
}
_CHANGES = {"pixels": "a few changed pixels", "noise": "Gaussian noise of the same L2 norm"}


def rate_curves(summary: pd.DataFrame, by: str, title: str, caption: str) -> Figure:
    """Draw accuracy (a) and wrong images (b) over the number of changed pixels.

    Args:
        summary: from `pixelrobust.tables.rates.summarize`.
        by: what a curve stands for: "model", or "amplitude" or "area" with a column of panels for
            each model. The control belongs to every curve.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with 95 % intervals as bands. With several draws an image, wrong images are the
        mean number a draw.
    """
    models = list(summary["model"].unique())
    groups = {"": summary} if by == "model" else {m: summary[summary["model"] == m] for m in models}
    single = len(groups) == 1
    figure = new_figure(*((9, 4.6) if single else (3.2 * len(groups) + 1, 7)))
    panels = figure.subplots(*((1, 2) if single else (2, len(groups))), squeeze=False)
    panels = panels.T if single else panels
    for column, (model, group) in enumerate(groups.items()):
        accuracy, wrong = panels[:, column]
        for index, (label, rows) in enumerate(_rates(group, by)):
            _rate_curve(accuracy, rows, lambda share: 100 * (1 - share), label, index)
            _rate_curve(wrong, rows, rows["images"].mul, label, index)
        for axes, what in (
            (accuracy, "(a) accuracy (%)"),
            (wrong, f"(b) wrong images (of {group['images'].max():,})"),
        ):
            axes.set_title(model, fontsize=9, parse_math=False)
            num_axis(axes, sorted(int(num) for num in group["num"].unique()))
            axes.set_ylabel(what)
            tidy(axes)
    add_legend(figure, panels[0, 0])
    add_words(figure, title, caption)
    return figure


def survival_figure(
    curves: Mapping[str, SurvivalCurve], nums: Sequence[int], title: str, caption: str
) -> Figure:
    """Draw Kaplan-Meier curves: the share of images not flipped yet, over changed pixels.

    Args:
        curves: of each model.
        nums: the numbers of changed pixels that were tried, rising.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with 95 % intervals as bands. A curve falls at the num at which images were found
        flipped; a cross at its end marks those that never were.
    """
    figure = new_figure(6.5, 4.6)
    axes = figure.subplots()
    for index, (model, curve) in enumerate(curves.items()):
        _survival_curve(axes, curve, model, index)
    num_axis(axes, [0, *(num for num in nums if num)])
    axes.set_ylabel("images still classified correctly (%)")
    tidy(axes)
    add_legend(figure, axes)
    add_words(figure, title, caption)
    return figure


def amplification_curves(summaries: Mapping[str, pd.DataFrame], title: str, caption: str) -> Figure:
    """Draw the relative change of activations over depth, as a multiple of that of the input.

    Args:
        summaries: by model, from `pixelrobust.tables.amplification.summarize_amplification`; at least one.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a panel for each model: medians over images as curves, quartiles as bands,
        on a logarithmic axis. Depth is the layer's rank, from 0, the input, to 1, the logits.
    """
    figure, panels = _panels(len(summaries), "relative change / that of the input")
    for axes, (model, summary) in zip(panels, summaries.items(), strict=True):
        _amplification_panel(axes, model, summary)
    add_legend(figure, panels[0])
    add_words(figure, title, caption)
    return figure


def overshoot_curves(summary: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw the share of recovered adversarial images over the multiple of their own smallest epsilon.

    Args:
        summary: from `pixelrobust.tables.adversarial.summarize_returns`, all epsilons multiples of the
            smallest, with one amplitude and one area.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a panel for each model: a curve for each num, of images as the attack left them,
        and one of what rounding alone recovers; 95 % intervals as bands. What lies beyond the smallest
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
    add_legend(figure, panels[0])
    add_words(figure, title, caption)
    return figure


def pixel_index_curves(indices: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw the Pixel-index over num, amplitude and area, each while nothing else limits changes.

    Were it a property of the model, the curves would be level.

    Args:
        indices: from `pixelrobust.tables.pixel_index.pixel_indices`.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a panel for each of the three that varies, and 95 % intervals as bands.
    """
    shown = {
        key: rows
        for key in _PIXEL_INDEX_OVER
        if (rows := _varying_alone(indices, key))[key].nunique() > 1
    }
    figure = new_figure(3.6 * max(len(shown), 1) + 0.6, 4.2)
    panels = figure.subplots(1, max(len(shown), 1), sharey=True, squeeze=False)[0]
    for axes, (key, rows) in zip(panels, shown.items(), strict=False):
        for index, (model, of_model) in enumerate(rows.groupby("model", sort=False)):
            curve = of_model.sort_values(key)
            values = (curve["pixel_index"], curve["pi_low"], curve["pi_high"])
            _curve(axes, curve[key].astype(float), values, str(model), index)
        axes.set_xticks(sorted(rows[key].astype(int).unique()))
        axes.set_xlabel(_PIXEL_INDEX_OVER[key])
        tidy(axes)
    # Once all panels, which share the axis, have their curves.
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("Pixel-index (Pi)")
    add_legend(figure, panels[0])
    add_words(figure, title, caption)
    return figure


def _panels(count: int, label: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many panels, which share what stands along the side."""
    columns = min(count, _MOST_COLUMNS)
    rows = math.ceil(count / columns)
    figure = new_figure(*((6.5, 4.6) if count == 1 else (3.2 * columns + 1, 3.1 * rows + 1)))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.remove()
    for axes in panels[::columns]:
        axes.set_ylabel(label)
    return figure, list(panels[:count])


def _curve(
    axes: Axes,
    at: ArrayLike,
    values: tuple[ArrayLike, ArrayLike, ArrayLike],
    label: str,
    index: int,
    **style: Any,
) -> None:
    """Draw a curve of (middle, low, high) values; its index in the panel decides colour and marker."""
    middle, low, high = values
    place = index % len(COLOURS)
    marker = {"marker": MARKERS[place], "markersize": 4}
    axes.plot(at, middle, color=COLOURS[place], label=label, **marker | style)  # type: ignore[arg-type]
    axes.fill_between(at, low, high, color=COLOURS[place], alpha=0.15, linewidth=0)


def _rates(summary: pd.DataFrame, by: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield label and rows of each curve, in the order of the summary."""
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


def _rate_curve(
    axes: Axes, rows: pd.DataFrame, scale: Callable[[pd.Series], pd.Series], label: str, index: int
) -> None:
    low, high = scale(rows["ci_low"]), scale(rows["ci_high"])
    _curve(axes, rows["num"], (scale(rows["wrong_rate"]), low, high), label, index)


def _survival_curve(axes: Axes, curve: SurvivalCurve, model: str, index: int) -> None:
    colour = COLOURS[index % len(COLOURS)]
    nums = np.concatenate([[0.0], curve.nums])
    low, survival, high = (
        100 * np.concatenate([[1.0], shares]) for shares in (curve.low, curve.survival, curve.high)
    )
    line = _LINES[index % len(_LINES)]
    axes.step(nums, survival, where="post", color=colour, linestyle=line, label=model)
    axes.fill_between(nums, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    # The last step has no width for a band.
    whiskers = [[survival[-1] - low[-1]], [high[-1] - survival[-1]]]
    axes.errorbar(
        nums[-1:], survival[-1:], whiskers, color=colour, capsize=3,
        marker="x" if survival[-1] > 0 else "none",
    )  # fmt: skip


def _amplification_panel(axes: Axes, model: str, summary: pd.DataFrame) -> None:
    for index, (change, label) in enumerate(_CHANGES.items()):
        # Nothing that did not move, or was all 0, has a place on a logarithmic axis.
        shown = (summary["change"] == change) & (summary["amplification_q1"] > 0)
        curve = summary[shown].sort_values("depth")
        keys = ("amplification", "amplification_q1", "amplification_q3")
        middle, low, high = (curve[key] for key in keys)
        every = max(1, len(curve) // _MARKERS_A_CURVE)
        depth = curve["depth"] / summary["depth"].max()
        _curve(axes, depth, (middle, low, high), label, index, markevery=every)
    axes.set_title(model, fontsize=9, parse_math=False)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("depth (0: input, 1: logits)")
    tidy(axes)


def _overshoot_panel(axes: Axes, rows: pd.DataFrame) -> None:
    nums = sorted(rows["num"].unique(), key=lambda num: (num == 0, num))
    for index, num in enumerate(nums):
        curve = rows[rows["num"] == num]
        low, middle, high = (100 * curve[key] for key in ("ci_low", "return_rate", "ci_high"))
        label, line = (f"num {num}", "-") if num else ("rounding alone", "--")
        _curve(axes, curve["beyond"], (middle, low, high), label, index, linestyle=line)
    places = np.unique(rows["beyond"])
    # The smallest epsilon itself lies at 0, for which a logarithm has no place.
    axes.set_xscale("symlog", linthresh=places[places > 0].min())
    axes.minorticks_off()
    axes.set_xticks(places, [f"{1 + place:g}" for place in places], size=7)
    axes.set_ylim(0, 100)
    axes.set_xlabel("epsilon / the image's smallest")
    tidy(axes)


def _varying_alone(indices: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the cells that only this key, and num, limit; at the largest num unless it is the key."""
    limited = indices[[*_LIMITS]].notna()
    rows = indices[(limited == [limit == key for limit in _LIMITS]).all(axis=1)]
    return rows if key == "num" else rows[rows["num"] == rows["num"].max()]
