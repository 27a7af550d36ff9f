"""Figures of retrained networks: training by testing, the fall of an attack, distances, losses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from pixelrobust.figures import COLOURS, MARKERS, add_words, new_figure, tidy
from pixelrobust.transfer import Step

_BINS = 30
_ROW = 0.3  # inches


def retraining_matrix(summary: pd.DataFrame, title: str, caption: str) -> Figure:
    """Wrong rates in percent: a row for each network, a column for each test num.

    Args:
        summary: from `pixelrobust.retraining_tables.summarize_retraining`, of one amplitude and area.
        title: of the figure.
        caption: small print below it.

    Returns:
        A figure with a panel for each set of test images, on one colour scale.
    """
    kinds = list(summary["images_are"].unique())
    models = list(summary["model"].unique())
    figure = new_figure(3.6 * len(kinds) + 2.6, _ROW * len(models) + 1.8)
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    highest = float(summary["wrong_rate"].max()) or 1.0
    for axes, kind in zip(panels, kinds, strict=True):
        image = _matrix(axes, summary[summary["images_are"] == kind], models, highest)
        axes.set_title(f"tested on {kind}", fontsize=9)
    figure.colorbar(image, ax=panels, label="wrong predictions (%)", shrink=0.8)
    add_words(figure, title, caption)
    return figure


def waterfall(steps: Sequence[Step], title: str, caption: str) -> Figure:
    """What each cause takes from the images that fool: bars from one level to the next.

    Args:
        steps: from `pixelrobust.transfer.fall`.
        title: of the figure.
        caption: small print below it.
    """
    figure = new_figure(1.6 * len(steps) + 1, 4.6)
    axes = figure.subplots()
    before = 0.0
    for place, step in enumerate(steps):
        fell = step.rate <= before or place == 0
        axes.bar(
            place, 100 * (step.rate - before), bottom=100 * before, width=0.6,
            color=COLOURS[0] if fell else COLOURS[1], hatch=None if fell else "//",
        )  # fmt: skip
        whiskers = [[100 * (step.rate - step.low)], [100 * (step.high - step.rate)]]
        axes.errorbar(place, 100 * step.rate, whiskers, color="black", capsize=3)
        axes.annotate(
            f"{100 * step.rate:.1f} %", (place, 100 * step.high), (0, 4),
            textcoords="offset points", ha="center", size=9,
        )  # fmt: skip
        if place:
            axes.plot([place - 0.7, place - 0.3], [100 * before] * 2, color="grey", linewidth=0.8)
        before = step.rate
    axes.set_xticks(range(len(steps)), [step.label.replace(", ", ",\n") for step in steps], size=8)
    axes.set_ylabel("adversarial images that still fool (%)")
    axes.set_ylim(0, 112)
    tidy(axes)
    add_words(figure, title, caption)
    return figure


def distance_histogram(
    changes: Mapping[str, NDArray[np.float64]], title: str, caption: str
) -> Figure:
    """How the distance of each image to the boundary changed, a line a network.

    Args:
        changes: for each network, (N,) changes; at least one network.
        title: of the figure.
        caption: small print below it.
    """
    figure = new_figure(7, 4.6)
    axes = figure.subplots()
    pooled = np.concatenate(list(changes.values()))
    low, high = np.quantile(pooled, (0.005, 0.995))
    edges = np.linspace(min(low, 0), max(high, 0) or 1e-9, _BINS + 1)
    for index, (model, values) in enumerate(changes.items()):
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        axes.stairs(
            counts, edges, label=f"{model} (mean {values.mean():+.2g})",
            color=COLOURS[index % len(COLOURS)], linestyle=("-", "--")[index // len(COLOURS) % 2],
        )  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("change of the distance r (L2, pixels in [0, 1])")
    axes.set_ylabel("images")
    tidy(axes)
    axes.legend(frameon=False, fontsize=7.5)
    add_words(figure, title, caption)
    return figure


def loss_curves(histories: Mapping[str, pd.DataFrame], title: str, caption: str) -> Figure:
    """Loss (a) and accuracy (b) over the epochs of training, a curve a network.

    Args:
        histories: for each network, columns epoch, loss and accuracy; at least one network.
        title: of the figure.
        caption: small print below it.
    """
    figure = new_figure(9, 4.8)
    loss, accuracy = figure.subplots(1, 2)
    for index, (model, history) in enumerate(histories.items()):
        style: dict[str, Any] = {
            "color": COLOURS[index % len(COLOURS)],
            "marker": MARKERS[index // len(COLOURS) % len(MARKERS)],
            "markersize": 3,
            "markevery": max(1, len(history) // 10),
        }
        loss.plot(history["epoch"] + 1, history["loss"], label=model, **style)
        accuracy.plot(history["epoch"] + 1, 100 * history["accuracy"], **style)
    for axes, label in ((loss, "(a) cross-entropy"), (accuracy, "(b) accuracy in training (%)")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        tidy(axes)
    loss.legend(frameon=False, fontsize=7)
    add_words(figure, title, caption)
    return figure


def _matrix(axes: Axes, rows: pd.DataFrame, models: list[str], highest: float) -> AxesImage:
    nums = sorted(int(num) for num in rows["num"].unique())
    table = rows.pivot_table(index="model", columns="num", values="wrong_rate", sort=False)
    values = 100 * table.reindex(index=models, columns=nums).to_numpy()
    image = axes.imshow(values, vmin=0, vmax=100 * highest, cmap="viridis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value < 55 * highest else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, size=8)
    axes.set_xticks(range(len(nums)), [str(num) for num in nums])
    axes.set_yticks(range(len(models)), models, size=8)
    axes.set_xlabel("changed pixels (num) of test images")
    return image
