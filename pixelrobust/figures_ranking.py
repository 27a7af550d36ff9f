"""The Pixel-index over cells: level curves, were it a property of the model."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pixelrobust.figures import COLOURS, MARKERS, add_legend, add_words, new_figure, tidy

_PANELS = {
    "num": "changed pixels (num)",
    "amplitude": "amplitude (R), at the largest num",
    "area": "side of the area (P), at the largest num",
}
_LIMITS = ("amplitude", "area")


def pixel_index_curves(indices: pd.DataFrame, title: str, caption: str) -> Figure:
    """The Pixel-index of each model over num, amplitude and area, each while nothing else limits.

    Args:
        indices: from `pixelrobust.ranking.pixel_indices`.
        title: of the figure.
        caption: small print below it.

    Returns:
        A figure with a panel for each of the three that varies, and 95 % intervals as bands.
    """
    shown = {key: rows for key in _PANELS if (rows := _over(indices, key))[key].nunique() > 1}
    figure = new_figure(3.6 * max(len(shown), 1) + 0.6, 4.2)
    panels = figure.subplots(1, max(len(shown), 1), sharey=True, squeeze=False)[0]
    for axes, (key, rows) in zip(panels, shown.items(), strict=False):
        _panel(axes, rows, key)
    # Once all panels, which share the axis, have their curves.
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("Pixel-index (Pi)")
    add_legend(figure, panels[0])
    add_words(figure, title, caption)
    return figure


def _over(indices: pd.DataFrame, key: str) -> pd.DataFrame:
    """The cells that only this key, and num, limit; at the largest num unless it is the key."""
    limited = indices[[*_LIMITS]].notna()
    rows = indices[(limited == [limit == key for limit in _LIMITS]).all(axis=1)]
    return rows if key == "num" else rows[rows["num"] == rows["num"].max()]


def _panel(axes: Axes, rows: pd.DataFrame, key: str) -> None:
    for index, (model, of_model) in enumerate(rows.groupby("model", sort=False)):
        style = index % len(COLOURS)
        colour, marker = COLOURS[style], MARKERS[style]
        curve = of_model.sort_values(key)
        at = curve[key].astype(float)
        axes.plot(
            at, curve["pixel_index"], color=colour, marker=marker, markersize=4, label=str(model)
        )
        axes.fill_between(
            at, curve["pi_low"], curve["pi_high"], color=colour, alpha=0.15, linewidth=0
        )
    axes.set_xticks(sorted(rows[key].astype(int).unique()))
    axes.set_xlabel(_PANELS[key])
    tidy(axes)
