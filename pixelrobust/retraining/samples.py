"""Training samples: changed images, and where they are wanted originals, as batches on a device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelrobust.engine.devices import to_device
from pixelrobust.engine.feeding import Images, split_batches
from pixelrobust.errors import InputError
from pixelrobust.perturbation.augmentations import Augmentation, augment
from pixelrobust.perturbation.philox import philox
from pixelrobust.perturbation.pixels import as_floats, image_keys
from pixelrobust.settings import Recipe

# Changes, noise, augmentations and dropout have other streams.
_ORDER_STREAM = 64


class Facts(NamedTuple):
    """The B samples of a batch besides their pixels, on the device.

    Attributes:
        targets: (B,) int64 outputs that should win.
        philox_keys: (B, 2) int64, see `pixelrobust.perturbation.pixels.image_keys`.
        copies: (B,) int64, 0 for changed images, 1 for originals.
    """

    targets: Tensor
    philox_keys: Tensor
    copies: Tensor


@dataclass(eq=False)
class Samples:
    """N changed images, samples 0..N-1, and where originals are trained on, N..2N-1.

    Attributes:
        images: (N, C, H, W) uint8; may be memory-mapped, and is only ever indexed by arrays.
        keys: N different image keys.
        targets: (N,) int64.
        augmentation: how images are changed.
        recipe: its originals, redraw and batch_size matter here.
        seed: of changes and order, an integer of 0 or more.
        device: where batches go.

    Raises:
        InputError: counts, shape, dtype or seed are wrong, or keys repeat.
    """

    images: Images
    keys: Sequence[str]
    targets: NDArray[np.int64]
    augmentation: Augmentation
    recipe: Recipe
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        check_training_images(self.images, self.keys, self.targets)
        self._facts = torch.tensor(self.targets), image_keys(self.keys, self.seed)

    def __len__(self) -> int:
        return len(self.keys) * (2 if self.recipe.originals else 1)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the samples of each step of an epoch, over all devices."""
        return split_batches(epoch_order(len(self), self.seed, epoch), self.recipe.batch_size)

    def pixels(self, samples: NDArray[np.int64], epoch: int) -> Tensor:
        """Return B samples: (B, C, H, W) float32 in [0, 1], channels-last, on the device."""
        rows = samples % len(self.keys)
        batch = to_device(read_rows(self.images, rows), self.device)
        changing = np.flatnonzero(samples < len(self.keys))
        if len(changing):
            where = to_device(torch.tensor(changing), self.device)
            batch[where] = augment(
                self.augmentation,
                batch[where],
                [self.keys[row] for row in rows[changing]],
                seed=self.seed,
                epoch=epoch if self.recipe.redraw else 0,
            )
        return as_floats(batch)

    def facts(self, samples: NDArray[np.int64]) -> Facts:
        """Return what is known of B samples besides their pixels."""
        rows = torch.tensor(samples % len(self.keys))
        copies = torch.tensor(samples // len(self.keys))
        parts = *(known[rows] for known in self._facts), copies
        return Facts(*(to_device(part, self.device) for part in parts))


def epoch_order(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return (samples,) a permutation of 0..samples-1 by seed and epoch, the same on every machine."""
    key = image_keys([""], seed)[0]
    zero = torch.zeros((), dtype=torch.int64)
    counter = (torch.arange(samples), zero, zero + epoch, zero + _ORDER_STREAM)
    words = philox(counter, (key[0], key[1]))
    # 63 random bits a sample: that two are alike never matters, since sorting is stable.
    ranks = (words[:, 0] << 31) | (words[:, 1] >> 1)
    order: NDArray[np.int64] = ranks.argsort(stable=True).numpy()
    return order


def rank_share(batch: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
    """Return one process's share of a batch; sizes differ by one at most, and may be 0."""
    return np.array_split(batch, world_size)[rank]


def read_rows(images: Images, rows: NDArray[np.int64]) -> Tensor:
    """Copy some images (B, C, H, W), on the device that they are on."""
    # Indexing by an array copies, whatever the images are kept in.
    return torch.as_tensor(images[rows])


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
