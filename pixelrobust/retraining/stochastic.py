"""Dropout whose masks hang on the image, so that neither batches nor processes can matter.

A mask is a function of (seed, image key, epoch, layer name, how often the layer was called before
in this pass, changed image or original). Layers that are known, and keyed:

* nn.Dropout: a mask of its own for every value;
* nn.Dropout1d, 2d and 3d: for every channel;
* stochastic depth, timm's DropPath and torchvision's StochasticDepth of mode "row": for every image.

Networks are trained in eval mode otherwise, and masks are put on by hooks: a layer of any other kind
(AlphaDropout, DropBlock, StochasticDepth of mode "batch"), or dropout without a layer of its own
(inside attention, or by a function), stays off.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from pixelrobust.errors import InputError
from pixelrobust.perturbation.philox import WORDS_PER_BLOCK, philox

# Changes, noise, augmentations and order have other streams; originals have the next one.
_DROPOUT_STREAM = 48
# Each 32-bit word decides twice.
_STEPS = 1 << 16


class _Dropping(NamedTuple):
    """A layer's dropout: how likely it is, which units drop together, and whether the others make up for it."""

    probability: float
    unit: Literal["value", "channel", "image"]
    is_scaled: bool = True


class KeyedDropout:
    """The stochastic layers of a network, with masks from `begin`.

    Args:
        network: the network; only its hooks change, and only inside `active`.
    """

    def __init__(self, network: nn.Module) -> None:
        known = {name: (part, _dropping(part)) for name, part in network.named_modules()}
        self._layers = {
            name: (part, dropping)
            for name, (part, dropping) in known.items()
            if dropping and dropping.probability > 0
        }
        self._keys: Tensor | None = None
        self._copies: Tensor | None = None
        self._epoch = 0
        self._calls: Counter[str] = Counter()

    @property
    def names(self) -> set[str]:
        """Return the dotted names of the layers that drop anything."""
        return set(self._layers)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Have the layers drop, from the first `begin` on, in a network that is in eval mode."""
        handles = [
            part.register_forward_hook(partial(self._drop, name, dropping))
            for name, (part, dropping) in self._layers.items()
        ]
        try:
            yield
        finally:
            self._keys = self._copies = None
            for handle in handles:
                handle.remove()

    def begin(self, philox_keys: Tensor, copies: Tensor, epoch: int) -> None:
        """Set the images of the next forward pass.

        Args:
            philox_keys: (B, 2) int64, from `pixelrobust.perturbation.pixels.image_keys`.
            copies: (B,) int64, 0 for changed images, 1 for originals.
            epoch: of training.
        """
        self._keys, self._copies, self._epoch = philox_keys, copies, epoch
        self._calls.clear()

    def _drop(
        self, name: str, dropping: _Dropping, _layer: nn.Module, _inputs: Any, output: Tensor
    ) -> Tensor | None:
        if self._keys is None or self._copies is None:
            return None
        if output.ndim < 2 or len(output) != len(self._keys):
            raise InputError(
                f"layer {name} drops out of a tensor of shape {tuple(output.shape)} for "
                f"{len(self._keys)} images, which tells no image from another; retrain a network "
                "whose dropout there is 0."
            )
        word = _layer_word(f"{name}#{self._calls[name]}")
        self._calls[name] += 1
        shape = {"value": output.shape, "channel": output.shape[:2], "image": output.shape[:1]}[
            dropping.unit
        ]
        kept = round((1 - dropping.probability) * _STEPS)
        counter = (word, self._epoch, self._copies)
        mask = keep_mask(self._keys, counter, math.prod(shape[1:]), kept)
        scale = _STEPS / kept if dropping.is_scaled and kept else 1.0
        factors = mask.to(output.dtype).mul_(scale)
        return output * factors.view(*shape, *[1] * (output.ndim - len(shape)))


def keep_mask(
    philox_keys: Tensor, counter: tuple[int, int, Tensor], units: int, kept: int
) -> Tensor:
    """Return (B, units) bool: whether each unit of each image is kept.

    Args:
        philox_keys: (B, 2) int64.
        counter: the layer's word, the epoch, and (B,) int64 copies.
        units: how many an image.
        kept: of 65536 units, how many are kept on average.
    """
    layer, epoch, copies = counter
    blocks = torch.arange(
        -(-units // (2 * WORDS_PER_BLOCK)), dtype=torch.int64, device=philox_keys.device
    )[None]
    constant = torch.zeros_like(blocks[:, :1])
    words = philox(
        (blocks, constant + layer, constant + epoch, _DROPOUT_STREAM + copies[:, None]),
        (philox_keys[:, :1], philox_keys[:, 1:]),
    )
    halves = torch.stack((words >> 16, words & (_STEPS - 1)), dim=-1)
    return halves.flatten(1)[:, :units] < kept


def _dropping(part: nn.Module) -> _Dropping | None:
    """Return the dropout of a layer; None for layers that are not keyed."""
    if isinstance(part, nn.Dropout):
        return _Dropping(part.p, "value")
    if isinstance(part, nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
        return _Dropping(part.p, "channel")
    if isinstance(part, DropPath):
        return _Dropping(part.drop_prob or 0.0, "image", part.scale_by_keep)
    if isinstance(part, StochasticDepth) and part.mode == "row":
        return _Dropping(part.p, "image")
    return None


def _layer_word(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")
