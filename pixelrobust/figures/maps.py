"""Heat maps: shares as coloured fields with their numbers."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pixelrobust.figures import ON_COLOUR, add_words, new_figure

_DARK = 0.55  # of the largest value, below which letters are white


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
    figure = new_figure(4.2 * len(kinds) + 0.6, 3.2 * len(models) + 0.6)
    panels = figure.subplots(len(models), len(kinds), squeeze=False)
    for row, model in enumerate(models):
        for column, kind in enumerate(kinds):
            part = summary[(summary["model"] == model) & (summary["images_are"] == kind)]
            axes, epsilons = panels[row, column], list(part["epsilon"].unique())
            image = heat_map(
                axes, part, ("epsilon", epsilons, "return_rate"), 1, lambda v: f"{100 * v:.0f}"
            )
            axes.set_yticks(range(len(epsilons)), [str(epsilon) for epsilon in epsilons])
            axes.set_xlabel("changed pixels (num)")
            axes.set_ylabel("epsilon (1/255)")
            axes.set_title(f"{model}: {kind}", fontsize=9, parse_math=False)
    figure.colorbar(image, ax=panels, label="returned to the true class", shrink=0.6)
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
    image = axes.imshow(values, vmin=0, vmax=highest, cmap="viridis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value < _DARK * highest else "black"
            axes.text(
                column, row, words(value), ha="center", va="center", color=colour, size=8,
                gid=ON_COLOUR,
            )  # fmt: skip
    axes.set_xticks(range(len(nums)), [str(num) for num in nums])
    return image
