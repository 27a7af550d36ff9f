"""Augmentations: functions of seed, image key and epoch, and of nothing else."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelrobust import InputError, PixelChange
from pixelrobust.perturbation.augmentations import (
    TRAINING_DRAWS,
    Augmentation,
    GaussianNoise,
    PixelAugmentation,
    TorchvisionAugmentation,
    Unchanged,
    augment,
)

SIDE = 24
KEYS = [f"class/{index}.jpg" for index in range(6)]
PIXELS = PixelAugmentation(num=9)
NOISE = GaussianNoise(8)
ERASING = TorchvisionAugmentation("RandomErasing", (("p", 1.0),))
TORCHVISION = [
    ERASING,
    TorchvisionAugmentation("TrivialAugmentWide"),
    TorchvisionAugmentation("AutoAugment"),
    TorchvisionAugmentation("AutoAugment", (("policy", "cifar10"),)),
    TorchvisionAugmentation("AugMix"),
]
RANDOM: list[Augmentation] = [PIXELS, PixelAugmentation(9, 30, 16), NOISE, *TORCHVISION]
EVERY: list[Augmentation] = [Unchanged(), *RANDOM]


def images(count: int = len(KEYS), channels: int = 3) -> Tensor:
    """Smooth, all different, and away from the limits of 8 bits."""
    steps = torch.linspace(60, 180, SIDE)
    ramp = (steps[:, None] + steps[None, :]) / 2
    shifts = torch.arange(count * channels).view(count, channels, 1, 1) * 2
    return (ramp + shifts).to(torch.uint8)


def apply(augmentation: Augmentation, *, seed: int = 3, epoch: int = 2) -> Tensor:
    return augment(augmentation, images(), KEYS, seed=seed, epoch=epoch)


every = pytest.mark.parametrize("augmentation", EVERY, ids=lambda one: one.name)
at_random = pytest.mark.parametrize("augmentation", RANDOM, ids=lambda one: one.name)


@every
def test_order_size_and_neighbours_of_a_batch_do_not_matter(augmentation: Augmentation) -> None:
    together = apply(augmentation)
    order = [4, 0, 5, 2]
    some = augment(augmentation, images()[order], [KEYS[i] for i in order], seed=3, epoch=2)
    assert torch.equal(some, together[order])
    for image, key, expected in zip(images(), KEYS, together, strict=True):
        alone = augment(augmentation, image[None], [key], seed=3, epoch=2)
        assert torch.equal(alone[0], expected)


@at_random
def test_epochs_seeds_and_keys_differ(augmentation: Augmentation) -> None:
    first = apply(augmentation)
    assert not torch.equal(apply(augmentation, epoch=3), first)
    assert not torch.equal(apply(augmentation, seed=4), first)
    same_image = images()[:1].expand(6, -1, -1, -1)
    changed = augment(augmentation, same_image, KEYS, seed=3, epoch=2)
    assert len({one.numpy().tobytes() for one in changed}) > 1


@every
def test_global_generators_are_neither_read_nor_moved(augmentation: Augmentation) -> None:
    expected = apply(augmentation)
    torch.rand(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(apply(augmentation), expected)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_global_generators_are_put_back_after_an_error() -> None:
    before = torch.get_rng_state()
    two_values = TorchvisionAugmentation("RandomErasing", (("p", 1.0), ("value", (1, 2))))
    with pytest.raises(InputError, match="do not suit torchvision's RandomErasing"):
        apply(two_values)
    assert torch.equal(torch.get_rng_state(), before)


@every
def test_shape_dtype_and_input_are_kept(augmentation: Augmentation) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        original = images().contiguous(memory_format=layout)
        changed = augment(augmentation, original, KEYS, seed=3, epoch=2)
        assert changed.dtype == torch.uint8
        assert torch.equal(changed, apply(augmentation))
        assert torch.equal(original, images())
        assert changed.data_ptr() != original.data_ptr()
    assert augment(augmentation, images()[:0], [], seed=3, epoch=2).shape == (0, 3, SIDE, SIDE)
    grey = augment(augmentation, images(channels=1), KEYS, seed=3, epoch=2)
    assert grey.shape == (6, 1, SIDE, SIDE)


@pytest.mark.parametrize(("amplitude", "area"), [(None, None), (30, 16)])
def test_pixels_are_those_of_a_pixel_change(amplitude: int | None, area: int | None) -> None:
    change = PixelChange(9, amplitude, area, seed=3)
    default = PixelAugmentation(9, amplitude, area)
    assert torch.equal(apply(default), change(images(), KEYS, draw=TRAINING_DRAWS + 2))
    first = PixelAugmentation(9, amplitude, area, first_draw=0)
    assert torch.equal(apply(first), change(images(), KEYS, draw=2))


def test_num_pixels_are_changed() -> None:
    assert torch.equal(apply(Unchanged()), images())
    # A new value may be the old one, in all three channels once in 256^3.
    changed = (apply(PIXELS) != images()).any(dim=1)
    assert changed.flatten(1).sum(dim=1).tolist() == [9] * len(KEYS)
    assert torch.equal(apply(PixelAugmentation(0)), images())


def test_noise_has_its_standard_deviation() -> None:
    middle = torch.full((2, 3, 100, 100), 128, dtype=torch.uint8)
    for std in (1, 8, 20):
        noisy = augment(GaussianNoise(std), middle, KEYS[:2], seed=0, epoch=0).double() - 128
        # Rounding to whole numbers adds the variance of a uniform error, 1/12.
        assert float(noisy.std()) == pytest.approx((std**2 + 1 / 12) ** 0.5, rel=0.02)
        assert abs(float(noisy.mean())) < 5 * std / noisy.numel() ** 0.5


def test_noise_is_clipped() -> None:
    corners = torch.tensor([0, 255], dtype=torch.uint8).repeat(1, 3, 20, 10)
    noisy = augment(GaussianNoise(100), corners, KEYS[:1], seed=0, epoch=0).int()
    assert (noisy[..., ::2] == 0).double().mean() == pytest.approx(0.5, abs=0.1)
    assert (noisy[..., 1::2] == 255).double().mean() == pytest.approx(0.5, abs=0.1)


def test_erasing_blackens_one_rectangle() -> None:
    for image, original in zip(apply(ERASING), images(), strict=True):
        erased = (image != original).any(dim=0)
        rows, columns = erased.any(dim=1), erased.any(dim=0)
        assert torch.equal(erased, rows[:, None] & columns[None, :])
        assert (image[:, erased] == 0).all()
    white = TorchvisionAugmentation("RandomErasing", (("p", 1.0), ("value", 255)))
    assert int(apply(white).max()) == 255


def test_augmentations_are_values_with_names_of_their_own() -> None:
    assert len({other.name for other in EVERY}) == len(set(EVERY)) == len(EVERY)
    assert [augmentation.name for augmentation in EVERY[:6]] == [
        "unchanged",
        "pixels-n9",
        "pixels-n9-r30-p16",
        "gaussian-noise-8",
        "RandomErasing(p=1.0)",
        "TrivialAugmentWide",
    ]


@every
def test_the_real_size_and_the_first_and_last_epoch(augmentation: Augmentation) -> None:
    large = images(1).repeat_interleave(10, dim=2).repeat_interleave(10, dim=3)[..., :224, :224]
    for epoch in (0, 2**31 - 1):
        assert augment(augmentation, large, ["a"], seed=0, epoch=epoch).shape == large.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": images() / 255}, "uint8"),
        ({"images": images()[0]}, "give"),
        ({"keys": KEYS[:2]}, "2 keys were given for 6 images"),
        ({"seed": -1}, "seed=-1"),
        ({"epoch": -1}, "epoch=-1"),
        ({"epoch": 2**31}, "epoch=2147483648"),
        ({"epoch": True}, "epoch=True"),
    ],
)
def test_arguments_that_are_wrong(change: dict[str, object], message: str) -> None:
    arguments = {"images": images(), "keys": KEYS, "seed": 0, "epoch": 0}
    for augmentation in (Unchanged(), PIXELS):
        with pytest.raises(InputError, match=message):
            augment(augmentation, **(arguments | change))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num": -1}, "num=-1"),
        ({"num": 4, "first_draw": TRAINING_DRAWS + 1}, "first_draw=2147483649"),
        ({"num": 1000}, "more than the 576 pixels"),
    ],
)
def test_pixel_changes_that_are_none(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply(PixelAugmentation(**arguments))


@pytest.mark.parametrize("std", [0, -1, 256, float("nan"), True])
def test_noise_that_is_none(std: float) -> None:
    with pytest.raises(InputError, match="255ths"):
        GaussianNoise(std)


@pytest.mark.parametrize(
    ("transform", "arguments", "message"),
    [
        ("RandomCrop", (), "give one of AugMix, AutoAugment"),
        ("AugMix", (("size", 3),), "do not suit torchvision's AugMix"),
        ("AugMix", (("severity", 11),), "do not suit torchvision's AugMix"),
        ("AutoAugment", (("policy", "mnist"),), "do not suit torchvision's AutoAugment"),
        ("RandomErasing", (("p", 7),), "do not suit torchvision's RandomErasing"),
        ("RandomErasing", (("value", "random"),), r"a number in 0\.\.255"),
        ("RandomErasing", (("value", (0, 300, 0)),), r"a number in 0\.\.255"),
        ("RandomErasing", (("value", None),), "do not suit"),
    ],
)
def test_transforms_that_are_none(
    transform: str, arguments: tuple[tuple[str, object], ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TorchvisionAugmentation(transform, arguments)


def test_two_channels() -> None:
    with pytest.raises(InputError, match="2 channels"):
        augment(ERASING, images(channels=2), KEYS, seed=0, epoch=0)
    for augmentation in (PIXELS, NOISE):
        assert augment(augmentation, images(channels=2), KEYS, seed=0, epoch=0).shape[1] == 2


def test_what_was_trained_before_is_found_again_by_its_repr() -> None:
    """The digest of a trained network holds it; only what differs from before may be added."""
    plain = "PixelAugmentation(num=9, amplitude=None, area=None, first_draw=2147483648"
    assert repr(PIXELS) == f"{plain})"
    other = PixelAugmentation(9, channels="together", repetition=True)
    assert repr(other) == f"{plain}, channels='together', repetition=True)"
    assert other.name == "pixels-n9-together-repetition"
    assert not torch.equal(apply(other), apply(PIXELS))
    with pytest.raises(InputError, match="channels="):
        PixelAugmentation(9, channels="all")  # type: ignore[arg-type]
