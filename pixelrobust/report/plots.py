"""Figures as data: curves with intervals, in panels; and what Plotly is told of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import plotly.graph_objects as go

from pixelrobust.escaping import printable

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
_DASHES = ("solid", "dash", "dot")
_HEIGHT = 300
_ROW_HEIGHT = 30
# More bands hide each other, and more markers the curve; hovering tells the intervals all the same.
_MOST_BANDS = 7
_MOST_MARKERS = 30


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        title: what it shows, and in which unit.
        ticks: where its ticks stand and what they say; none: Plotly's choice.
        range: its two ends; None: Plotly's choice.
        log: whether it is logarithmic; its ends are then exponents of 10, its ticks are not.
    """

    title: str
    ticks: Sequence[tuple[float, str]] = ()
    range: tuple[float, float] | None = None
    log: bool = False


@dataclass(frozen=True)
class Series:
    """Points with intervals, all of one length.

    Attributes:
        name: the entry of the legend that it belongs to.
        x, y: where the points are.
        low, high: the interval of each; along y, or of dots along x.
        hover: what a reader is told at each, lines of text.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    hover: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Panel:
    """One of several plots side by side, on the same axes."""

    title: str
    series: Sequence[Series]


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        title: what it shows.
        x, y: the axes of all panels.
        panels: at least one.
        names: the legend's entries; a figure of one needs no legend.
        form: curves with bands; steps; or dots with whiskers along x, a row each.
    """

    title: str
    x: Axis
    y: Axis
    panels: Sequence[Panel]
    names: Sequence[str]
    form: Literal["curves", "steps", "dots"] = "curves"


def style_of(index: int) -> tuple[int, str, str]:
    """Number of the colour, symbol and dash of a legend's entry; the first 21 all differ."""
    place = index % len(SYMBOLS)
    return place, SYMBOLS[place], _DASHES[index // len(SYMBOLS) % len(_DASHES)]


def plotly_panel(plot: Plot, panel: Panel) -> dict[str, Any]:
    """Data and layout of a panel for Plotly, without colours: `meta.colour` numbers them."""
    order = {name: index for index, name in enumerate(plot.names)}
    figure = go.Figure(layout={"template": {}})
    for series in panel.series:
        index = order[series.name]
        if plot.form != "dots" and len(panel.series) <= _MOST_BANDS:
            _add_band(figure, series, index, plot.form)
        _add_line(figure, series, index, plot.form)
    rows = len(plot.y.ticks) if plot.form == "dots" else 0
    figure.update_layout(
        height=_ROW_HEIGHT * rows + 90 if rows else _HEIGHT,
        margin={"l": 56, "r": 12, "t": 8, "b": 48},
        showlegend=False,
        hovermode="closest",
        dragmode=False,
        xaxis=_axis(plot.x),
        yaxis=_axis(plot.y),
    )
    found: dict[str, Any] = figure.to_plotly_json()
    return found


def literal(text: str) -> str:
    """Text that Plotly, which knows some tags, shows as it is."""
    return escape(printable(text), quote=False)


def _add_band(figure: go.Figure, series: Series, index: int, form: str) -> None:
    colour, _, _ = style_of(index)
    shape = "hv" if form == "steps" else "linear"
    for bound, fill in ((series.low, None), (series.high, "tonexty")):
        figure.add_scatter(
            x=list(series.x), y=list(bound), mode="lines", line={"width": 0, "shape": shape},
            fill=fill, hoverinfo="skip", meta={"colour": colour, "series": index, "band": True},
        )  # fmt: skip


def _add_line(figure: go.Figure, series: Series, index: int, form: str) -> None:
    colour, symbol, dash = style_of(index)
    whiskers = None
    if form == "dots":
        whiskers = {
            "type": "data",
            "symmetric": False,
            "array": [high - x for x, high in zip(series.x, series.high, strict=True)],
            "arrayminus": [x - low for x, low in zip(series.x, series.low, strict=True)],
            "thickness": 1.5,
            "width": 4,
        }
    curve = "lines+markers" if len(series.x) <= _MOST_MARKERS else "lines"
    figure.add_scatter(
        x=list(series.x), y=list(series.y), mode="markers" if whiskers else curve,
        line={"width": 2, "dash": dash, "shape": "hv" if form == "steps" else "linear"},
        marker={"symbol": symbol, "size": 9 if whiskers else 7}, error_x=whiskers,
        hovertext=["<br>".join(map(literal, lines)) for lines in series.hover], hoverinfo="text",
        meta={"colour": colour, "series": index},
    )  # fmt: skip


def _axis(axis: Axis) -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": {"text": literal(axis.title), "standoff": 8},
        "automargin": True,
        "fixedrange": True,
        "zeroline": False,
    }
    if axis.ticks:
        found |= {
            "tickvals": [value for value, _ in axis.ticks],
            "ticktext": [literal(text) for _, text in axis.ticks],
        }
    if axis.range:
        found["range"] = list(axis.range)
    if axis.log:
        found["type"] = "log"
    return found
