"""Amplification of changes from layer to layer, on networks whose answer is known."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from pixelrobust import InputError, PixelChange
from pixelrobust.amplification import (
    _gaussian,
    amplification_verdict,
    layer_changes,
    summarize_amplification,
)
from pixelrobust.figures_amplification import amplification_curves
from pixelrobust.grid import Cell
from pixelrobust.perturbation import image_keys

SIDE = 12
CELL = Cell(5)


def random_images(count: int, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    shape = (count, 3, SIDE, SIDE)
    return torch.randint(low, high, shape, dtype=torch.uint8, generator=generator)


def keys_of(images: Tensor) -> list[str]:
    return [f"n01440764/{index}.JPEG" for index in range(len(images))]


def measure(module: nn.Module, images: Tensor, cell: Cell = CELL, **options: Any) -> pd.DataFrame:
    arguments = {"seed": 0, "batch_size": 4} | options
    return layer_changes(module, images, keys_of(images), cell, **arguments)


def wide(changes: pd.DataFrame, change: str = "pixels") -> pd.DataFrame:
    """(images, layers) of relative changes."""
    rows = changes[changes["change"] == change]
    return rows.pivot_table(
        index="image", columns="layer", values="relative_change", observed=True, sort=False
    )


class Double(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return 2 * images


class Square(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images**2


def convolutional(inplace: bool) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(inplace=inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8, 5),
    )


def test_a_multiple_of_the_identity_amplifies_by_one() -> None:
    count = 3 * SIDE * SIDE
    linear = nn.Linear(count, count, bias=False)
    with torch.no_grad():
        linear.weight.copy_(2 * torch.eye(count))
    changes = measure(nn.Sequential(nn.Flatten(), linear), random_images(6))
    assert list(changes["layer"].cat.categories) == ["input", "0", "1", "logits"]
    summary = summarize_amplification(changes)
    assert summary["amplification"].to_numpy() == pytest.approx(1, abs=1e-6)
    assert (summary["images"] == 6).all()
    assert amplification_verdict(changes).pixels.value == pytest.approx(1, abs=1e-6)


def test_relative_changes_are_those_of_the_definition() -> None:
    images = random_images(3)
    changed = PixelChange(CELL.num, seed=7)(images, keys_of(images), 2)
    before, after = (values.double().flatten(1) / 255 for values in (images, changed))
    found = wide(measure(nn.Sequential(Square(), nn.Flatten()), images, seed=7, draw=2))

    def expected(one: Tensor, other: Tensor) -> list[float]:
        return ((other - one).norm(dim=1) / one.norm(dim=1)).tolist()

    assert found["input"].tolist() == pytest.approx(expected(before, after), rel=1e-5)
    assert found["0"].tolist() == pytest.approx(expected(before**2, after**2), rel=1e-5)
    assert found["logits"].tolist() == found["1"].tolist()


def test_squaring_doubles_small_changes() -> None:
    images = torch.full((4, 3, SIDE, SIDE), 200, dtype=torch.uint8)
    changes = measure(nn.Sequential(Square(), nn.Flatten()), images, Cell(3, amplitude=2))
    verdict = amplification_verdict(changes)
    assert verdict.pixels.value == pytest.approx(2, rel=0.02)
    assert verdict.noise.value == pytest.approx(2, rel=0.02)


def test_an_in_place_relu_hides_nothing() -> None:
    images = random_images(5)
    separate, overwriting = (measure(convolutional(inplace), images) for inplace in (False, True))
    pd.testing.assert_frame_equal(separate, overwriting)
    assert (wide(overwriting)["0"] != wide(overwriting)["1"]).all()


def test_batch_size_changes_no_random_bit() -> None:
    images = random_images(7)
    one, all_at_once = (
        measure(convolutional(True), images, batch_size=batch_size) for batch_size in (1, 7)
    )
    pd.testing.assert_frame_equal(one, all_at_once, rtol=1e-3)
    pd.testing.assert_series_equal(
        one["norm_mismatch"], all_at_once["norm_mismatch"], check_exact=True
    )


def test_norms_match_after_clipping() -> None:
    for images in (random_images(4), random_images(4, 0, 3), random_images(4, 250, 256)):
        changes = measure(nn.Flatten(), images)
        assert changes["matched"].all()
        assert changes["norm_mismatch"].abs().max() < 1e-5
        inputs = (wide(changes, change)["input"].to_numpy() for change in ("pixels", "noise"))
        assert next(inputs) == pytest.approx(next(inputs), rel=1e-5)


def test_noise_that_cannot_reach_the_norm_is_told_and_left_out() -> None:
    # Every value of a black image becomes any value: noise is clipped wherever it is negative.
    images = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    images[0, 0, 0, 0] = 255
    clean, unreachable = images[:, :, :1, :1], Cell(1)
    keys = [str(index) for index in range(40)]
    changes = layer_changes(
        nn.Flatten(), clean.expand(40, -1, -1, -1), keys, unreachable, seed=0, batch_size=9
    )
    told = changes.groupby("image", observed=True)["matched"].first()
    assert 0 < told.sum() < 40
    assert (changes.loc[~changes["matched"], "norm_mismatch"] < -0.01).all()
    verdict = amplification_verdict(changes)
    assert (verdict.images, verdict.left_out) == (told.sum(), 40 - told.sum())
    assert (summarize_amplification(changes)["images"] == told.sum()).all()


def test_noise_hangs_on_seed_key_and_draw() -> None:
    def noise(key: str, seed: int, draw: int) -> tuple[float, ...]:
        return tuple(_gaussian(image_keys([key], seed)[0], draw, 6).tolist())

    drawn = {noise("a", 0, 0), noise("b", 0, 0), noise("a", 1, 0), noise("a", 0, 1)}
    assert len(drawn) == 4
    assert noise("a", 0, 0) in drawn
    assert noise("a", 0, 0) == tuple(_gaussian(image_keys(["a"], 0)[0], 0, 99)[:6].tolist())


def test_noise_is_standard_normal() -> None:
    values = torch.cat([_gaussian(key, 0, 20_001) for key in image_keys(list("abcde"), 0)]).numpy()
    assert np.isfinite(values).all()
    assert stats.kstest(values, "norm").pvalue > 0.01
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.01


def test_the_global_generators_are_left_alone() -> None:
    module, images = convolutional(True), random_images(3)
    torch.manual_seed(1)
    first = measure(module, images)
    state = torch.get_rng_state()
    pd.testing.assert_frame_equal(measure(module, images), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_module_is_left_as_it_was() -> None:
    module = convolutional(True).train()
    module[3].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    changes = measure(module, random_images(6))
    assert [part.training for part in module] == [True] * 3 + [False] + [True] * 5
    assert not any(part._forward_hooks for part in module.modules())
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    # Dropout in training mode would have made something of equal inputs.
    assert (wide(changes)["6"] == wide(changes)["7"]).all()


def test_hooks_go_even_where_the_network_fails() -> None:
    module = nn.Sequential(nn.Conv2d(4, 2, 3)).train()
    with pytest.raises(RuntimeError):
        measure(module, random_images(2))
    assert module[0].training
    assert not module[0]._forward_hooks


def test_each_call_of_a_shared_module_is_a_layer() -> None:
    relu = nn.ReLU()
    changes = measure(nn.Sequential(relu, Double(), relu, nn.Flatten()), random_images(2))
    assert list(changes["layer"].cat.categories) == ["input", "0", "1", "0#2", "3", "logits"]
    assert changes["depth"].tolist() == [0, 1, 2, 3, 4, 5] * 4


def test_outputs_without_a_batch_are_no_layers() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            self.part(images.flatten(0, 1))
            self.part(torch.zeros(6, 1))
            self.part(images > 0.5)
            return images.flatten(1)

    # The zeros fit batches of two images, but not the last of one.
    changes = measure(Windows(), random_images(3), batch_size=2)
    assert list(changes["layer"].cat.categories) == ["input", "logits"]


def test_layers_that_are_all_zero_have_no_relative_change() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Hardtanh(-2, -1), nn.Threshold(0.0, 0.0))
    changes = measure(module, random_images(3))
    assert wide(changes).columns.tolist() == ["input", "0", "1"]
    assert changes.loc[changes["layer"] == "logits", "relative_change"].isna().all()
    with pytest.raises(InputError, match="no image has comparable"):
        amplification_verdict(changes)


def test_the_verdict_is_that_of_the_formulas() -> None:
    amplification = {"pixels": [2.0, 3.0, 4.0, 2.5], "noise": [1.0, 1.0, 2.0, 1.5]}
    rows = [
        (str(image), change, layer, depth, 0.1 * factor, 0.0, True)
        for change, factors in amplification.items()
        for image, reached in enumerate(factors)
        for layer, depth, factor in (("input", 0, 1.0), ("logits", 1, reached))
    ]
    columns = ["image", "change", "layer", "depth", "relative_change", "norm_mismatch", "matched"]
    verdict = amplification_verdict(pd.DataFrame(rows, columns=columns))
    ratios = np.log(np.divide(*amplification.values()))
    interval = stats.ttest_1samp(ratios, 0).confidence_interval(0.95)
    assert verdict.log_ratio.value == pytest.approx(ratios.mean())
    assert verdict.log_ratio.low == pytest.approx(interval.low)
    assert verdict.log_ratio.high == pytest.approx(interval.high)
    assert (verdict.pixels.value, verdict.noise.value) == pytest.approx((2.75, 1.25))
    assert (verdict.pixels_magnified, verdict.pixels_exceed_noise) == ("yes", "yes")
    assert (verdict.images, verdict.left_out) == (4, 0)


def test_one_image_decides_nothing() -> None:
    verdict = amplification_verdict(measure(convolutional(True), random_images(1)))
    assert math.isnan(verdict.log_pixels.low)
    assert math.isnan(verdict.pixels.low)
    assert verdict.pixels_magnified == verdict.pixels_exceed_noise == "not decided"


def test_the_summary_has_quartiles() -> None:
    changes = measure(convolutional(True), random_images(9))
    summary = summarize_amplification(changes)
    assert len(summary) == 2 * 11
    rows = wide(changes, "noise")
    ratio = rows["3"] / rows["input"]
    row = summary[(summary["change"] == "noise") & (summary["layer"] == "3")].iloc[0]
    shown = row[["amplification_q1", "amplification", "amplification_q3"]].tolist()
    assert shown == pytest.approx(np.quantile(ratio, [0.25, 0.5, 0.75]))
    assert row["relative_change"] == pytest.approx(rows["3"].median())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": torch.zeros(2, 3, 4, 4)}, "dtype torch.float32"),
        ({"images": np.zeros((2, 3, 4), dtype=np.uint8)}, "shape"),
        ({"keys": ["a", "a"]}, "1 different keys"),
        ({"keys": ["a"]}, "2 images came with"),
        ({"cell": Cell(0)}, "changes nothing"),
        ({"cell": Cell(3, amplitude=0)}, "changes nothing"),
        ({"cell": Cell(17)}, "more than the 16 pixels"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"draw": -1}, "draw=-1"),
        ({"module": nn.Flatten(0)}, "no tensor"),
    ],
)
def test_wrong_arguments_get_a_sentence(changed: dict[str, Any], message: str) -> None:
    images = np.full((2, 3, 4, 4), 9, dtype=np.uint8)
    arguments = {
        "module": nn.Flatten(), "images": images, "keys": ["a", "b"], "cell": Cell(2),
        "seed": 0, "batch_size": 2,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        layer_changes(**(arguments | changed))


@pytest.mark.parametrize("models", [1, 2, 4])
def test_the_figure_has_a_panel_for_each_model(models: int) -> None:
    summary = summarize_amplification(measure(convolutional(True), random_images(5)))
    summaries = {f"model {index}": summary for index in range(models)}
    figure = amplification_curves(summaries, "Title", "caption")
    assert [axes.get_title() for axes in figure.axes] == list(summaries)
    for axes in figure.axes:
        assert axes.get_yscale() == "log"
        pixels, noise, one = axes.get_lines()
        assert list(one.get_ydata()) == [1, 1]
        for line in (pixels, noise):
            assert (line.get_xdata()[0], line.get_xdata()[-1]) == (0, 1)
            assert line.get_ydata()[0] == 1
