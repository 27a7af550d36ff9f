"""The paper's experiments: what each is called, shows, and reported."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pixelrobust.outcomes.kinds import CELL_COLUMNS

_PUBLISHED, _NETWORKS = (
    Path(__file__).with_name(name) for name in ("published.csv", "networks.csv")
)


@dataclass(frozen=True)
class Experiment:
    """Say how the outcomes of an experiment are presented.

    Attributes:
        table: stem of the table files.
        title: of the table.
        figure: stem of the figure files.
        figure_title: of the figure.
        flips: stem of table and figure of the pixels to flip; None: the experiment has none.
        histories: stem of the files that show how networks were retrained.
    """

    table: str
    title: str
    figure: str
    figure_title: str
    flips: str | None = None
    histories: str = "retraining"

    def of_flips(self) -> "Experiment":
        """Return how the pixels to flip of this experiment are presented."""
        assert self.flips
        return Experiment(
            table=self.flips,
            title="Pixels to flip: how many random pixels it takes to change a prediction",
            figure=self.flips,
            figure_title="Images still classified correctly after so many changed pixels",
        )


_EXPERIMENTS = {
    "table6": Experiment(
        table="table6",
        title="Table 6: wrong predictions after random changes of a few pixels",
        figure="figure8",
        figure_title="Figure 8: accuracy and wrong images over the number of changed pixels",
        flips="pixels-to-flip",
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
    "returns": Experiment(
        table="returns",
        title="Returns: adversarial images of several sizes under changed pixels",
        figure="returns",
        figure_title="Adversarial images that return to their true class (%), over epsilon and num",
    ),
    "overshoot": Experiment(
        table="overshoot",
        title="Overshoot: adversarial images beyond their own smallest epsilon",
        figure="overshoot",
        figure_title="Adversarial images that return to their true class, as they are or by rounding alone",
    ),
    "breakdown": Experiment(
        table="breakdown",
        title="Breakdown: how many random pixels it takes",
        figure="breakdown",
        figure_title="Accuracy and wrong images far beyond the paper's numbers of changed pixels",
        flips="breakdown-pixels-to-flip",
    ),
    "impulse-noise": Experiment(
        table="impulse-noise",
        title="Impulse noise of ImageNet-C, severities 1 to 5",
        figure="impulse-noise",
        figure_title="Accuracy and wrong images under the impulse noise of ImageNet-C",
    ),
    "worst-case": Experiment(
        table="worst-case",
        title="Worst case: images broken by chance, by the worst of many changes, and by a search",
        figure="worst-case",
        figure_title="Images that some of so many changes break: random ones, and a search's",
    ),
    "amplification": Experiment(
        table="amplification",
        title="Amplification: what becomes of a change on its way through a network",
        figure="amplification",
        figure_title="How far activations move when the image changes, from input to logits",
    ),
    "table10": Experiment(
        table="table10",
        title="Table 10: wrong predictions of retrained networks after random changes of pixels",
        figure="table10",
        figure_title="Wrong predictions in %: networks by what they were retrained on, and test images",
    ),
    "table10-all": Experiment(
        table="table10-all",
        title="Table 10 with all layers retrained",
        figure="table10-all",
        figure_title="Wrong predictions in %: networks of which all layers were retrained",
        histories="retraining-all",
    ),
    "table11": Experiment(
        table="table11",
        title="Table 11: adversarial images that still fool",
        figure="waterfall",
        figure_title="",
    ),
    "distances": Experiment(
        table="distances",
        title="Distance r from images to the classification boundary (Eq. 3 to 6)",
        figure="distances",
        figure_title="Change of the distance r from that of",
    ),
}
PAPERS_NUMS = (4, 8, 16, 32, 64)
"""The numbers of changed pixels of Experiments 1 to 4. What is said of the paper's tables, figures and
claims goes by these, and by the last where it is one number, however many more a run may hold."""

TABLE_5 = Experiment(
    table="table5",
    title="Table 5: the Pixel-index of every cell",
    figure="pixel-index",
    figure_title="The Pixel-index over num, amplitude and area: level, were it a property of the network",
)
TABLE_5_SOURCES = ("table6", "table7", "table8")
"""The experiments whose cells Table 5 holds."""

LADDER = Experiment(
    table="ladder",
    title="The ladder to known noise: changed pixels beside the impulse noise of ImageNet-C",
    figure="ladder",
    figure_title="Accuracy under changed pixels, and under the impulse noise of ImageNet-C",
)
LADDER_SOURCES = ("breakdown", "impulse-noise")
"""The experiments that the ladder is made of."""

CLAIM_SOURCES = (*TABLE_5_SOURCES, "table9", "returns", "amplification", "worst-case", "table10", "table10-all",
                 "table11", "distances")  # fmt: skip
"""The experiments that decide the paper's claims."""

FIVE_NETWORKS = ("resnet101", "densenet121", "vgg16", "alexnet", "squeezenet1_1")
"""The paper's networks, by their keys in configs/model."""

DESCRIPTIONS = {
    "table1": (
        "Table 1: the networks",
        "Parameters and accuracies on the ILSVRC validation images are those that torchvision states for "
        "these weights; other libraries state none.",
    ),
    "table2": (
        "Table 2: the attacks that are configured",
        "Described as foolbox describes them. Epsilon is in 1/255, measured by the attack's own norm; "
        "minimal is the smallest that fools the network.",
    ),
    "table3": (
        "Table 3: kinds of data augmentation",
        "Transforms of the installed torchvision, described as it describes them, and the paper's own.",
    ),
    "table4": (
        "Table 4: the parameters of the Pixel-index",
        "The example is the paper's, Eq. 8 to 12. The paper prints 98.30 for Pi, because it rounds p and "
        "a first.",
    ),
}
"""Title and note of the tables that describe rather than measure."""

PAPERS_RETRAINED = "resnet101"
"""The network that the paper retrains (Section 6.2)."""

STILL_FOOL = 0.249
"""Share of adversarial images that keep their effect on ResNet101-4 (Section 6.2, Table 11)."""

CLAIMS = "claims"

HISTORIES = tuple(dict.fromkeys(each.histories for each in _EXPERIMENTS.values()))
"""Stems of the files that show how networks were retrained."""

HISTORIES_TITLE = "Losses and accuracies while retraining"

WATERFALL_TITLE = "Why adversarial images stop fooling, cause by cause"

FIGURE_1 = "figure1"
FIGURE_1_TITLE = (
    "Figure 1: what networks take an image for while more and more of its pixels change"
)

_ANY_OTHER = Experiment(
    table="table",
    title="Wrong predictions after random changes of a few pixels",
    figure="figure",
    figure_title="Accuracy and wrong images over the number of changed pixels",
)


def experiment_called(name: str) -> Experiment:
    """Return the paper's experiment of this name, or the presentation of any other run."""
    return _EXPERIMENTS.get(name, _ANY_OTHER)


def within_paper(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of no more changed pixels than the paper's."""
    return rows[rows["num"] <= PAPERS_NUMS[-1]]


def published_rates(table: str) -> pd.DataFrame:
    """Return the wrong rates that the paper's text reports for a table.

    Returns:
        Columns model, num, amplitude, area, published_wrong_rate, wording, source.
    """
    rates = pd.read_csv(_PUBLISHED).astype({"amplitude": "Int16", "area": "Int32"})
    return rates[rates["table"] == table].drop(columns="table").reset_index(drop=True)


def year_and_stem(network: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the year of a network, and the side of its first kernel or patch in pixels.

    Args:
        network: its name and weights, as in the manifest of a run.

    Returns:
        None where networks.csv does not know it. Weights of one's own count as the first that are there.
    """
    known = pd.read_csv(_NETWORKS)
    own = known[known["name"] == network.get("name")]
    same = own[own["weights"] == network.get("weights")]
    rows = (same if len(same) else own)[["year", "stem"]].to_numpy().tolist()
    return (rows[0][0], rows[0][1]) if rows else None


def beside_published(summary: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return the summary with columns published_wrong_rate and difference (ours minus the paper's)."""
    rates = published_rates(table)[["model", *CELL_COLUMNS, "published_wrong_rate"]]
    merged = summary.merge(rates, how="left", on=["model", *CELL_COLUMNS])
    return merged.assign(difference=merged["wrong_rate"] - merged["published_wrong_rate"])
