"""The style of all figures, and the files that they are written to; the modules here draw them."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend

from pixelrobust.errors import printable
from pixelrobust.files import replacing

# Okabe & Ito's palette, told apart with any colour vision; markers serve greyscale print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Numbers of pixels that span more than this ratio are drawn on a logarithmic axis.
_WIDEST_LINEAR_AXIS = 32
_LEGEND_HEIGHT = 0.3  # inches
_CAPTION_CHARACTERS = 16  # an inch
_DIGITS = 10  # of positions, in parts of the figure
_FORMATS = ("png", "pdf")
TITLE, CAPTION, ON_COLOUR = "title", "caption", "on-colour"
"""Group ids of a figure's own words, and of words on coloured fields, for those who embed it."""


def add_legend(figure: Figure, axes: Axes) -> None:
    """Add one legend for all panels, in a strip of its own below them."""
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
    """Add a title above the panels, and small print below everything."""
    figure.suptitle(title, fontsize=11, parse_math=False, gid=TITLE)
    text = printable(caption)
    # To wrap it, matplotlib would read what stands between two dollars as a formula, and may fail.
    has_dollars = "$" in text
    if has_dollars:
        text = textwrap.fill(text, int(_CAPTION_CHARACTERS * figure.get_figwidth()))
    figure.text(
        0.5,
        -0.01,
        text,
        ha="center",
        va="top",
        fontsize=7.5,
        wrap=not has_dollars,
        parse_math=False,
        gid=CAPTION,
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


def num_axis(axes: Axes, nums: Sequence[int]) -> None:
    """Put numbers of changed pixels along the bottom, on a logarithmic axis where they span much.

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
    """Give a panel a faint grid, and no frame but the two axes."""
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
    """Return an empty figure of this size in inches, which needs no display."""
    figure = Figure(figsize=(width, height), layout=_RoundedLayout())
    FigureCanvasAgg(figure)
    return figure
