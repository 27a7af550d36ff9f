"""When a stored row is contradicted, and when another order of sums may have made it."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from experiments.verification.comparing import (
    Shown,
    incomplete,
    numbers_again,
    outcomes_again,
)
from experiments.verification.remaking import Attacked, ends_elsewhere, remake
from pixelrobust.engine import EagerEngine
from pixelrobust.evaluation.forward import Task
from pixelrobust.outcomes.rows import make_outcomes
from pixelrobust.perturbation.grid import Cell
from pixelrobust.settings import attack_settings

SIDE = 6
CPU = torch.device("cpu")
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


def task(module: nn.Module, labels: list[int], level: int = 100) -> Task:
    images = torch.full((len(labels), 3, SIDE, SIDE), level, dtype=torch.uint8)
    engine = EagerEngine(module.eval(), CPU, 2)
    return Task(engine, images, KEYS[: len(labels)], np.array(labels), "net")


def rows(*predictions: int, labels: list[int]) -> pd.DataFrame:
    """Outcomes of two draws of each image."""
    table = np.array(predictions).reshape(-1, 2)
    return make_outcomes("net", KEYS[: len(labels)], np.array(labels), {Cell(4): table})


def unseen(done: int) -> None:
    """Nobody watches."""


@pytest.mark.parametrize(
    ("second", "fault"), [(0.995, "borderline"), (0.98, "prediction"), (-1e9, "prediction")]
)
def test_predictions_are_borderline_by_the_gap_of_logits(second: float, fault: str) -> None:
    """Class 0 wins by 1 minus the second; stored is once that the second won."""
    shown = Shown(task(Fixed(1.0, second, -5.0), [0, 0]), None, 0, 2, unseen)
    again = outcomes_again(shown, rows(0, 0, 1, 0, labels=[0, 0]))
    assert again["fault"].tolist() == ["", "", fault, ""]
    assert again["gap"].iloc[2] == pytest.approx(1 - second, rel=1e-3)
    assert again["gap"].drop(2).isna().all()
    assert again["which"].iloc[2] == "num 4, draw 0"
    assert again["stored"].iloc[2] == "class 1 of label 0, wrong"
    assert again["again"].iloc[2] == "class 0 of label 0, right"


def test_a_class_that_the_network_lacks_is_never_borderline() -> None:
    shown = Shown(task(Fixed(1.0, 1.0), [0]), np.array([7, 9]), 0, 2, unseen)
    again = outcomes_again(shown, rows(7, 8, labels=[7]))
    assert again["fault"].tolist() == ["", "prediction"]
    assert again["gap"].iloc[1] == np.inf


def test_outputs_stand_for_classes_of_the_data_set() -> None:
    """The label is output 1, class 9; the network says output 0, class 7."""
    shown = Shown(task(Fixed(2.0, 1.0), [1]), np.array([7, 9]), 0, 2, unseen)
    again = outcomes_again(shown, rows(7, 9, labels=[9]))
    assert again["fault"].tolist() == ["", "prediction"]
    assert again["again"].tolist() == ["class 7 of label 9, wrong"] * 2


def test_numbers_are_the_same_within_a_hundredth() -> None:
    stored = rows(0, 0, 0, 0, labels=[0, 0]).assign(distance=[1.0, 1.0, float("nan"), float("nan")])
    again = numbers_again(
        stored, "distance", np.array([1.009, 1.011, np.nan, 1.0]), ["", "", "", ""]
    )
    assert again["fault"].tolist() == ["", "value", "", "value"]


def test_cells_have_each_outcome_once() -> None:
    whole = rows(*[0] * 6, labels=[0, 0, 0])
    assert not len(incomplete(whole, (), 3, 2))
    for faulty in (whole.iloc[1:], pd.concat([whole, whole.iloc[:1]])):
        (row,) = incomplete(faulty, (), 3, 2).itertuples()
        assert (row.fault, row.which, row.again) == ("count", "num 4", "6")
    # One instead of another.
    swapped = pd.concat([whole.iloc[1:], whole.iloc[1:2]])
    (row,) = incomplete(swapped, (), 3, 2).itertuples()
    assert row.stored == "6 outcomes, 5 of them different"


def attacked() -> Attacked:
    """A level of 130 is 2.5/255 above one half, so that 10 steps of 0.255/255 are needed."""
    pytest.importorskip("foolbox")
    attack = attack_settings(name="FGSM", wanted=9)
    return Attacked(task(Brightness(), [1], level=130), Brightness().eval(), attack, "minimal", 0)


@pytest.mark.parametrize(
    ("size", "fault"),
    [(2.55, None), (2.5, "borderline"), (2.295, "attack"), (2.8, "attack"), (0.0, "attack")],
)
def test_attacks_end_elsewhere_unless_the_smaller_change_ties(
    size: float, fault: str | None
) -> None:
    """At 2.5/255 both logits are 0; at one step less they are 0.08 apart, at 2.55 0.02."""
    own = attacked()
    made = remake(own, {"a"})
    assert made["a"].size == pytest.approx(2.55, abs=1e-3)
    stored = rows(0, 0, labels=[1]).assign(size=size)
    found = ends_elsewhere(own, stored, made, "epsilon minimal")
    assert found["fault"].tolist() == ([] if fault is None else [fault])
    if fault:
        assert found["again"].tolist() == ["fooled by 2.55/255"]
        assert found["stored"].iloc[0] == (
            "not fooled" if size == 0 else f"fooled by {size:.4g}/255"
        )
