"""The map of adversarial images that return to their true class, over epsilon and num."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pixelrobust.figures import add_words, new_figure

_DARK = 0.55


def returns_map(summary: pd.DataFrame, title: str, caption: str) -> Figure:
    """Share of returned images, a row of panels a model, a column a kind of image.

    Args:
        summary: from `pixelrobust.returns.summarize_returns`, with one amplitude and one area.
        title: of the figure.
        caption: small print below it.

    Returns:
        A figure; each field holds its percentage, and is empty where no image is left.
    """
    models, kinds = summary["model"].unique(), summary["images_are"].unique()
    figure = new_figure(4.2 * len(kinds) + 0.6, 3.2 * len(models) + 0.6)
    panels = figure.subplots(len(models), len(kinds), squeeze=False)
    for row, model in enumerate(models):
        for column, kind in enumerate(kinds):
            part = summary[(summary["model"] == model) & (summary["images_are"] == kind)]
            image = _panel(panels[row, column], part, f"{model}: {kind}")
    figure.colorbar(image, ax=panels, label="returned to the true class", shrink=0.6)
    add_words(figure, title, caption)
    return figure


def _panel(axes: Axes, part: pd.DataFrame, title: str) -> AxesImage:
    epsilons, nums = list(part["epsilon"].unique()), sorted(part["num"].unique())
    rates = part.pivot_table(index="epsilon", columns="num", values="return_rate", sort=False)
    values = rates.reindex(index=epsilons, columns=nums).to_numpy()
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value < _DARK else "black"
            axes.text(
                column, row, f"{100 * value:.0f}", ha="center", va="center", color=colour, size=8
            )
    axes.set_xticks(range(len(nums)), [str(num) for num in nums])
    axes.set_yticks(range(len(epsilons)), [str(epsilon) for epsilon in epsilons])
    axes.set_xlabel("changed pixels (num)")
    axes.set_ylabel("epsilon (1/255)")
    axes.set_title(title, fontsize=9, parse_math=False)
    return image
