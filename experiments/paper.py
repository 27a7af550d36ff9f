"""What each experiment of the paper is called, shows, and reported."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pixelrobust.outcomes import CELL_COLUMNS

_PUBLISHED = Path(__file__).with_name("published.csv")


@dataclass(frozen=True)
class Experiment:
    """How the outcomes of an experiment are presented.

    Attributes:
        table: stem of the table files.
        title: of the table.
        figure: stem of the figure files.
        figure_title: of the figure.
    """

    table: str
    title: str
    figure: str
    figure_title: str


_EXPERIMENTS = {
    "table6": Experiment(
        table="table6",
        title="Table 6: wrong predictions after random changes of a few pixels",
        figure="figure8",
        figure_title="Figure 8: accuracy and wrong images over the number of changed pixels",
    ),
    "table7": Experiment(
        table="table7",
        title="Table 7: wrong predictions over the amplitude of the change",
        figure="figure9",
        figure_title="Figure 9: accuracy and wrong images, one curve an amplitude",
    ),
    "table8": Experiment(
        table="table8",
        title="Table 8: wrong predictions over the area of the change",
        figure="figure10",
        figure_title="Figure 10: accuracy and wrong images, one curve an area",
    ),
    "table9": Experiment(
        table="table9",
        title="Table 9: what pixel changes do to adversarial images",
        figure="returns",
        figure_title="Adversarial images that return to their true class (%), over epsilon and num",
    ),
    "breakdown": Experiment(
        table="breakdown",
        title="Breakdown: how many random pixels it takes",
        figure="breakdown",
        figure_title="Accuracy and wrong images far beyond the paper's numbers of changed pixels",
    ),
}
_ANY_OTHER = Experiment(
    table="table",
    title="Wrong predictions after random changes of a few pixels",
    figure="figure",
    figure_title="Accuracy and wrong images over the number of changed pixels",
)


def experiment_called(name: str) -> Experiment:
    """The paper's experiment of this name, or the presentation of any other run."""
    return _EXPERIMENTS.get(name, _ANY_OTHER)


def published_rates(table: str) -> pd.DataFrame:
    """Wrong rates that the paper's text reports for a table.

    Returns:
        Columns model, num, amplitude, area, published_wrong_rate, wording, source.
    """
    rates = pd.read_csv(_PUBLISHED).astype({"amplitude": "Int16", "area": "Int32"})
    return rates[rates["table"] == table].drop(columns="table").reset_index(drop=True)


def beside_published(summary: pd.DataFrame, table: str) -> pd.DataFrame:
    """The summary with columns published_wrong_rate and difference (ours minus the paper's)."""
    rates = published_rates(table)[["model", *CELL_COLUMNS, "published_wrong_rate"]]
    merged = summary.merge(rates, how="left", on=["model", *CELL_COLUMNS])
    return merged.assign(difference=merged["wrong_rate"] - merged["published_wrong_rate"])
