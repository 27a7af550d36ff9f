"""Heat maps: shares as coloured fields with their numbers."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pixelrobust.figures import ON_COLOUR, add_words, new_figure

# Nothing is white, so that a field says more the darker it is.
_COLOURS = "Blues"
_DARK = 0.68  # of the largest value, above which letters are white


def returns_map(summary: pd.DataFrame, title: str, caption: str) -> Figure:
    """Draw the share of recovered adversarial images, over epsilon and num.

    Args:
        summary: from `pixelrobust.tables.adversarial.summarize_returns`, with one amplitude and one area.
        title, caption: words above the panels, and small print below them.

    Returns:
        A figure with a row of panels for each model and a column for each kind of image; each field
        holds its percentage, and is empty where no image is left.
    """
    models, kinds = summary["model"].unique(), summary["images_are"].unique()
    epsilons = list(summary["epsilon"].unique())
    height = 0.19 * len(epsilons) + 0.25
    figure = new_figure(1.75 * len(kinds) + 1.6, height * len(models) + 1.1)
    panels = figure.subplots(len(models), len(kinds), sharex=True, sharey=True, squeeze=False)
    percent = summary.assign(percent=100 * summary["return_rate"])
    for row, model in enumerate(models):
        for column, kind in enumerate(kinds):
            part = percent[(percent["model"] == model) & (percent["images_are"] == kind)]
            axes = panels[row, column]
            image = heat_map(axes, part, ("epsilon", epsilons, "percent"), 100, "{:.0f}".format)
            axes.tick_params(labelsize=7, length=2)
            if row == 0:
                axes.set_title(kind, fontsize=8)
            if column == 0:
                axes.set_ylabel(str(model), fontsize=8, parse_math=False)
        panels[row, 0].set_yticks(range(len(epsilons)), [str(epsilon) for epsilon in epsilons])
    figure.supxlabel("changed pixels (num)", fontsize=9)
    figure.supylabel("epsilon (1/255), by network", fontsize=9)
    bar = figure.colorbar(image, ax=panels, label="returned to the true class (%)", shrink=0.6)
    bar.ax.tick_params(labelsize=7)
    add_words(figure, title, caption)
    return figure


def heat_map(
    axes: Axes,
    rows: pd.DataFrame,
    of: tuple[str, Sequence[object], str],
    highest: float,
    words: Callable[[float], str],
) -> AxesImage:
    """Draw values over num as coloured fields, each with its number.

    Args:
        axes: the panel.
        rows: of a summary.
        of: the column that fields are stacked by, its values from top to bottom, and the column
            that fields show.
        highest: where the colour scale, which begins at 0, ends.
        words: what is written on a field.

    Returns:
        The image, for a colour bar.
    """
    by, keys, shown = of
    nums = sorted(int(num) for num in rows["num"].unique())
    table = rows.pivot_table(index=by, columns="num", values=shown, sort=False)
    values = table.reindex(index=list(keys), columns=nums).to_numpy()
    image = axes.imshow(values, vmin=0, vmax=highest, cmap=_COLOURS, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value > _DARK * highest else "black"
            axes.text(
                column, row, words(value), ha="center", va="center", color=colour, size=7,
                gid=ON_COLOUR,
            )  # fmt: skip
    axes.set_xticks(range(len(nums)), [str(num) for num in nums])
    return image
