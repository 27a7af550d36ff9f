"""Numbers, labels and devices as NumPy, torch, pandas or Python give them: the same results, or one sentence."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from pixelrobust import (
    InputError,
    PixelChange,
    RandomPixelChange,
    collect,
    evaluate,
    pixel_index,
    summarize,
)
from pixelrobust.attacks import craft
from pixelrobust.evaluation.boundary import linearized_distances, measured_distances
from pixelrobust.perturbation.augmentations import GaussianNoise, PixelAugmentation, augment
from pixelrobust.settings import (
    attack_settings,
    engine_settings,
    model_settings,
    preprocessing_settings,
    recipe_settings,
)
from pixelrobust.statistics.paired import sign_flip_test, unseen_bound
from pixelrobust.statistics.rates import wilson_interval, wrong_rate_interval

KINDS: dict[str, Callable[[int], Any]] = {
    "NumPy's": np.int64,
    "a small one of NumPy's": np.uint8,
    "an array of no axis": np.array,
    "an array of one": lambda value: np.array([value]),
    "torch's": torch.tensor,
    "a tensor of one": lambda value: torch.tensor([value]),
    "pandas'": lambda value: pd.Series([value]),
}
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), np.uint8))
KEYS = ["a", "b", "c"]


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def own(request: pytest.FixtureRequest) -> Callable[[int], Any]:
    """Makes a number of another library of Python's."""
    return request.param


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)).eval()


def same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(first, second)


def test_changes(own: Callable[[int], Any]) -> None:
    change = PixelChange(own(4), own(40), own(8), seed=own(3))
    assert repr(change).startswith("PixelChange(num=4, amplitude=40, area=8, seed=3, ")
    expected = PixelChange(4, 40, 8, seed=3)(IMAGES, KEYS, draw=2)
    assert torch.equal(change(IMAGES, KEYS, draw=own(2)), expected)
    assert RandomPixelChange(own(4), own(40), own(8)).extra_repr() == "num=4, amplitude=40, area=8"
    index = pixel_index(own(1), own(4), own(40), own(8), own(16))
    assert index == pixel_index(1, 4, 40, 8, (16, 16)) == 1 / (4 / 256 * 80 / 255 * 64 / 256)


def test_evaluation(own: Callable[[int], Any], model: nn.Module) -> None:
    expected = evaluate(model, IMAGES, [0, 1, 2], num=[4], draws=2, seed=1, batch_size=2)
    found = evaluate(
        model, IMAGES, np.array([[0], [1], [2]]), num=own(4), draws=own(2), seed=own(1),
        batch_size=own(2), device=torch.device("cpu"), keys=np.arange(3),
    )  # fmt: skip
    same(found, expected)
    same(summarize(found, own(16)), summarize(expected))


def test_lists_of_numbers(model: nn.Module) -> None:
    expected = evaluate(model, IMAGES, [0, 1, 2], num=[4, 8], amplitude=[10, 20], area=[8, None])
    for kind in (
        np.array,
        torch.tensor,
        pd.Series,
        tuple,
        lambda values: list(map(np.int16, values)),
    ):
        found = evaluate(
            model, IMAGES, kind([0, 1, 2]), num=kind([4, 8]), amplitude=kind([10, 20]), area=[own_eight(kind), None]
        )  # fmt: skip
        same(found, expected)


def own_eight(kind: Callable[[list[int]], Any]) -> Any:
    return kind([8])[0]


def test_attacks_and_distances(own: Callable[[int], Any], model: nn.Module) -> None:
    labels, column = torch.tensor([0, 1, 2]), torch.tensor([[0], [1], [2]])
    attack = attack_settings(name="FGSM", step=own(1), max_epsilon=own(32))
    assert attack == attack_settings(name="FGSM", step=1, max_epsilon=32)
    crafted = craft(model, IMAGES, column, attack, own(8), seed=own(2))
    assert torch.equal(crafted.images, craft(model, IMAGES, labels, attack, 8, seed=2).images)
    for measure in (linearized_distances, measured_distances):
        found = measure(model, IMAGES, column, batch_size=own(2), candidates=own(2))
        np.testing.assert_array_equal(
            found, measure(model, IMAGES, labels, batch_size=2, candidates=2)
        )


def test_training_images(own: Callable[[int], Any]) -> None:
    pixels = PixelAugmentation(own(4), own(40), own(8), own(7))
    # Networks that were retrained are found again by what this is called.
    assert repr(pixels) == repr(PixelAugmentation(4, 40, 8, 7))
    assert GaussianNoise(own(8)).name == "gaussian-noise-8"
    changed = augment(pixels, IMAGES, KEYS, seed=own(1), epoch=own(2))
    assert torch.equal(changed, augment(pixels, IMAGES, KEYS, seed=1, epoch=2))


def test_settings(own: Callable[[int], Any]) -> None:
    assert preprocessing_settings(resize=own(9), crop=own(8), interpolation="nearest").crop == 8
    assert recipe_settings(epochs=own(5)) == recipe_settings(epochs=5)
    known = {"name": "eager", "devices": "cpu", "precision": "fp32", "compared": 0}
    assert engine_settings(**known, batch_size=own(2)).batch_size == 2
    keys = {"source": "timm", "name": "x", "weights": "pretrained", "match": "names"}
    for three in (np.full(3, 0.5), torch.full((3,), 0.5), [np.float64(0.5)] * 3):
        settings = model_settings(**keys, classes=own(7), mean=three, std=np.float32(0.5))
        assert (settings.classes, settings.mean, settings.std) == (7, (0.5, 0.5, 0.5), (0.5,))


def test_statistics(own: Callable[[int], Any]) -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, 30)
    assert sign_flip_test(differences, seed=own(3), permutations=own(99)) == sign_flip_test(
        differences, seed=3, permutations=99
    )
    assert wilson_interval(0.25, own(4)) == wilson_interval(0.25, 4)
    assert wrong_rate_interval([0, 1, 2], own(4)) == wrong_rate_interval([0, 1, 2], 4)
    assert unseen_bound(own(9)) == unseen_bound(9)


def test_labels_of_data_sets_may_be_arrays_of_one() -> None:
    array = np.zeros((8, 8, 3), np.uint8)
    labels = [np.array([3]), torch.tensor([2]), np.uint8(1), torch.tensor(0)]
    assert collect([(array, label) for label in labels]).labels.tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"num": np.float64(4.5)}, r"perturbation\.num=4\.5 is not a number of pixels"),
        ({"num": np.array([True])}, r"perturbation\.num=True"),
        ({"num": [[4, 8]]}, r"perturbation\.num=\[4, 8\]"),
        ({"draws": np.array([1, 2])}, r"draws=\[1, 2\] is not a number of changes"),
        ({"seed": torch.tensor(-1)}, "seed=-1 is not a seed"),
        ({"device": torch.device("meta")}, "engine.devices='meta' is not supported"),
        ({"device": 5}, r"engine\.devices='?5'? is not"),
        ({"batch_size": np.array([1, 2])}, r"engine\.batch_size=\[1, 2\] is wrong"),
    ],
)
def test_what_is_no_such_number_is_one_sentence(
    arguments: dict[str, Any], fault: str, model: nn.Module
) -> None:
    with pytest.raises(InputError, match=fault):
        evaluate(model, IMAGES, [0, 1, 2], **{"num": 4, **arguments})


def test_channels_last_are_told_as_such(model: nn.Module) -> None:
    fault = r"images have shape \(3, 16, 16, 3\), their channels last; .*permute\(0, 3, 1, 2\)"
    last = IMAGES.permute(0, 2, 3, 1)
    calls: list[Callable[[], Any]] = [
        lambda: evaluate(model, last.numpy(), [0, 1, 2]),
        lambda: evaluate(model, last / 255, [0, 1, 2]),
        lambda: PixelChange(4)(last, KEYS),
        lambda: augment(PixelAugmentation(4), last, KEYS, seed=0, epoch=0),
        lambda: collect([(image, 0) for image in last]),
        lambda: linearized_distances(model, last, torch.tensor([0, 1, 2])),
    ]
    for call in calls:
        with pytest.raises(InputError, match=fault):
            call()


@pytest.mark.parametrize("labels", [np.zeros((3, 2), int), np.zeros((1, 3), int), [0.0, 1.0, 2.0]])
def test_labels_of_another_shape_or_kind_are_refused(labels: Any, model: nn.Module) -> None:
    with pytest.raises(InputError, match="give an integer for each image"):
        evaluate(model, IMAGES, labels)
