"""Which interactive figure stands beside which table."""

import pandas as pd

from experiments.page.folder import Stored
from experiments.paper import WATERFALL_TITLE, Experiment, experiment_called
from experiments.presentation import amplification_summaries
from experiments.retraining.presentation import stages_of_the_fall
from pixelrobust.report import Figure
from pixelrobust.report.axes import numbers
from pixelrobust.report.charts import amplification_plot, dots_plot, loss_plot, survival_plot
from pixelrobust.report.plots import Plot
from pixelrobust.report.rate_charts import pixel_index_plot, rate_plot, transfer_plot
from pixelrobust.survival_tables import survival_curves
from pixelrobust.tables import percent, significant
from pixelrobust.transfer import fall, of_the_smallest_epsilon

_RATES_OVER_NUM = "wrong predictions over the number of changed pixels"
_TITLES = {
    "table": _RATES_OVER_NUM.capitalize(),
    "table5": "The Pixel-index over num: level, were it a property of the network",
    "table6": f"Figure 8: {_RATES_OVER_NUM}",
    "table7": "Figure 9: wrong predictions, one curve an amplitude",
    "table8": "Figure 10: wrong predictions, one curve an area",
    "breakdown": "Wrong predictions far beyond the paper's numbers of changed pixels",
    "table11": "Adversarial images that still fool, over epsilon",
    "distances": "Mean change of the distance r from that of the original network",
}
_HISTORIES = "Cross-entropy on the training images, epoch by epoch"
_RATES = {"num", "amplitude", "area", "ci_low", "ci_high", "images"}


def figures_of(stored: Stored, stem: str, run: str | None) -> list[Figure]:
    """The figures of a table.

    Args:
        stored: the folder.
        stem: of the table.
        run: stem of the outcomes behind it.
    """
    table = stored.table(stem)
    plots = (
        []
        if table is None
        else [_of_table(table, _TITLES.get(stem) or experiment_called(stem).figure_title)]
    )
    rows = stored.rows(run) if run else None
    if rows is not None and len(rows):
        plots += _of_outcomes(rows, stem, experiment_called(run or ""))
    return [Figure(plot) for plot in plots if plot is not None]


def _of_table(table: pd.DataFrame, title: str) -> Plot | None:
    """The figure that the columns of a table ask for."""
    columns = set(table.columns)
    if "pi_low" in columns:
        return pixel_index_plot(table, title) if columns >= _RATES else None
    if {"fooled_rate", "epsilon", "against", "rounded", "images", "ci_low"} <= columns:
        return transfer_plot(table, title)
    if {"model", "baseline_change", "baseline_low", "baseline_high"} <= columns:
        return _distances(table, title)
    if {"epoch", "loss", "accuracy", "model", "training_seed"} <= columns:
        return loss_plot(table, _HISTORIES)
    if columns >= _RATES | {"model"} and columns & {"wrong_rate", "return_rate"}:
        return rate_plot(table, title)
    return None


def _of_outcomes(rows: pd.DataFrame, stem: str, experiment: Experiment) -> list[Plot | None]:
    """The figures that no CSV table holds the numbers of."""
    if stem == experiment.flips:
        return [survival_plot(survival_curves(rows), experiment.of_flips().figure_title)]
    if "layer" in rows:
        return [amplification_plot(amplification_summaries(rows), experiment.figure_title)]
    if "against" in rows and stem == experiment.table:
        return [_waterfall(rows)]
    return []


def _waterfall(rows: pd.DataFrame) -> Plot | None:
    """How many images still fool, cause by cause."""
    stages = stages_of_the_fall(rows)
    if not stages:
        return None
    points = []
    for step in fall(of_the_smallest_epsilon(rows), stages):
        rate, low, high = (percent(share) for share in (step.rate, step.low, step.high))
        words = [step.label, f"{rate} % still fool (95 %: {low}–{high})"]
        points.append((step.label, 100 * step.rate, 100 * step.low, 100 * step.high, words))
    return dots_plot(points, WATERFALL_TITLE, "adversarial images that still fool (%)")


def _distances(table: pd.DataFrame, title: str) -> Plot | None:
    """Mean changes of the distance, a row a network."""
    kept = numbers(table, "baseline_change", "baseline_low", "baseline_high")
    points = []
    for _, row in kept.iterrows():
        change, low, high = (float(row[f"baseline_{end}"]) for end in ("change", "low", "high"))
        label = f"{row['model']}, {row['images_are']}" if _several(kept) else str(row["model"])
        words = [label, f"{significant(change)} (95 %: {significant(low)} to {significant(high)})"]
        points.append((label, change, low, high, words))
    axis = "mean change of the distance r (L2, pixels in [0, 1])"
    return dots_plot(points, title, axis) if points else None


def _several(table: pd.DataFrame) -> bool:
    return "images_are" in table and table["images_are"].nunique() > 1
