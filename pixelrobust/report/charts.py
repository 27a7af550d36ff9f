"""Figures of what is no rate over cells: survival, amplification, losses, and values in rows."""

from collections.abc import Mapping, Sequence

import pandas as pd

from pixelrobust.report.axes import (
    PLACE,
    Row,
    ends,
    logarithmic,
    num_axis,
    num_places,
    numbers,
    series_of,
)
from pixelrobust.report.plots import Axis, Panel, Plot, Series
from pixelrobust.survival import SurvivalCurve
from pixelrobust.tables import significant

_LONGEST = 30
_CHANGES = {"pixels": "a few changed pixels", "noise": "Gaussian noise of the same L2 norm"}


def survival_plot(curves: Mapping[str, SurvivalCurve], title: str) -> Plot:
    """Images not flipped yet over num, with 95 % intervals, a curve a model.

    Args:
        curves: of each model, from `pixelrobust.survival_tables.survival_curves`.
        title: of the figure.
    """
    nums = sorted({0, *(int(num) for curve in curves.values() for num in curve.nums)})
    places = num_places(nums)
    series = []
    for model, curve in curves.items():
        own = [0, *(int(num) for num in curve.nums)]
        left, low, high = (
            [100.0, *(100 * float(value) for value in values)]
            for values in (curve.survival, curve.low, curve.high)
        )
        hover = [
            (model, f"{num:,} changed pixels", f"{share:.1f} % not flipped (95 %: {least:.1f}–{most:.1f})")
            for num, share, least, most in zip(own, left, low, high, strict=True)
        ]  # fmt: skip
        series.append(Series(model, [places[num] for num in own], left, low, high, hover))
    y = Axis("images still right (%)", range=(-2.5, 105))
    return Plot(title, num_axis(nums), y, [Panel("", series)], list(curves), "steps")


def amplification_plot(summaries: Mapping[str, pd.DataFrame], title: str) -> Plot:
    """Relative change of activations over depth: medians and quartiles, a panel a model.

    Args:
        summaries: by model, from `pixelrobust.amplification.summarize_amplification`.
        title: of the figure.
    """
    keys = ("amplification", "amplification_q1", "amplification_q3")
    panels, shown = [], []
    for model, summary in summaries.items():
        placed = summary.assign(**{PLACE: summary["depth"] / summary["depth"].max()})
        # What did not move has no place on a logarithmic axis.
        moved = placed[placed["amplification_q1"] > 0]
        shown.append(moved[list(keys)])
        curves = [
            series_of(name, moved[moved["change"] == change], keys, 1, _amplification_hover)
            for change, name in _CHANGES.items()
        ]
        panels.append(Panel(model, curves))
    values = pd.concat(shown).to_numpy()
    y = logarithmic("relative change / that of the input", values.min(), values.max())
    x = Axis("depth (0: input, 1: logits)", range=ends([0, 1]))
    return Plot(title, x, y, panels, list(_CHANGES.values()))


def loss_plot(table: pd.DataFrame, title: str) -> Plot | None:
    """Losses over the epochs of retraining, a curve a network and seed.

    Args:
        table: columns epoch, loss, accuracy, model, training_seed.
        title: of the figure.
    """
    table = numbers(table, "epoch", "loss", "accuracy")
    table = table[table["loss"] > 0].assign(**{PLACE: table["epoch"] + 1})
    several = table["training_seed"].nunique() > 1
    curves = []
    for (model, seed), rows in table.groupby(["model", "training_seed"], sort=False):
        name = f"{model}, seed {seed}" if several else str(model)

        def hover(row: Row, name: str = name) -> list[str]:
            accuracy = f"accuracy in training {100 * row['accuracy']:.1f} %"
            return [name, f"epoch {row[PLACE]:g}", f"loss {row['loss']:.3g}", accuracy]

        curves.append(series_of(name, rows, ("loss", "loss", "loss"), 1, hover))
    if not curves:
        return None
    y = logarithmic("cross-entropy, log scale", table["loss"].min(), table["loss"].max())
    names = [curve.name for curve in curves]
    return Plot(title, Axis("epoch"), y, [Panel("", curves)], names)


def dots_plot(
    rows: Sequence[tuple[str, float, float, float, Sequence[str]]], title: str, axis: str
) -> Plot:
    """Values with intervals, a row each, the first at the top.

    Args:
        rows: label, value, low, high, and what a reader is told; at least one.
        title: of the figure.
        axis: what the values are.
    """
    labels, values, lows, highs, hover = zip(*rows, strict=True)
    places = [float(len(rows) - 1 - index) for index in range(len(rows))]
    ticks = [(place, _short(label)) for place, label in zip(places, labels, strict=True)]
    y = Axis("", ticks, (-0.6, len(rows) - 0.4))
    series = Series(axis, values, places, lows, highs, hover)
    return Plot(title, Axis(axis), y, [Panel("", [series])], [axis], "dots")


def _short(label: str) -> str:
    """A label that leaves room for what it labels."""
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def _amplification_hover(row: Row) -> list[str]:
    middle, low, high = (
        significant(float(row[key]))
        for key in ("amplification", "amplification_q1", "amplification_q3")
    )
    where = f"{row['layer']} (depth {row[PLACE]:.2f})"
    return [where, f"median {middle} (quartiles {low}–{high})", f"{int(row['images']):,} images"]
