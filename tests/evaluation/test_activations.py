"""Moves of activations from layer to layer, on networks where they are known by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from pixelrobust import InputError, PixelChange
from pixelrobust.evaluation.activations import _gaussian, layer_changes
from pixelrobust.perturbation.augmentations import GaussianNoise, Unchanged, augment
from pixelrobust.perturbation.grid import Cell
from pixelrobust.perturbation.pixels import image_keys
from tests.evaluation.cases import (
    CELL,
    Square,
    convolutional,
    keys_of,
    measure,
    random_images,
    unreachable_norms,
    wide,
    zero_logits,
)


class Double(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return 2 * images


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


def test_augmented_images_move_as_the_augmentation_has_them() -> None:
    """At the input by its own difference; what pixels and noise do stays as it is."""
    images, noise = random_images(5), GaussianNoise(20)
    alone = measure(convolutional(True), images)
    both = measure(convolutional(True), images, augmentations=[noise, Unchanged()])
    assert list(both["change"].cat.categories) == [
        "pixels",
        "noise",
        "gaussian-noise-20",
        "unchanged",
    ]
    augmented = augment(noise, images, keys_of(images), seed=0, epoch=0)
    before, after = (values.double().flatten(1) / 255 for values in (images, augmented))
    expected = ((after - before).norm(dim=1) / before.norm(dim=1)).tolist()
    assert wide(both, "gaussian-noise-20")["input"].tolist() == pytest.approx(expected, rel=1e-5)
    assert (wide(both, "unchanged") == 0).all(axis=None)
    for change in ("pixels", "noise"):
        pd.testing.assert_frame_equal(wide(both, change), wide(alone, change), rtol=1e-4)


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


def test_noise_that_cannot_reach_the_norm_is_told() -> None:
    changes = unreachable_norms()
    told = changes.groupby("image", observed=True)["matched"].first()
    assert 0 < told.sum() < 40
    assert (changes.loc[~changes["matched"], "norm_mismatch"] < -0.01).all()


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


def test_nothing_of_the_callers_is_touched() -> None:
    module, images = convolutional(True).train(), random_images(6)
    module[3].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    changes = measure(module, images)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    pd.testing.assert_frame_equal(measure(module, images), changes)
    assert [part.training for part in module] == [True] * 3 + [False] + [True] * 5
    assert not any(part._forward_hooks for part in module.modules())
    assert all(tensor.equal(before[name]) for name, tensor in module.state_dict().items())
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
    changes = zero_logits()
    assert wide(changes).columns.tolist() == ["input", "0", "1"]
    assert changes.loc[changes["layer"] == "logits", "relative_change"].isna().all()


@pytest.mark.parametrize(
    ("wrong", "message"),
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
def test_wrong_arguments_get_a_sentence(wrong: dict[str, Any], message: str) -> None:
    images = np.full((2, 3, 4, 4), 9, dtype=np.uint8)
    arguments = {
        "module": nn.Flatten(), "images": images, "keys": ["a", "b"], "cell": Cell(2),
        "seed": 0, "batch_size": 2,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        layer_changes(**(arguments | wrong))
