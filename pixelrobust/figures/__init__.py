"""The style of all figures, and the files that they are written to; the modules here draw them."""

import io
import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from pixelrobust.errors import printable
from pixelrobust.files import replacing

# Okabe & Ito's palette, told apart with any colour vision; markers serve greyscale print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# What has an order, such as amplitudes, goes from light to dark (matplotlib's plasma).
LEVELS = ("#ED7953", "#CC4778", "#9C179E", "#5C01A6", "#0D0887")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Ways to change images, of which the last is none, and the paper's nums, have a look of their own.
_KINDS = (
    "pixels", "noise", "erasing", "trivial_augment", "auto_augment", "augmix", "unchanged",
)  # fmt: skip
_NUMS = ("4", "8", "16", "32", "64")
# Numbers of pixels that span this ratio, or more, are drawn on a logarithmic axis.
_WIDE = 16
# Points: between error bars side by side, at most, and the share of a place that they fill together.
_WIDEST_STEP, _FILLED = 7.0, 0.65
_BAR = 1.4
_LEGEND_LINE = 0.21  # inches
_LEGEND_HANDLE = 0.75  # inches, with the gap behind it
_LETTER = 0.083  # inches, of a legend
_CAPTION_CHARACTERS = 16  # an inch
_DIGITS = 10  # of positions, in parts of the figure
_FORMATS = ("png", "pdf")
TITLE, CAPTION, ON_COLOUR = "title", "caption", "on-colour"
"""Group ids of a figure's own words, and of words on coloured fields, for those who embed it."""


@dataclass(frozen=True)
class Look:
    """Colour and marker of one series."""

    colour: str
    marker: str


def looks_of(names: Sequence[str], ordered: bool = False) -> dict[str, Look]:
    """Return the look of each series, the same in all figures of a run.

    Changes ("noise"), and networks that were retrained with them ("net-noise", "net-4"), are known by
    these; all others, such as networks, by their place among the names.

    Args:
        names: of all series of the run in their order, also those that a figure does not show.
        ordered: whether they are levels of one quantity, from small to large.
    """
    looks: dict[str, Look] = {}
    for name in names if not ordered else ():
        look = _known_look(name)
        if look and look not in looks.values():
            looks[name] = look
    every = (_look(LEVELS if ordered else COLOURS, place) for place in itertools.count())
    free = (look for look in every if look not in looks.values())
    return {name: looks[name] if name in looks else next(free) for name in names}


def _known_look(name: str) -> Look | None:
    kind = name.rpartition("-")[2]
    if kind in _NUMS:
        return _look(LEVELS, _NUMS.index(kind))
    return _look(COLOURS, _KINDS.index(kind)) if kind in _KINDS else None


def _look(colours: Sequence[str], place: int) -> Look:
    rounds, index = divmod(place, len(colours))
    return Look(colours[index], MARKERS[(index + rounds) % len(MARKERS)])


def add_series(
    axes: Axes,
    at: ArrayLike,
    values: tuple[ArrayLike, ArrayLike, ArrayLike],
    label: str,
    look: Look,
    place: tuple[int, int],
    line: str = "-",
) -> None:
    """Draw points with error bars beside those of other series, joined by a thin line.

    Args:
        axes: the panel, its ticks set at all places where series have points.
        at: places of the points.
        values: middle, low and high ends.
        label: of the legend.
        look: from `looks_of`.
        place: index of this series, and how many stand side by side.
        line: style of the line.
    """
    middle, low, high = values
    index, count = place
    shift = (index - (count - 1) / 2) * _step(axes, count) / 72
    # The shift is on paper, so points keep their numbers, on any scale.
    beside = axes.transData + ScaledTranslation(shift, 0, _figure_of(axes).dpi_scale_trans)
    axes.vlines(at, low, high, color=look.colour, linewidth=_BAR, transform=beside)
    axes.plot(
        at, middle, color=look.colour, marker=look.marker, markersize=4, linewidth=0.8, linestyle=line,
        label=label, transform=beside,
    )  # fmt: skip
    # Matplotlib takes limits of what is not shifted only.
    axes.update_datalim(np.column_stack([np.tile(at, 2), np.concatenate([low, high])]))
    axes.autoscale_view(scalex=False)


def _figure_of(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def _step(axes: Axes, count: int) -> float:
    """Return the points from one series to the next, such that places do not run into each other."""
    places = _on_paper(axes)
    if len(places) < 2:
        return _WIDEST_STEP
    width = 72 * axes.get_position().width * _figure_of(axes).get_figwidth()
    gap = float(np.diff(places).min())
    # Half of it is left free at either end.
    return min(_WIDEST_STEP, _FILLED * width * gap / (np.ptp(places) + gap) / count)


def _on_paper(axes: Axes) -> NDArray[np.float64]:
    """Return where ticks stand along the bottom, as far as scales go: at logarithms, for example."""
    places: NDArray[np.float64] = axes.xaxis.get_transform().transform(
        np.asarray(axes.get_xticks(), dtype=np.float64)
    )
    return places


def set_places(
    axes: Axes, places: Sequence[float], labels: Sequence[str] | None = None, **style: Any
) -> None:
    """Put ticks along the bottom where series have points, with room at the ends for those beside.

    Args:
        axes: the panel, its scale set.
        places: rising.
        labels: in place of the numbers.
        style: of the labels.
    """
    axes.set_xticks(places, labels, **style)
    on_paper = _on_paper(axes)
    half = float(np.diff(on_paper).min()) / 2 if len(places) > 1 else 0.5
    ends = np.array([on_paper[0] - half, on_paper[-1] + half])
    axes.set_xlim(*axes.xaxis.get_transform().inverted().transform(ends))


def add_complement(axes: Axes, label: str) -> None:
    """Add an axis on the right for what is missing to 100 %."""
    right = axes.secondary_yaxis("right", functions=(_complement, _complement))
    if label:
        right.set_ylabel(label)
    else:
        right.set_yticklabels([])


def _complement(percent: ArrayLike) -> ArrayLike:
    return 100 - np.asarray(percent)


def add_legend(figure: Figure, lines: Iterable[Line2D]) -> None:
    """Add one legend for all panels, of lines with labels, in a strip of its own below them."""
    # Matplotlib's own names begin with an underscore.
    lines = [line for line in lines if not str(line.get_label()).startswith("_")]
    labels = [str(line.get_label()) for line in lines]
    width = _LEGEND_HANDLE + _LETTER * max(map(len, labels), default=0)
    columns = min(max(int(figure.get_figwidth() / width), 1), max(len(labels), 1))
    # Rows of one length, as far as there are enough.
    columns = math.ceil(len(labels) / math.ceil(len(labels) / columns)) if labels else 1
    # Without an anchor of its own, a legend moves onto the caption when the figure is cut to its
    # contents; with one, the layout leaves it no room.
    height = _LEGEND_LINE * math.ceil(len(labels) / columns) + 0.09
    share = height / figure.get_figheight()
    figure.set_layout_engine(_RoundedLayout(rect=(0, share, 1, 1 - share)))
    legend = figure.legend(
        lines,
        labels,
        loc="lower center",
        bbox_to_anchor=(0.5, 0),
        ncols=columns,
        frameon=False,
    )
    # Dollars are dollars, and begin no formula.
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


def write_figure(figure: Figure, stem: Path, photographs: bool = False) -> list[Path]:
    """Write a figure as PNG and PDF, without dates, so that equal figures are equal files.

    Args:
        figure: of this package.
        stem: of the files.
        photographs: whether the figure shows some, which need all their colours; others are written
            with 256, a third as large.
    """
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
        if path.suffix == ".png" and not photographs:
            drawn = _with_few_colours(drawn)
        with replacing(path) as temporary:
            temporary.write_bytes(drawn.getvalue())
    return paths


def _with_few_colours(drawn: io.BytesIO) -> io.BytesIO:
    image, small = Image.open(drawn), io.BytesIO()
    few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True, dpi=image.info["dpi"])
    return small


def remove_figure(stem: Path) -> None:
    """Remove the files of a figure, where there are any."""
    for suffix in _FORMATS:
        stem.with_suffix(f".{suffix}").unlink(missing_ok=True)


def num_axis(axes: Axes, nums: Sequence[int]) -> None:
    """Put numbers of changed pixels along the bottom, on a logarithmic axis where they span much.

    Args:
        axes: the panel.
        nums: rising, the smallest 0 or more.
    """
    label = "changed pixels (num)"
    smallest = next((num for num in nums if num > 0), 1)
    if nums[-1] >= _WIDE * smallest:
        axes.set_xscale("symlog", base=2, linthresh=smallest, linscale=0.5)
        axes.minorticks_off()
        label += f"; symlog: linear below {smallest:,}" if nums[0] == 0 else "; log scale"
    set_places(axes, nums, [f"{num:,}" for num in nums])
    axes.set_xlabel(label)


def log_axis(axes: Axes) -> None:
    """Make the left axis logarithmic, its numbers written out."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


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
