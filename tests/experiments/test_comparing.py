"""When a stored row is contradicted, and when another order of sums may have made it."""

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from experiments.config import settings_of
from experiments.measures import Chosen, Subject
from experiments.session import Progress, Session
from experiments.verify import Shown, compare, incomplete
from pixelrobust.datasets.decoded import PixelRows
from pixelrobust.engine import EagerEngine
from pixelrobust.models.build import Classifier
from pixelrobust.outcomes.kinds import ADVERSARIAL, DISTANCES, OUTCOMES, Kind
from pixelrobust.outcomes.rows import make_outcomes
from pixelrobust.perturbation.grid import Cell

SIDE = 6
KEYS = ["a", "b", "c"]


class Fixed(nn.Module):
    """The same logits for every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.repeat(len(images), 1)


class Brightness(nn.Module):
    """Class 1 where the mean is above one half, by a logit of 100 times the difference."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(mean), 100 * (mean - 0.5)], dim=1)


def shown(kind: Kind, module: nn.Module, *keys: str, level: int = 100, label: int = 0) -> Shown:
    """Show grey images to a network."""
    pixels = np.full((len(keys), 3, SIDE, SIDE), level, dtype=np.uint8)
    rows = PixelRows(pixels, np.arange(len(keys)))
    images = Chosen(rows, list(keys), np.full(len(keys), label), "")
    engine = EagerEngine(module.eval(), torch.device("cpu"), 2)
    settings = settings_of("model=alexnet", "attack=fgsm", "attack.step=0.255", "dataset.root=.")
    session = Session(settings, Progress(Console(quiet=True)))
    return Shown(session, kind, images, [Subject(Classifier("net", module, ""), engine)])


def rows(*predictions: int, label: int = 0) -> pd.DataFrame:
    """Outcomes of two draws of each image."""
    table = np.array(predictions).reshape(-1, 2)
    labels = np.full(len(table), label)
    return make_outcomes("net", KEYS[: len(table)], labels, {Cell(4): table})


def unasked(*_: object) -> float:
    raise AssertionError("nothing is shown again where nothing differs")


@pytest.mark.parametrize(
    ("logits", "stored", "fault"),
    [
        ((1.0, 0.995, -5.0), 1, "borderline"),
        ((1.0, 0.98, -5.0), 1, "prediction"),
        ((1.0, -1e9, -5.0), 1, "prediction"),
        ((1.0, 1.0), 2, "prediction"),
    ],
    ids=["a gap of 0.005", "one of 0.02", "one of 1e9", "a class that the network lacks"],
)
def test_predictions_are_borderline_by_the_gap_of_logits(
    logits: tuple[float, ...], stored: int, fault: str
) -> None:
    own = shown(OUTCOMES, Fixed(*logits), "a", "b")
    found = compare(rows(0, 0, stored, 0), rows(0, 0, 0, 0), OUTCOMES, own.gap, own.ties)
    (row,) = found.itertuples()
    assert (row.image, row.which, row.fault) == ("b", "num 4, draw 0", fault)
    assert (row.was, row.now) == (f"class {stored} of label 0, wrong", "class 0 of label 0, right")
    gap = logits[0] - logits[stored] if stored < len(logits) else np.inf
    assert row.gap == pytest.approx(gap, rel=1e-3)


def test_rows_that_are_not_measured_are_contradicted() -> None:
    more = rows(0, 0).assign(draw=[0, 2])
    found = compare(more, rows(0, 0), OUTCOMES, unasked, unasked)
    assert found[["which", "now", "fault"]].to_numpy().tolist() == [
        ["num 4, draw 2", "none", "count"]
    ]


def test_numbers_are_the_same_within_a_hundredth() -> None:
    keys = {"model": "net", "training_seed": 0, "images_are": "same", "image": [*KEYS, "d"]}
    stored, again = (
        pd.DataFrame(keys | {"distance": distances, "measured": np.nan})
        for distances in ([1.0, 1.0, np.nan, np.nan], [1.009, 1.011, np.nan, 1.0])
    )
    found = compare(stored, again, DISTANCES, unasked, unasked)
    assert found[["image", "fault"]].to_numpy().tolist() == [["b", "value"], ["d", "value"]]


def test_cells_have_each_outcome_once() -> None:
    whole = rows(*[0] * 6)
    assert not len(incomplete(whole, OUTCOMES, 2, {}))
    for faulty in (whole.iloc[1:], pd.concat([whole, whole.iloc[:1]])):
        (row,) = incomplete(faulty, OUTCOMES, 2, {}).itertuples()
        assert (row.fault, row.which, row.now) == ("count", "num 4", "6")
    # One instead of another.
    swapped = pd.concat([whole.iloc[1:], whole.iloc[1:2]])
    (row,) = incomplete(swapped, OUTCOMES, 2, {}).itertuples()
    assert row.was == "6 outcomes, 5 of them different"


@pytest.mark.parametrize(
    ("size", "fault"),
    [(2.55, None), (2.5, "borderline"), (2.295, "attack"), (2.8, "attack"), (0.0, "attack")],
)
def test_attacks_end_elsewhere_unless_the_smaller_change_ties(
    size: float, fault: str | None
) -> None:
    """A level of 130 is 2.5/255 above one half: both logits are 0 there, and 10 steps are needed.

    At one step less they are 0.08 apart, at 2.55 0.02.
    """
    pytest.importorskip("foolbox")
    own = shown(ADVERSARIAL, Brightness(), "a", level=130, label=1)
    attacked = rows(0, 0, label=1).assign(epsilon="minimal", rounded=False, adversarial=0)
    attacked = pd.concat([attacked.iloc[:1].assign(num=0), attacked])
    stored, again = (attacked.assign(size=one)[ADVERSARIAL.columns] for one in (size, 2.55))
    found = compare(stored, again, ADVERSARIAL, unasked, own.ties)
    assert found["fault"].tolist() == ([] if fault is None else [fault])
    if fault:
        assert found["now"].tolist() == ["fooled by 2.55/255"]
        assert found["was"].item() == ("not fooled" if size == 0 else f"fooled by {size:.4g}/255")
