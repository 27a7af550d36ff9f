"""Outcomes of classifiers whose predictions can be worked out by hand."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pixelrobust import evaluate
from pixelrobust.datasets.decoded import PixelRows
from pixelrobust.engine import EagerEngine
from pixelrobust.evaluation.cells import count_forward, evaluate_cells
from pixelrobust.evaluation.forward import Design, Task
from pixelrobust.perturbation.grid import build_grid

CLASSES = 70


class CountsChangedPixels(nn.Module):
    """Its prediction is the number of pixels that are not mid-grey."""

    def __init__(self, margin: int = 0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, images: Tensor) -> Tensor:
        assert images.dtype == torch.float32
        assert float(images.max()) <= 1
        inner = images[..., self.margin :, self.margin :]
        changed = ((inner * 255).round() != 128).any(dim=1).flatten(1).sum(dim=1)
        return nn.functional.one_hot(changed, CLASSES).float()


class Sensitive(nn.Module):
    """A small random network with predictions near its decision boundaries."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
        )
        self(torch.zeros(2, 3, 12, 12))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images - 0.5)


def grey(count: int) -> Tensor:
    return torch.full((count, 3, 12, 12), 128, dtype=torch.uint8)


def noise(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 12, 12), dtype=torch.uint8, generator=generator)


def test_positions_that_may_be_drawn_again_change_fewer_pixels() -> None:
    """64 of 144: 144 (1 - (143 / 144)^64) = 51.7 are met on average."""
    outcomes = evaluate(CountsChangedPixels(), grey(40), [0] * 40, num=64, repetition=True)
    changed = outcomes.loc[outcomes["num"] == 64, "prediction"]
    assert changed.max() < 64
    assert abs(changed.mean() - 51.7) < 2


def test_every_cell_changes_exactly_num_pixels() -> None:
    outcomes = evaluate(CountsChangedPixels(), grey(3), [0, 0, 4], num=[4, 64], draws=2)
    assert len(outcomes) == 3 * (1 + 2 * 2)
    assert (outcomes["prediction"] == outcomes["num"]).all()
    assert (outcomes["wrong"] == (outcomes["num"] != outcomes["label"])).all()


def test_the_control_has_one_draw_and_no_limits() -> None:
    outcomes = evaluate(CountsChangedPixels(), grey(2), [0, 1], num=4, amplitude=9, area=8, draws=3)
    control, changed = (rows for _, rows in outcomes.groupby("num"))
    assert control["draw"].tolist() == [0, 0]
    assert control[["amplitude", "area"]].isna().all(axis=None)
    assert (set(changed["amplitude"]), set(changed["area"])) == ({9}, {8})
    alone = evaluate(CountsChangedPixels(), grey(2), [0, 1], num=0, draws=3)
    assert alone["wrong"].tolist() == control["wrong"].tolist() == [False, True]


def test_areas_keep_changes_in_the_centre() -> None:
    """Nothing changes outside the centred 4 x 4, so the strip that this network sees is clean."""
    outside = CountsChangedPixels(margin=8)
    outcomes = evaluate(outside, grey(5), [0] * 5, num=16, area=4, draws=4)
    assert (outcomes["prediction"] == 0).all()


def test_floating_point_images_are_taken_as_they_are() -> None:
    outcomes = evaluate(CountsChangedPixels(), grey(2) / 255, [0, 0], num=8)
    assert outcomes["prediction"].tolist() == [0, 0, 8, 8]


def test_a_part_of_the_grid_gives_that_part_of_the_outcomes() -> None:
    model, images, labels = Sensitive(), noise(6), [1] * 6
    whole = evaluate(model, images, labels, num=[4, 16, 32], area=[None, 6], draws=2)
    part = evaluate(model, images, labels, num=16, area=6, draws=2)
    expected = whole[(whole["num"] == 0) | ((whole["num"] == 16) & (whole["area"] == 6))]
    assert part["prediction"].tolist() == expected["prediction"].tolist()


def test_images_are_read_where_they_lie_and_every_forward_pass_is_counted() -> None:
    pixels, done = noise(6).numpy(), list[int]()
    engine = EagerEngine(Sensitive().eval(), torch.device("cpu"), 2)
    task = Task(engine, pixels[[5, 1, 2]], list("abc"), np.array([1, 1, 1]), "m")
    design = Design(build_grid([4, 8]), 3, 0)
    mapped = task._replace(images=PixelRows(pixels, np.array([5, 1, 2])))
    outcomes = evaluate_cells(mapped, design, done.append)
    pd.testing.assert_frame_equal(outcomes, evaluate_cells(task, design))
    assert sum(done) == count_forward(design.cells, 3, 3) == 3 * (1 + 2 * 3)
