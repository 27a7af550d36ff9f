"""Figures of retrained networks: training by testing, the fall of an attack, distances, losses."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pixelrobust.figures import (
    Look,
    add_legend,
    add_words,
    log_axis,
    looks_of,
    new_figure,
    tidy,
)
from pixelrobust.figures.maps import heat_map
from pixelrobust.outcomes.kinds import HELDOUT, SAME, UNCHANGED
from pixelrobust.tables.rates import percent
from pixelrobust.tables.retraining import Step, retrained_on_pixels

_ROW = 0.3  # inches
_LABEL = 34  # letters a line
_BESIDE = 115  # per cent, where the numbers of the waterfall end
_MARKERS_A_CURVE = 6
# Light enough for black letters and whiskers on them.
_FALL, _RISE = "#56B4E9", "#E69F00"
_KINDS = {SAME: "the images trained on", HELDOUT: "held-out images"}


def retraining_matrix(summary: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw wrong rates in percent: a row for each network, a column for each test num.

    Args:
        summary: from `pixelrobust.tables.retraining.summarize_retraining`, its changes of one
            amplitude and area.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a panel for each set of test images, on one colour scale.
    """
    kinds = list(summary["images_are"].unique())
    models = list(summary["model"].unique())
    figure = new_figure(3.6 * len(kinds) + 2.6, _ROW * len(models) + 1.8)
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    highest = float(summary["wrong_rate"].max()) or 1.0
    for axes, kind in zip(panels, kinds, strict=True):
        rows = summary[summary["images_are"] == kind]
        rows = rows.assign(percent=100 * rows["wrong_rate"])
        image = heat_map(axes, rows, ("model", models, "percent"), 100 * highest, "{:.1f}".format)
        axes.set_yticks(range(len(models)), models, size=8, parse_math=False)
        axes.set_xlabel("changed pixels (num) of test images")
        title_of_panel = f"tested on {_KINDS.get(kind, kind)} ({rows['images'].max():,})"
        axes.set_title(title_of_panel, fontsize=9)
    figure.colorbar(image, ax=panels, label="wrong predictions (%)", shrink=0.8)
    add_words(figure, title, caption)
    return figure


def waterfall(steps: Sequence[Step], title: str, caption: str) -> Figure:
    """Draw what each cause takes from the images that fool, as bars from one level to the next.

    Args:
        steps: from `pixelrobust.tables.retraining.fall`.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a bar for each step, from top to bottom, the share that is left, and its 95 %
        interval.
    """
    figure = new_figure(8, 0.5 * len(steps) + 1.2)
    axes = figure.subplots()
    before = 0.0
    for place, step in enumerate(steps):
        fell = step.rate <= before or place == 0
        axes.barh(
            place, 100 * (step.rate - before), left=100 * before, height=0.6,
            color=_FALL if fell else _RISE, hatch=None if fell else "//",
        )  # fmt: skip
        # The level that is reached, to be seen where it is that of the step before, too.
        axes.plot([100 * step.rate] * 2, [place - 0.3, place + 0.3], color="black", linewidth=1.2)
        axes.hlines(place, 100 * step.low, 100 * step.high, color="black", linewidth=1.4)
        axes.text(_BESIDE, place, f"{percent(step.rate)} %", ha="right", va="center", size=9)
        if place:
            axes.plot([100 * before] * 2, [place - 0.7, place - 0.3], color="grey", linewidth=0.8)
        before = step.rate
    labels = [textwrap.fill(step.label, _LABEL, break_long_words=False) for step in steps]
    axes.set_yticks(range(len(steps)), labels, size=8, parse_math=False)
    axes.set_ylim(len(steps) - 0.5, -0.5)
    axes.set_xlabel("adversarial images that still fool (%)")
    axes.set_xlim(0, _BESIDE + 1)
    axes.set_xticks(range(0, 101, 20))
    tidy(axes)
    axes.grid(visible=False, axis="y")
    add_words(figure, title, caption)
    return figure


def distance_changes(
    changes: Mapping[str, NDArray[np.float64]], title: str, caption: str
) -> Figure:
    """Draw how the distances of images to the boundary changed, a row for each network.

    Thick lines go from quartile to quartile, thin ones over the middle 90 % of the images; dots stand
    at the median, diamonds at the mean.

    Args:
        changes: for each network, (N,) finite changes, N at least 1; at least one network.
        title, caption: words above the panels, and small print below them.
    """
    figure = new_figure(8, _ROW * len(changes) + 1.2)
    axes = figure.subplots()
    looks = looks_of(list(changes))
    for place, (model, values) in enumerate(changes.items()):
        colour = looks[model].colour
        low, first, median, third, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
        axes.hlines(place, low, high, color=colour, linewidth=1)
        axes.hlines(place, first, third, color=colour, linewidth=5)
        axes.plot(median, place, "o", color=colour, markersize=7, markeredgecolor="white")
        axes.plot(values.mean(), place + 0.32, "D", color="black", markersize=3)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    labels = [
        f"{model} ({100 * (values > 0).mean():.0f} % grow)" for model, values in changes.items()
    ]
    axes.set_yticks(range(len(changes)), labels, size=8, parse_math=False)
    axes.set_ylim(len(changes) - 0.4, -0.6)
    axes.set_xlabel("change of the distance r (L2, pixels in [0, 1])")
    tidy(axes)
    add_words(figure, title, caption)
    return figure


def loss_curves(histories: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw loss and accuracy over the epochs of training: controls, and changed pixels beside them.

    Args:
        histories: columns model, training_seed, epoch, loss and accuracy; at least one row.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with means over training seeds as curves, and where there are several, bars from the
        smallest to the largest. Retraining on unchanged images is among both.
    """
    models = [str(model) for model in histories["model"].unique()]
    looks = looks_of(models)
    pixels = retrained_on_pixels(histories)
    controls = [model for model in models if model not in pixels]
    both = [model for model in controls if model.endswith(UNCHANGED)]
    groups = {
        "controls": controls,
        "changed pixels": [*both, *pixels],
    }
    groups = {name: own for name, own in groups.items() if set(own) - set(both)} or {"": models}
    figure = new_figure(4.2 * len(groups) + 0.6, 6)
    panels = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, (name, own) in enumerate(groups.items()):
        panels[0, column].set_title(name, fontsize=9)
        for axes, shown, scale in zip(
            panels[:, column], ("loss", "accuracy"), (1, 100), strict=True
        ):
            for index, model in enumerate(own):
                rows = histories[histories["model"] == model]
                _history(axes, rows, (shown, scale), looks[model], (index, len(own)))
            tidy(axes)
        panels[1, column].set_xlabel("epoch")
        panels[1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
    is_log = (histories["loss"] > 0).all()
    panels[0, 0].set_ylabel(f"cross-entropy{' (log scale)' if is_log else ''}")
    if is_log:
        log_axis(panels[0, 0])
    panels[1, 0].set_ylabel("accuracy in training (%)")
    handles = [
        Line2D(
            [], [], color=looks[model].colour, marker=looks[model].marker, markersize=4, label=model
        )
        for model in models
    ]
    add_legend(figure, handles)
    add_words(figure, title, caption)
    return figure


def _history(
    axes: Axes,
    rows: pd.DataFrame,
    shown: tuple[str, float],
    look: Look,
    place: tuple[int, int],
) -> None:
    """Draw a retraining's curve, with markers and bars at a few epochs, those of each curve its own."""
    column, scale = shown
    seeds = scale * rows.pivot_table(index="epoch", columns="training_seed", values=column)
    epochs, mean = seeds.index.to_numpy() + 1, seeds.mean(axis=1).to_numpy()
    every = max(1, math.ceil(len(epochs) / _MARKERS_A_CURVE))
    few = slice(place[0] * every // place[1], None, every)
    axes.plot(
        epochs, mean, color=look.colour, linewidth=0.9, marker=look.marker, markersize=4,
        markevery=(few.start, every),
    )  # fmt: skip
    if seeds.shape[1] > 1:
        low, high = seeds.min(axis=1).to_numpy(), seeds.max(axis=1).to_numpy()
        axes.vlines(epochs[few], low[few], high[few], color=look.colour, linewidth=1.4)
