"""Moves of each layer's activations when an image changes: by a few pixels, and by noise.

The noise is the control that the paper lacks: Gaussian, and of the same L2 norm as the pixel change
of the same image. `pixelrobust.tables.amplification` says what the table means.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.datasets.decoded import Advance
from pixelrobust.distributed import SINGLE, Context
from pixelrobust.errors import InputError
from pixelrobust.models.checks import check_values
from pixelrobust.perturbation.augmentations import Augmentation, augment
from pixelrobust.perturbation.grid import Cell, Manner
from pixelrobust.perturbation.philox import WORD, WORDS_PER_BLOCK, philox
from pixelrobust.perturbation.pixels import PixelChange, image_keys, unit_floats
from pixelrobust.tables.amplification import CHANGES

MAX_NORM_MISMATCH = 0.01

# Noise shares no word with a pixel change, whose streams `pixelrobust.perturbation.pixels` has.
_NOISE_STREAM = 16
# Each step of the norm's matching gains a digit or more, unless most values are clipped.
_MATCHING_STEPS = 100
_MATCHED = 1e-6


def layer_changes(
    module: nn.Module,
    images: Tensor | NDArray[np.uint8],
    keys: Sequence[str],
    cell: Cell,
    *,
    seed: int,
    draw: int = 0,
    manner: Manner = Manner(),  # noqa: B008
    augmentations: Sequence[Augmentation] = (),
    batch_size: int,
    advance: Advance = lambda done: None,
    context: Context = SINGLE,
) -> pd.DataFrame:
    """Measure how far each layer's activations f move, ||f(changed) - f(image)|| / ||f(image)|| (L2).

    Args:
        module: float (B, C, H, W) in [0, 1] -> (B, K) logits, as `load_classifier` makes it; run in
            eval mode on the device that it is on, and left as it was.
        images: (N, C, H, W) uint8.
        keys: N different image keys, which change and noise hang on.
        cell: the pixel change; its num is above 0.
        seed, draw: as in `PixelChange`.
        manner: how pixels are drawn and changed.
        augmentations: other ways to change images, to be compared with the pixel change.
        batch_size: images at a time, 1 or more; of each, every changed version passes through the
            network beside it. It changes no random bit.
        advance: told how many images this process has done.
        context: this process among those that share the images.

    Returns:
        The same in every process. One row for each image, change and layer. Columns: image (its key); change ("pixels",
        "noise", or the name of an augmentation); layer and depth: "input" (the image in [0, 1]) is 0, then every call of a leaf
        module with a floating-point output (B, …), in the order of execution, "#2" marking a
        module's second call, and "logits" at last; relative_change, 0 or more, NaN where f(image)
        is 0; norm_mismatch of the image's noise, ||noise|| / ||pixel change|| - 1 after clipping;
        matched: whether that is within `MAX_NORM_MISMATCH`.

    Raises:
        InputError: an argument is wrong, or the module's output has another first dimension.
    """
    check_values("model", module)
    _check_arguments(images, keys, cell, batch_size)
    change = PixelChange(cell.num, cell.amplitude, cell.area, seed, *manner)
    tensors = chain(module.parameters(), module.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    names = [*CHANGES, *(augmentation.name for augmentation in augmentations)]

    def measured(start: int, stop: int) -> tuple[dict[str, Tensor], list[float]]:
        part = slice(start, stop)
        batch = torch.tensor(np.asarray(torch.as_tensor(images[part]).cpu()))
        clean = unit_floats(batch)
        changed = unit_floats(change(batch, keys[part], draw))
        noisy, mismatch = _matched_noise(clean, changed, image_keys(keys[part], seed), draw)
        augmented = [
            unit_floats(augment(each, batch, keys[part], seed=seed, epoch=draw))
            for each in augmentations
        ]
        versions = torch.cat((clean, changed, noisy, *augmented)).to(device)
        found = _relative_changes(module, versions, len(names))
        advance(len(batch))
        return found, mismatch

    def by_batches(part: slice) -> list[tuple[dict[str, Tensor], list[float]]]:
        starts = range(part.start, part.stop, batch_size)
        return [measured(start, min(start + batch_size, part.stop)) for start in starts]

    layers: dict[str, list[Tensor]] = {}
    mismatches: list[float] = []
    for found, mismatch in chain(*context.share(len(keys), batch_size, by_batches)):
        mismatches.extend(mismatch)
        for layer, changes in found.items():
            layers.setdefault(layer, []).append(changes)
    # A layer that folds other things into the first dimension can fit one batch by accident.
    whole = {layer: torch.cat(found, dim=1) for layer, found in layers.items()}
    return _as_table(
        {layer: found.numpy() for layer, found in whole.items() if found.shape[1] == len(keys)},
        list(keys),
        names,
        np.array(mismatches),
    )


def _check_arguments(
    images: Tensor | NDArray[np.uint8], keys: Sequence[str], cell: Cell, batch_size: int
) -> None:
    if str(images.dtype).removeprefix("torch.") != "uint8" or images.ndim != 4:
        raise InputError(
            f"images have dtype {images.dtype} and shape {tuple(images.shape)}; give uint8 "
            "(batch, channels, height, width)."
        )
    if not len(images) == len(keys) == len(set(keys)) or not keys:
        raise InputError(
            f"{len(images)} images came with {len(set(keys))} different keys; give at least one "
            "image, and a key of its own for each."
        )
    if cell.num == 0 or cell.amplitude == 0:
        raise InputError("this cell changes nothing; give perturbation.num of 1 or more.")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size} is not a size; give 1 or more.")


def _matched_noise(
    clean: Tensor, changed: Tensor, philox_keys: Tensor, draw: int
) -> tuple[Tensor, list[float]]:
    """Add noise as large as their changes to images (B, C, H, W); return each one's norm mismatch too."""
    pairs = [
        _scaled_noise(image, _norm(other - image), _gaussian(key, draw, image.numel()))
        for image, other, key in zip(clean, changed, philox_keys, strict=True)
    ]
    return torch.stack([noisy for noisy, _ in pairs]), [mismatch for _, mismatch in pairs]


def _scaled_noise(image: Tensor, target: float, direction: Tensor) -> tuple[Tensor, float]:
    """Return clip(image + scale * direction) whose distance from the image comes up to the target."""
    direction = direction.view_as(image)
    scale = target / _norm(direction)
    for _ in range(_MATCHING_STEPS):
        noisy = (image + scale * direction).clamp(0, 1).float()
        norm = _norm(noisy - image)
        if norm == 0 or abs(norm / target - 1) < _MATCHED:
            break
        # Clipping takes a share that only grows with the scale, so this never overshoots.
        scale *= target / norm
    return noisy, norm / target - 1 if target else 0.0


def _gaussian(philox_key: Tensor, draw: int, count: int) -> Tensor:
    """Return (count,) float64 standard normal numbers of one image and draw (Box & Muller 1958)."""
    blocks = torch.arange(-(-count // WORDS_PER_BLOCK))
    zero = torch.zeros((), dtype=torch.int64)
    words = philox(
        (blocks, zero, zero + draw, zero + _NOISE_STREAM), (philox_key[0], philox_key[1])
    )
    # The first of each two lies in (0, 1], for its logarithm to exist.
    uniform = (words.double() + torch.tensor([1, 0, 1, 0])) / (WORD + 1)
    radius, angle = (-2 * uniform[:, 0::2].log()).sqrt(), 2 * math.pi * uniform[:, 1::2]
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten()[:count]


def _relative_changes(module: nn.Module, versions: Tensor, count: int) -> dict[str, Tensor]:
    """Return (count, B) for each layer, from images and their changed versions in one batch."""
    found: dict[str, Tensor] = {}
    calls: dict[str, int] = {}

    def record(layer: str, output: Any) -> None:
        calls[layer] = calls.get(layer, 0) + 1
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return
        if output.ndim > 1 and len(output) == len(versions):
            name = layer if calls[layer] == 1 else f"{layer}#{calls[layer]}"
            clean, *others = output.detach().chunk(1 + count)
            size = _norms(clean)
            changes = torch.stack([_norms(other - clean) for other in others])
            found[name] = torch.where(size > 0, changes / size, torch.nan).cpu()

    record("input", versions)
    with torch.inference_mode(), _leaf_outputs(module, record):
        logits = module(versions.contiguous(memory_format=torch.channels_last))
    record("logits", logits)
    if "logits" not in found:
        raise InputError("the module's output is no tensor (B, K); give a classifier.")
    return found


@contextmanager
def _leaf_outputs(module: nn.Module, record: Callable[[str, Any], None]) -> Iterator[None]:
    """Hand every output of a leaf module, in eval mode, to `record` before anything follows it.

    An output that is kept for later would be wrong: an in-place ReLU overwrites that of the layer before.
    """

    def hook(name: str, _module: nn.Module, _arguments: Any, output: Any) -> None:
        record(name, output)

    modes = [(part, part.training) for part in module.modules()]
    handles = [
        part.register_forward_hook(partial(hook, name))
        for name, part in module.named_modules()
        if next(part.children(), None) is None
    ]
    try:
        module.eval()
        yield
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in modes:
            part.training = mode


def _norms(values: Tensor) -> Tensor:
    """Return (B,) L2 norms in float32, right to about 1e-5; float64 would take as long as the layers."""
    dimensions = tuple(range(1, values.ndim))
    dtype = torch.promote_types(values.dtype, torch.float32)
    norms: Tensor = torch.linalg.vector_norm(values, dim=dimensions, dtype=dtype)
    return norms


def _norm(image: Tensor) -> float:
    """Return the L2 norm of one image, in float64."""
    return float(torch.linalg.vector_norm(image, dtype=torch.float64))


def _as_table(
    layers: dict[str, NDArray[np.float64]],
    keys: list[str],
    names: list[str],
    mismatches: NDArray[np.float64],
) -> pd.DataFrame:
    """Return the rows of `layer_changes`, from (changes, N) for each layer."""
    values = np.stack(list(layers.values()), axis=-1).transpose(1, 0, 2)
    image, change, layer = (index.ravel() for index in np.indices(values.shape))
    return pd.DataFrame(
        {
            "image": pd.Categorical.from_codes(image, pd.Index(keys)),
            "change": pd.Categorical.from_codes(change, pd.Index(names)),
            "layer": pd.Categorical.from_codes(layer, pd.Index(list(layers))),
            "depth": layer.astype(np.int16),
            "relative_change": values.ravel().astype(np.float32),
            "norm_mismatch": mismatches[image],
            "matched": np.abs(mismatches[image]) < MAX_NORM_MISMATCH,
        }
    )
