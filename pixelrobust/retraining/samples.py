"""How a classifier is retrained, apart from the images and their changes."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrobust.datasets.decoded import PixelRows
from pixelrobust.errors import InputError
from pixelrobust.models.heads import HeadInit
from pixelrobust.perturbation.augmentations import TRAINING_DRAWS, Augmentation, augment
from pixelrobust.perturbation.pixels import image_keys

Trainable = Literal["last", "all"]
OptimizerName = Literal["sgd", "adam"]
BatchNorm = Literal["eval", "train"]
Precision = Literal["fp32", "bf16"]

_CHOICES = {
    "trainable": get_args(Trainable),
    "head": get_args(HeadInit),
    "optimizer": get_args(OptimizerName),
    "batch_norm": get_args(BatchNorm),
    "precision": get_args(Precision),
}


@dataclass(frozen=True)
class Recipe:
    """How to retrain. Defaults are the paper's where it gives a value: 20 epochs, step 0.001.

    Args:
        trainable: "all" parameters, or the "last" layer's only.
        head: the new last layer's first values, see `pixelrobust.models.heads.replace_head`.
        epochs: 1 or more passes over the images.
        learning_rate: above 0, the same throughout.
        optimizer: "sgd", or "adam" (Kingma & Ba 2015), as torch has them.
        momentum: of SGD, at least 0 and below 1; Adam has its own.
        weight_decay: 0 or more.
        batch_size: images a step, over all devices.
        originals: train on the unchanged images too, as samples of their own beside the changed.
        redraw: change images anew in every epoch; else as in epoch 0, over and over.
        batch_norm: "eval": batch normalisation goes by its running statistics, and these stay as
            they were. "train": it goes by each batch, and the statistics follow.
        precision: "bf16": autocast, on GPUs; weights stay in float32.
        seed: of the new layer, order, changes and dropout, an integer of 0 or more.

    Raises:
        InputError: a value is out of its range; one sentence for each.
    """

    trainable: Trainable = "all"
    head: HeadInit = "random"
    epochs: int = 20
    learning_rate: float = 0.001
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 32
    originals: bool = False
    redraw: bool = False
    batch_norm: BatchNorm = "eval"
    precision: Precision = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        values = asdict(self)
        faults = [_fault(key, value) for key, value in values.items()]
        sentences = [
            f"retrain.{key}={value!r} is wrong; give {fault}."
            for (key, value), fault in zip(values.items(), faults, strict=True)
            if fault
        ]
        if sentences:
            raise InputError(*sentences)


def _fault(key: str, value: Any) -> str | None:
    """What should be given instead of the value; None where it is right."""
    if key in _CHOICES:
        return None if value in _CHOICES[key] else " or ".join(_CHOICES[key])
    if key in ("originals", "redraw"):
        return None if isinstance(value, bool) else "true or false"
    if key in ("epochs", "batch_size", "seed"):
        least, most = (0, math.inf) if key == "seed" else (1, TRAINING_DRAWS)
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if fits else f"an integer of {least} or more" + (least * f", at most {most}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key == "learning_rate":
        return None if number and 0 < value < math.inf else "a number above 0"
    if key == "momentum":
        return None if number and 0 <= value < 1 else "a number of at least 0 and below 1"
    return None if number and 0 <= value < math.inf else "a number of 0 or more"


# Training samples: images to batches on a device, changed on the way.

Images = Tensor | NDArray[np.uint8] | PixelRows


class Facts(NamedTuple):
    """What is known of the B samples of a batch besides their pixels, on the device.

    Attributes:
        targets: (B,) int64 outputs that should win.
        philox_keys: (B, 2) int64, see `pixelrobust.perturbation.pixels.image_keys`.
        copies: (B,) int64, 0 for changed images, 1 for originals.
    """

    targets: Tensor
    philox_keys: Tensor
    copies: Tensor


class Samples:
    """N changed images, samples 0..N-1, and where originals are trained on, N..2N-1.

    Args:
        images: (N, C, H, W) uint8; may be memory-mapped, and is only ever indexed by arrays.
        keys: N different image keys.
        targets: (N,) int64.
        augmentation: how images are changed.
        recipe: its seed, originals and redraw matter here.
        device: where batches go.

    Raises:
        InputError: counts, shape or dtype are wrong, or keys repeat.
    """

    def __init__(
        self,
        images: Images,
        keys: Sequence[str],
        targets: NDArray[np.int64],
        augmentation: Augmentation,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        check_training_images(images, keys, targets)
        self._images = images
        self._keys = list(keys)
        self._targets = torch.tensor(targets)
        self._philox_keys = image_keys(self._keys, recipe.seed)
        self._augmentation = augmentation
        self._recipe = recipe
        self._device = device

    def __len__(self) -> int:
        return len(self._keys) * (2 if self._recipe.originals else 1)

    @property
    def changed(self) -> int:
        """How many samples are changed images."""
        return len(self._keys)

    def pixels(self, samples: NDArray[np.int64], epoch: int) -> Tensor:
        """(B, C, H, W) float32 in [0, 1], channels-last, on the device."""
        rows = samples % len(self._keys)
        batch = to_device(read_rows(self._images, rows), self._device)
        changing = np.flatnonzero(samples < len(self._keys))
        if len(changing):
            where = to_device(torch.tensor(changing), self._device)
            batch[where] = augment(
                self._augmentation,
                batch[where],
                [self._keys[row] for row in rows[changing]],
                seed=self._recipe.seed,
                epoch=epoch if self._recipe.redraw else 0,
            )
        return batch.to(torch.float32, memory_format=torch.channels_last).div_(255)

    def facts(self, samples: NDArray[np.int64]) -> Facts:
        """See `Facts`."""
        rows = torch.tensor(samples % len(self._keys))
        copies = torch.tensor(samples // len(self._keys))
        return Facts(
            *(
                to_device(part, self._device)
                for part in (self._targets[rows], self._philox_keys[rows], copies)
            )
        )


def read_rows(images: Images, rows: NDArray[np.int64]) -> Tensor:
    """(B, C, H, W) a copy of some images, on the device that they are on."""
    # Indexing by an array copies, whatever the images are kept in.
    return torch.as_tensor(images[rows])


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a GPU fetches it while the CPU goes on."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def check_training_images(images: Images, keys: Sequence[str], labels: NDArray[Any]) -> None:
    """Raise InputError unless there are N uint8 images (C, H, W), N different keys and N labels."""
    if not len(images) == len(keys) == len(labels) == len(set(keys)) or not len(keys):
        raise InputError(
            f"{len(images)} images came with {len(set(keys))} different keys and {len(labels)} "
            "labels; give at least one image, and a label and a key of its own for each."
        )
    first = read_rows(images, np.zeros(1, dtype=np.int64))
    if first.ndim != 4 or first.dtype != torch.uint8:
        raise InputError(
            f"images have shape {tuple(images.shape)} and dtype {first.dtype}; "
            "give (images, channels, height, width), uint8."
        )
