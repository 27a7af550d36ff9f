"""Figures of retrained networks: training by testing, the fall of an attack, distances, losses."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pixelrobust.figures import COLOURS, MARKERS, add_words, new_figure, take_literally, tidy
from pixelrobust.figures.maps import heat_map
from pixelrobust.outcomes.kinds import HELDOUT, SAME
from pixelrobust.tables.rates import percent
from pixelrobust.tables.retraining import Step

_ROW = 0.3  # inches
_LABEL = 18  # letters a line
_BINS = 40
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
    """
    figure = new_figure(1.6 * len(steps) + 1, 4.6)
    axes = figure.subplots()
    before = 0.0
    for place, step in enumerate(steps):
        fell = step.rate <= before or place == 0
        axes.bar(
            place, 100 * (step.rate - before), bottom=100 * before, width=0.6,
            color=_FALL if fell else _RISE, hatch=None if fell else "//",
        )  # fmt: skip
        # The level that is reached, to be seen where it is that of the step before, too.
        axes.plot([place - 0.3, place + 0.3], [100 * step.rate] * 2, color="black", linewidth=1.2)
        whiskers = [[100 * (step.rate - step.low)], [100 * (step.high - step.rate)]]
        axes.errorbar(place, 100 * step.rate, whiskers, color="black", capsize=3)
        axes.annotate(
            f"{percent(step.rate)} %", (place, 100 * step.high), (0, 4),
            textcoords="offset points", ha="center", size=9,
        )  # fmt: skip
        if place:
            axes.plot([place - 0.7, place - 0.3], [100 * before] * 2, color="grey", linewidth=0.8)
        before = step.rate
    labels = [textwrap.fill(step.label, _LABEL, break_long_words=False) for step in steps]
    axes.set_xticks(range(len(steps)), labels, size=8, parse_math=False)
    axes.set_ylabel("adversarial images that still fool (%)")
    axes.set_ylim(0, 112)
    tidy(axes)
    add_words(figure, title, caption)
    return figure


def distance_changes(
    changes: Mapping[str, NDArray[np.float64]], title: str, caption: str
) -> Figure:
    """Draw how the distances of images to the boundary changed: a histogram for each network.

    All have the same bins; the outermost hold the changes beyond the middle 98 % too. Black lines
    stand at the median, diamonds at the mean.

    Args:
        changes: for each network, (N,) finite changes, N at least 1; at least one network.
        title, caption: words above the panels, and small print below them.
    """
    figure = new_figure(8, 1.6 * _ROW * len(changes) + 1.6)
    axes = figure.subplots()
    edges = _edges(np.concatenate(list(changes.values())))
    counts = [
        np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)
        for values in changes.values()
    ]
    highest = max(float(shares.max()) for shares in counts)
    for place, (values, shares) in enumerate(zip(changes.values(), counts, strict=True)):
        axes.stairs(place - 0.85 * shares / highest, edges, baseline=place, fill=True, color=_FALL)
        axes.axhline(place, color="grey", linewidth=0.5)
        median, mean = np.clip([np.median(values), values.mean()], edges[0], edges[-1])
        axes.plot([median, median], [place, place - 0.85], color="black", linewidth=1)
        axes.plot(mean, place - 0.1, marker="D", color=COLOURS[1], markersize=4)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    labels = [
        f"{model} ({100 * (values > 0).mean():.0f} % grow)" for model, values in changes.items()
    ]
    axes.set_yticks(range(len(changes)), labels, size=8, parse_math=False)
    axes.set_ylim(len(changes) - 0.8, -1)
    axes.set_xlabel("change of the distance r (L2, pixels in [0, 1])")
    tidy(axes)
    add_words(figure, title, caption)
    return figure


def loss_curves(histories: Mapping[str, pd.DataFrame], title: str, caption: str) -> Figure:
    """Draw loss (a) and accuracy (b) over the epochs of training, a curve a network.

    Args:
        histories: for each network, columns epoch, loss and accuracy; at least one network.
        title, caption: words above the panels, and small print below them.
    """
    figure = new_figure(10.5, 4.8)
    loss, accuracy = figure.subplots(1, 2)
    for index, (model, history) in enumerate(histories.items()):
        style: dict[str, Any] = {
            "color": COLOURS[index % len(COLOURS)],
            "marker": MARKERS[index // len(COLOURS) % len(MARKERS)],
            "linestyle": ("-", "--", ":")[index // len(COLOURS) % 3],
            "markersize": 3,
            "markevery": max(1, len(history) // 10),
        }
        loss.plot(history["epoch"] + 1, history["loss"], label=model, **style)
        accuracy.plot(history["epoch"] + 1, 100 * history["accuracy"], **style)
    for axes, label in ((loss, "(a) cross-entropy"), (accuracy, "(b) accuracy in training (%)")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        tidy(axes)
    legend = figure.legend(
        *loss.get_legend_handles_labels(), loc="outside right center", frameon=False
    )
    take_literally(legend)
    add_words(figure, title, caption)
    return figure


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return bins over the middle 98 % of the values, one edge at 0."""
    low, high = np.quantile(values, (0.01, 0.99))
    width = max((high - low) / _BINS, 1e-9)
    first, last = np.floor(min(low, 0) / width), np.ceil(max(high, 0) / width)
    edges: NDArray[np.float64] = np.arange(first - 1, last + 2) * width
    return edges
