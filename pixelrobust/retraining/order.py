"""Which samples meet in which batch: a function of seed and epoch, whatever the number of devices."""

import numpy as np
import torch
from numpy.typing import NDArray

from pixelrobust.perturbation import image_keys
from pixelrobust.philox import philox

# Apart from the streams of changes, noise, augmentations and dropout.
_ORDER_STREAM = 64


def epoch_order(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """(samples,) a permutation of 0..samples-1; the same on every machine."""
    key = image_keys([""], seed)[0]
    zero = torch.zeros((), dtype=torch.int64)
    counter = (torch.arange(samples), zero, zero + epoch, zero + _ORDER_STREAM)
    words = philox(counter, (key[0], key[1]))
    # 63 random bits a sample: that two are alike never matters, since sorting is stable.
    ranks = (words[:, 0] << 31) | (words[:, 1] >> 1)
    order: NDArray[np.int64] = ranks.argsort(stable=True).numpy()
    return order


def epoch_batches(order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """The samples of each step, over all devices; the last step may have fewer."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def rank_share(batch: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
    """What one of several processes takes of a batch; sizes differ by one at most, and may be 0."""
    return np.array_split(batch, world_size)[rank]
