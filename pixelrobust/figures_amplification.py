"""How differences grow or shrink on their way through a network: a pure function of summaries."""

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pixelrobust.figures import COLOURS, MARKERS, add_legend, add_words, new_figure, tidy

_LABELS = {"pixels": "a few changed pixels", "noise": "Gaussian noise of the same L2 norm"}
_MOST_COLUMNS = 3
_MARKERS_A_CURVE = 12


def amplification_curves(summaries: Mapping[str, pd.DataFrame], title: str, caption: str) -> Figure:
    """Relative change of activations over depth, as a multiple of that of the input.

    Args:
        summaries: by model, from `pixelrobust.amplification.summarize_amplification`; at least one.
        title: of the figure.
        caption: small print below it.

    Returns:
        A figure with a panel for each model: medians over images as curves, quartiles as bands,
        on a logarithmic axis. Depth is the layer's rank, from 0, the input, to 1, the logits.
    """
    columns = min(len(summaries), _MOST_COLUMNS)
    rows = math.ceil(len(summaries) / columns)
    size = (6.5, 4.6) if len(summaries) == 1 else (3.2 * columns + 1, 3.1 * rows + 1)
    figure = new_figure(*size)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, (model, summary) in zip(panels, summaries.items(), strict=False):
        _panel(axes, model, summary)
    for axes in panels[len(summaries) :]:
        axes.remove()
    for axes in panels[::columns]:
        axes.set_ylabel("relative change / that of the input")
    add_legend(figure, panels[0])
    add_words(figure, title, caption)
    return figure


def _panel(axes: Axes, model: str, summary: pd.DataFrame) -> None:
    for (change, label), colour, marker in zip(_LABELS.items(), COLOURS, MARKERS, strict=False):
        # Nothing that did not move, or was all 0, has a place on a logarithmic axis.
        shown = (summary["change"] == change) & (summary["amplification_q1"] > 0)
        curve = summary[shown].sort_values("depth")
        depth = curve["depth"] / summary["depth"].max()
        axes.plot(
            depth,
            curve["amplification"],
            color=colour,
            marker=marker,
            markersize=4,
            markevery=max(1, len(curve) // _MARKERS_A_CURVE),
            label=label,
        )
        axes.fill_between(
            depth,
            curve["amplification_q1"],
            curve["amplification_q3"],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set_title(model, fontsize=9, parse_math=False)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("depth (0: input, 1: logits)")
    tidy(axes)
