"""Changes of training images, few pixels among them, to be compared with each other.

Each is a pure function of (seed, image key, epoch): neither the batch's size and order nor worker or
process matter, and every epoch has changes of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torchvision.transforms import v2

from pixelrobust.errors import InputError, first_line
from pixelrobust.perturbation.grid import Cell, Channels, Manner, Values, as_plain, is_integer
from pixelrobust.perturbation.philox import philox
from pixelrobust.perturbation.pixels import (
    PixelChange,
    check_draw,
    check_keys,
    check_seed,
    check_uint8_images,
    image_keys,
)

TRAINING_DRAWS = 2**31
"""The first draw of pixel changes for training: the lower half is left to tests."""

# Apart from the streams of pixel changes and of noise: nothing shares a random word with them.
_AUGMENTATION_STREAM = 32

_TRANSFORMS = ("AugMix", "AutoAugment", "RandomErasing", "TrivialAugmentWide")
# What torchvision raises where arguments do not suit a transform, or a transform an image.
_TORCHVISION_ERRORS = (TypeError, ValueError, LookupError)


class Augmentation(Protocol):
    """Way to change training images; apply it by `augment`, which checks what it is given."""

    @property
    def name(self) -> str:
        """Return what tables call it."""
        ...

    def apply(self, images: Tensor, keys: Sequence[str], seed: int, epoch: int) -> Tensor:
        """Return changed copies of images; see `augment`."""
        ...


def augment(
    augmentation: Augmentation, images: Tensor, keys: Sequence[str], *, seed: int, epoch: int
) -> Tensor:
    """Return changed copies of a batch of images.

    Args:
        augmentation: how to change them.
        images: (B, C, H, W) uint8.
        keys: B image keys.
        seed: any integer of 0 or more.
        epoch: of training, an integer in 0..2^31-1.

    Returns:
        A tensor of the same shape, dtype and device; the input is left as it was.

    Raises:
        InputError: an argument is wrong, or the augmentation does not suit these images.
    """
    check_uint8_images(images)
    check_keys(keys, images)
    seed, epoch = check_seed(seed), as_plain(epoch)
    if not is_integer(epoch) or not 0 <= epoch < TRAINING_DRAWS:
        raise InputError(
            f"epoch={epoch!r} is not an epoch; give an integer in 0..{TRAINING_DRAWS - 1}."
        )
    return augmentation.apply(images, keys, seed, epoch)


@dataclass(frozen=True)
class Unchanged:
    """Images as they are, for comparison."""

    name: str = field(default="unchanged", init=False)

    def apply(self, images: Tensor, keys: Sequence[str], seed: int, epoch: int) -> Tensor:
        """Return plain copies; see `augment`."""
        return images.clone()


@dataclass(frozen=True)
class PixelAugmentation:
    """Few random pixels changed: the paper's small-distance samples (its Algorithm 7).

    Args:
        num, amplitude, area: as in `PixelChange`.
        first_draw: the draw of epoch 0, in 0..2^31; each epoch takes the next one. From the default
            on, training never sees a change that tests with draws from 0 upwards show.
        channels, repetition, values: as in `PixelChange`.

    Raises:
        InputError: a value is out of its range.
    """

    num: int
    amplitude: int | None = None
    area: int | None = None
    first_draw: int = TRAINING_DRAWS
    channels: Channels = "apart"
    repetition: bool = False
    values: Values = "uniform"

    def __post_init__(self) -> None:
        for name, value in vars(Cell(self.num, self.amplitude, self.area)).items():
            object.__setattr__(self, name, value)
        self.manner.check()
        object.__setattr__(self, "first_draw", check_draw(self.first_draw))
        if self.first_draw > TRAINING_DRAWS:
            raise InputError(
                f"first_draw={self.first_draw} leaves too few draws for epochs; give at most "
                f"{TRAINING_DRAWS}."
            )

    def __repr__(self) -> str:
        """Say the arguments, by which trained networks are found again; the manner where it differs."""
        return (
            f"PixelAugmentation(num={self.num!r}, amplitude={self.amplitude!r}, area={self.area!r}, "
            f"first_draw={self.first_draw!r}{self.manner.words})"
        )

    @property
    def manner(self) -> Manner:
        """Return how pixels are drawn and changed."""
        return Manner(self.channels, self.repetition, self.values)

    @property
    def name(self) -> str:
        """Return such as "pixels-n64", "pixels-n64-r40-p200", "pixels-n64-together-repetition"."""
        parts = {"n": self.num, "r": self.amplitude, "p": self.area}
        given = [f"{letter}{value}" for letter, value in parts.items() if value is not None]
        usual = Manner()
        manner = {
            str(self.channels): self.channels != usual.channels,
            "repetition": self.repetition,
            str(self.values): self.values != usual.values,
        }
        return "-".join(("pixels", *given, *(word for word, differs in manner.items() if differs)))

    def apply(self, images: Tensor, keys: Sequence[str], seed: int, epoch: int) -> Tensor:
        """Change a few pixels; see `augment`."""
        change = PixelChange(self.num, self.amplitude, self.area, seed, *self.manner)
        return change(images, keys, draw=self.first_draw + epoch)


@dataclass(frozen=True)
class GaussianNoise:
    """Independent Gaussian noise on every value, rounded to whole 255ths and clipped.

    torchvision's own rounds noise towards zero, which loses a third of a standard deviation of 1.

    Args:
        std: standard deviation in 1/255, above 0 and at most 255.

    Raises:
        InputError: std is out of its range.
    """

    std: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", as_plain(self.std))
        is_number = isinstance(self.std, int | float) and not isinstance(self.std, bool)
        if not is_number or not 0 < self.std <= 255:  # NaN is refused too
            raise InputError(
                f"std={self.std!r} is wrong; give a number of 255ths above 0 and at most 255."
            )

    @property
    def name(self) -> str:
        """Return such as "gaussian-noise-8"."""
        return f"gaussian-noise-{self.std:g}"

    def apply(self, images: Tensor, keys: Sequence[str], seed: int, epoch: int) -> Tensor:
        """Add noise, drawn on the CPU; see `augment`."""
        generator = torch.Generator()
        noise = torch.empty(images.shape, dtype=torch.float32)
        for image, word in zip(noise, _seeds(keys, seed, epoch), strict=True):
            image.normal_(0, self.std, generator=generator.manual_seed(word))
        return (images + noise.to(images.device)).round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class TorchvisionAugmentation:
    """Augmentation of torchvision.transforms.v2 itself, image by image, on the CPU.

    Args:
        transform: "TrivialAugmentWide" (Müller & Hutter 2021), "AutoAugment" (Cubuk et al. 2019),
            "AugMix" (Hendrycks et al. 2020) or "RandomErasing" (Zhong et al. 2020).
        arguments: (name, value) pairs, keyword arguments of that class; others have torchvision's
            defaults. AutoAugment's policy may be given by name.

    Raises:
        InputError: it is another transform, or does not take these arguments; erased pixels must
            become numbers in 0..255.
    """

    transform: str
    arguments: tuple[tuple[str, object], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", as_plain(self.arguments))
        self.build()

    @property
    def name(self) -> str:
        """Return the class, with its arguments where there are some."""
        given = ",".join(f"{key}={value}" for key, value in self.arguments)
        return f"{self.transform}({given})" if given else self.transform

    def build(self) -> Any:
        """Return the transform of torchvision."""
        if self.transform not in _TRANSFORMS:
            raise InputError(
                f"transform={self.transform!r} is not an augmentation of torchvision that can be "
                f"used; give one of {', '.join(_TRANSFORMS)}."
            )
        arguments: dict[str, Any] = dict(self.arguments)
        try:
            if "policy" in arguments:
                arguments["policy"] = v2.AutoAugmentPolicy(arguments["policy"])
            if self.transform == "RandomErasing" and not _fits_8_bits(arguments.get("value", 0)):
                raise ValueError("value must be a number in 0..255, or one for each channel")
            return getattr(v2, self.transform)(**arguments)
        except _TORCHVISION_ERRORS as error:
            raise self._unsuited(error) from error

    def apply(self, images: Tensor, keys: Sequence[str], seed: int, epoch: int) -> Tensor:
        """Apply the transform to each image; see `augment`."""
        if images.shape[1] not in (1, 3):
            raise InputError(
                f"images have {images.shape[1]} channels; {self.transform} takes 1 or 3."
            )
        transform = self.build()
        changed = images.cpu().clone(memory_format=torch.contiguous_format)
        # torchvision draws from torch's default generator, which is put back afterwards.
        # torch.manual_seed would also seed the GPUs, which are not put back.
        with torch.random.fork_rng(devices=[]):
            for image, word in zip(changed, _seeds(keys, seed, epoch), strict=True):
                torch.default_generator.manual_seed(word)
                try:
                    image.copy_(transform(image.clone()))
                except _TORCHVISION_ERRORS as error:
                    raise self._unsuited(error) from error
        return changed.to(images.device)

    def _unsuited(self, error: Exception) -> InputError:
        return InputError(
            f"arguments={self.arguments} do not suit torchvision's {self.transform} "
            f"({first_line(error)}); see its documentation."
        )


def control_augmentations(names: Sequence[str], noise: float) -> dict[str, Augmentation]:
    """Return ways to change images other than by a few pixels, by their names in the settings.

    Args:
        names: values of `retrain.controls`.
        noise: standard deviation of Gaussian noise, in 1/255.
    """
    controls: dict[str, Augmentation] = {
        "unchanged": Unchanged(),
        "noise": GaussianNoise(noise),
        "erasing": TorchvisionAugmentation("RandomErasing", (("p", 1.0),)),
        "trivial_augment": TorchvisionAugmentation("TrivialAugmentWide"),
        "auto_augment": TorchvisionAugmentation("AutoAugment"),
        "augmix": TorchvisionAugmentation("AugMix"),
    }
    return {name: controls[name] for name in names}


def _seeds(keys: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Return a 32-bit word for each key and epoch: torch's CPU generator reads no more of a seed."""
    words = image_keys(keys, seed)
    zero = torch.zeros((), dtype=torch.int64)
    counter = (zero, zero, zero + epoch, zero + _AUGMENTATION_STREAM)
    seeds: list[int] = philox(counter, (words[:, 0], words[:, 1]))[:, 0].tolist()
    return seeds


def _fits_8_bits(value: Any) -> bool:
    """Tell whether 8-bit images can hold what erased pixels become; "random" means floats."""
    values = value if isinstance(value, list | tuple) else [value]
    return not any(isinstance(one, str) or not 0 <= one <= 255 for one in values)
