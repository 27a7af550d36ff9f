"""Figures: pure functions of summary tables."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pixelrobust.files import replacing

# Okabe & Ito's palette, told apart with any colour vision; markers serve greyscale print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Numbers of pixels that span more than this ratio are drawn on a logarithmic axis.
_WIDEST_LINEAR_AXIS = 32
_FORMATS = ("png", "pdf")


def curves_by_model(summary: pd.DataFrame, title: str, caption: str) -> Figure:
    """Accuracy (a) and wrong images (b) over the number of changed pixels, one curve a model.

    Args:
        summary: from `pixelrobust.tables.summarize`, with one amplitude and one area.
        title: of the figure.
        caption: small print below it.

    Returns:
        A figure with 95 % intervals as bands. With several draws an image, wrong images are the
        mean number a draw.
    """
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, wrong = figure.subplots(1, 2)
    for model, rows, colour, marker in _curves(summary, "model"):
        _curve(accuracy, rows, lambda share: 100 * (1 - share), model, colour, marker)
        _curve(wrong, rows, rows["images"].mul, model, colour, marker)
    _finish(accuracy, summary, "(a) accuracy (%)")
    _finish(wrong, summary, f"(b) wrong images (of {summary['images'].max():,})")
    wrong.legend(frameon=False, loc="upper left")
    figure.suptitle(title, fontsize=11)
    figure.text(0.5, -0.01, caption, ha="center", va="top", fontsize=7.5, wrap=True)
    return figure


def write_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and PDF, without dates, so that equal figures are equal files."""
    paths = [stem.with_suffix(f".{suffix}") for suffix in _FORMATS]
    for path in paths:
        with replacing(path) as temporary:
            figure.savefig(
                temporary,
                format=path.suffix[1:],
                dpi=160,
                bbox_inches="tight",
                metadata={"CreationDate": None} if path.suffix == ".pdf" else {"Software": None},
            )
    return paths


def _curves(summary: pd.DataFrame, by: str) -> Iterator[tuple[str, pd.DataFrame, str, str]]:
    for index, value in enumerate(summary[by].unique()):
        rows = summary[summary[by] == value].sort_values("num")
        yield str(value), rows, _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]


def _curve(
    axes: Axes,
    rows: pd.DataFrame,
    scale: Callable[[pd.Series], pd.Series],
    label: str,
    colour: str,
    marker: str,
) -> None:
    nums = rows["num"]
    axes.plot(
        nums, scale(rows["wrong_rate"]), color=colour, marker=marker, markersize=4, label=label
    )
    axes.fill_between(
        nums, scale(rows["ci_low"]), scale(rows["ci_high"]), color=colour, alpha=0.15, linewidth=0
    )


def _finish(axes: Axes, summary: pd.DataFrame, label: str) -> None:
    nums = sorted(int(num) for num in summary["num"].unique())
    smallest = nums[1] if nums[0] == 0 else nums[0]
    if nums[-1] > _WIDEST_LINEAR_AXIS * smallest:
        axes.set_xscale("symlog", base=2, linthresh=smallest)
        axes.minorticks_off()
    axes.set_xticks(nums, [f"{num:,}" for num in nums])
    axes.set_xlabel("changed pixels (num)")
    axes.set_ylabel(label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
