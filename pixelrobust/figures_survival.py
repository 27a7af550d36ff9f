"""Pixels to flip: how many images survive how many changed pixels."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pixelrobust.figures import COLOURS, add_legend, add_words, new_figure, num_axis, tidy
from pixelrobust.survival import SurvivalCurve

_LINES = ("-", "--", "-.", ":")


def survival_figure(
    curves: Mapping[str, SurvivalCurve], nums: Sequence[int], title: str, caption: str
) -> Figure:
    """Kaplan-Meier curves: the share of images not flipped yet, over the number of changed pixels.

    Args:
        curves: of each model.
        nums: the numbers of changed pixels that were tried, rising.
        title: of the figure.
        caption: small print below it.

    Returns:
        A figure with 95 % intervals as bands. A curve falls at the num at which images were found
        flipped; a cross at its end marks those that never were.
    """
    figure = new_figure(6.5, 4.6)
    axes = figure.subplots()
    for index, (model, curve) in enumerate(curves.items()):
        _draw(axes, curve, model, index)
    num_axis(axes, [0, *(num for num in nums if num)])
    axes.set_ylabel("images still classified correctly (%)")
    tidy(axes)
    add_legend(figure, axes)
    add_words(figure, title, caption)
    return figure


def _draw(axes: Axes, curve: SurvivalCurve, model: str, index: int) -> None:
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
