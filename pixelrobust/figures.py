"""Figures: pure functions of summary tables."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend

from pixelrobust.escaping import printable
from pixelrobust.files import replacing

# Okabe & Ito's palette, told apart with any colour vision; markers serve greyscale print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Numbers of pixels that span more than this ratio are drawn on a logarithmic axis.
_WIDEST_LINEAR_AXIS = 32
_LEGEND_HEIGHT = 0.3  # inches
_DIGITS = 10  # of positions, in parts of the figure
_FORMATS = ("png", "pdf")


def curves(summary: pd.DataFrame, by: str, title: str, caption: str) -> Figure:
    """Accuracy (a) and wrong images (b) over the number of changed pixels.

    Args:
        summary: from `pixelrobust.tables.summarize`.
        by: what a curve stands for: "model", or "amplitude" or "area" with a column of panels for
            each model. The control belongs to every curve.
        title: of the figure.
        caption: small print below it.

    Returns:
        A figure with 95 % intervals as bands. With several draws an image, wrong images are the
        mean number a draw.
    """
    models = list(summary["model"].unique())
    groups = {"": summary} if by == "model" else {m: summary[summary["model"] == m] for m in models}
    single = len(groups) == 1
    figure = new_figure(*((9, 4.6) if single else (3.2 * len(groups) + 1, 7)))
    panels = figure.subplots(*((1, 2) if single else (2, len(groups))), squeeze=False)
    panels = panels.T if single else panels
    for column, (model, group) in enumerate(groups.items()):
        accuracy, wrong = panels[:, column]
        for label, rows, colour, marker in _curves(group, by):
            _curve(accuracy, rows, lambda share: 100 * (1 - share), label, colour, marker)
            _curve(wrong, rows, rows["images"].mul, label, colour, marker)
        _finish(accuracy, group, "(a) accuracy (%)", model)
        _finish(wrong, group, f"(b) wrong images (of {group['images'].max():,})", model)
    add_legend(figure, panels[0, 0])
    add_words(figure, title, caption)
    return figure


def add_legend(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, in a strip of its own below them."""
    handles, labels = axes.get_legend_handles_labels()
    # Without an anchor of its own, a legend moves onto the caption when the figure is cut to its
    # contents; with one, the layout leaves it no room.
    share = _LEGEND_HEIGHT / figure.get_figheight()
    figure.set_layout_engine(_RoundedLayout(rect=(0, share, 1, 1 - share)))
    legend = figure.legend(
        handles,
        labels,
        loc="lower center",
        bbox_to_anchor=(0.5, 0),
        ncols=len(labels),
        frameon=False,
    )
    take_literally(legend)


def take_literally(legend: Legend) -> None:
    """Show a legend's names as they are: dollars are dollars, and begin no formula."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def add_words(figure: Figure, title: str, caption: str) -> None:
    """A title above the panels, and small print below everything."""
    figure.suptitle(title, fontsize=11, parse_math=False)
    figure.text(
        0.5,
        -0.01,
        printable(caption),
        ha="center",
        va="top",
        fontsize=7.5,
        wrap=True,
        parse_math=False,
    )


def write_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and PDF, without dates, so that equal figures are equal files."""
    paths = [stem.with_suffix(f".{suffix}") for suffix in _FORMATS]
    for path in paths:
        # In memory: what matplotlib does on a full disk is no OSError.
        drawn = io.BytesIO()
        figure.savefig(
            drawn,
            format=path.suffix[1:],
            dpi=160,
            bbox_inches="tight",
            metadata={"CreationDate": None} if path.suffix == ".pdf" else {"Software": None},
        )
        with replacing(path) as temporary:
            temporary.write_bytes(drawn.getvalue())
    return paths


def _curves(summary: pd.DataFrame, by: str) -> Iterator[tuple[str, pd.DataFrame, str, str]]:
    """Label, rows, colour and marker of each curve, in the order of the summary."""
    control = summary["num"] == 0
    values = summary.loc[~control | (by == "model"), by].drop_duplicates()
    for index, value in enumerate(values):
        same = summary[by].isna() if pd.isna(value) else (summary[by] == value).fillna(False)
        rows = summary[same | (control & (by != "model"))].sort_values("num")
        style = index % len(COLOURS)
        yield _label(by, value), rows, COLOURS[style], MARKERS[style]


def _label(by: str, value: Any) -> str:
    if by == "model":
        return str(value)
    if pd.isna(value):
        return "unlimited"
    return f"±{value}" if by == "amplitude" else f"{value} × {value}"


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


def _finish(axes: Axes, summary: pd.DataFrame, label: str, title: str) -> None:
    axes.set_title(title, fontsize=9, parse_math=False)
    num_axis(axes, sorted(int(num) for num in summary["num"].unique()))
    axes.set_ylabel(label)
    tidy(axes)


def num_axis(axes: Axes, nums: Sequence[int]) -> None:
    """Numbers of changed pixels along the bottom, on a logarithmic axis where they span much.

    Args:
        axes: the panel.
        nums: rising, the smallest 0 or more.
    """
    smallest = next((num for num in nums if num > 0), 1)
    if nums[-1] > _WIDEST_LINEAR_AXIS * smallest:
        axes.set_xscale("symlog", base=2, linthresh=smallest)
        axes.minorticks_off()
    axes.set_xticks(nums, [f"{num:,}" for num in nums])
    axes.set_xlabel("changed pixels (num)")


def tidy(axes: Axes) -> None:
    """A faint grid, and no frame but the two axes."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


class _RoundedLayout(ConstrainedLayoutEngine):
    """Matplotlib's constrained layout, with panels at rounded positions.

    The solver's sums come in the order of addresses in memory, so their last bits differ from process
    to process, and with them digits in a PDF.
    """

    def execute(self, fig: Figure) -> None:
        """Lay the figure out, then round the positions of its panels."""
        self.solve(fig)
        for axes in fig.axes:
            axes.set_position(np.round(axes.get_position(original=True).bounds, _DIGITS))
            # Axes that somebody positions leave the layout, which the next file needs again.
            axes.set_in_layout(True)

    def solve(self, fig: Figure) -> None:
        """Lay the figure out as matplotlib does."""
        super().execute(fig)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, which needs no display."""
    figure = Figure(figsize=(width, height), layout=_RoundedLayout())
    FigureCanvasAgg(figure)
    return figure
