"""Distances of images to a classifier's decision boundary (the paper's Eq. 3 to 6).

The paper draws the boundary as a line, from which the distance of x is (w · x + b) / ||w||. A
network's boundary is curved. Either it is replaced by its tangents, which takes gradients at the
image alone and is off where it bends; or a fooling image is looked for, whose distance is never
below the true one, and depends on how well the search does.

Distances are L2 norms of changes to whole images in [0, 1]. Changes are not confined to [0, 1] by
tangents, but are by the search.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from pixelrobust.attacks import craft
from pixelrobust.datasets.lists import as_labels
from pixelrobust.errors import InputError
from pixelrobust.models.checks import check_values
from pixelrobust.perturbation.grid import as_plain, is_integer
from pixelrobust.perturbation.pixels import as_floats, check_images, check_unit_range
from pixelrobust.settings import MINIMAL, attack_settings

BATCH_SIZE = 16
"""Images at a time, where nothing else is said."""

_DEEPFOOL = "L2DeepFoolAttack"
# Any image in [0, 1] is within this of any other.
_NO_LIMIT = 255.0


def linearized_distances(
    module: nn.Module,
    images: Tensor | NDArray[np.uint8],
    labels: Tensor | NDArray[np.int64],
    *,
    batch_size: int = BATCH_SIZE,
    candidates: int | None = None,
) -> NDArray[np.float64]:
    """Return signed distances to the nearest boundary between the label y and another class k.

    The least over k of (f_y - f_k) / ||grad (f_y - f_k)||, the first step of DeepFool
    (Moosavi-Dezfooli, Fawzi & Frossard 2016). Where y wins it is the distance to the nearest of the
    tangents; exact for linear classifiers. Where other classes win it is below 0, and its size is
    the distance to the farthest tangent that has to be crossed for y to win; exact where one class
    stands before y, a lower bound where several do. The smallest absolute value, as DeepFool takes
    it from images that are right, could be that of a class which y beats, and its sign would then
    say that a wrong image is right.

    Args:
        module: (B, C, H, W) float in [0, 1] -> (B, K) logits, K at least 2; in eval mode, run on
            the device that it is on, and left as it was.
        images: (N, C, H, W), uint8, or floating point in [0, 1]; differentiated in float32.
        labels: (N,) integers in 0..K-1.
        batch_size: images at a time. Each takes one forward pass and a backward pass for each k.
        candidates: look only at so many k, those with the largest logits. None: all. The sign is
            right with any number; the distance is never smaller than with all.

    Returns:
        (N,): 0.0 (never -0.0) where y and another class tie for the largest logit; else plus or
        minus infinity where gradients vanish, and NaN where logits or gradients are not finite.

    Raises:
        InputError: an argument is wrong, or the module cannot be differentiated.
    """
    candidates = None if candidates is None else _as_count("candidates", candidates)
    distances = np.empty(len(images))
    for part, batch, targets in _batches(module, images, labels, batch_size):
        floats = as_floats(batch)
        distances[part] = _nearest_tangent(module, floats, targets, candidates).cpu().numpy()
    return distances


def measured_distances(
    module: nn.Module,
    images: Tensor | NDArray[np.uint8],
    labels: Tensor | NDArray[np.int64],
    *,
    batch_size: int = BATCH_SIZE,
    candidates: int | None = 9,
    steps: int = 50,
) -> NDArray[np.float64]:
    """Return the sizes of the smallest changes that DeepFool finds to fool the classifier.

    Args:
        module: as in `linearized_distances`.
        images: (N, C, H, W) uint8.
        labels: (N,) integers in 0..K-1.
        batch_size: images at a time.
        candidates: how many classes besides the most likely one to head for; None: all.
        steps: how often DeepFool may linearise.

    Returns:
        (N,) L2 norms, with DeepFool's overshoot of 2 %, and of 1e-4 for each step; 0.0 (never
        -0.0) where the image is wrong as it is, however far it lies beyond the boundary; NaN where
        DeepFool finds nothing, or logits are not finite.

    Raises:
        InputError: an argument is wrong, or foolbox is not installed.
    """
    # foolbox counts the most likely class too.
    most = None if candidates is None else _as_count("candidates", candidates) + 1
    attack = attack_settings(
        name=_DEEPFOOL,
        arguments={"steps": _as_count("steps", steps), "candidates": most},
        max_epsilon=_NO_LIMIT,
    )
    distances = np.empty(len(images))
    for part, batch, targets in _batches(module, images, labels, batch_size):
        result = craft(module, batch, targets, attack, MINIMAL)
        sizes = _norms(result.images - as_floats(batch))
        distances[part] = torch.where(result.fooled, sizes, torch.nan).cpu().numpy()
    return distances


def _nearest_tangent(
    module: nn.Module, images: Tensor, labels: Tensor, candidates: int | None
) -> Tensor:
    """Return (B,) float64, see `linearized_distances`; images are float32 in [0, 1]."""
    with torch.inference_mode(False), torch.enable_grad():
        # Nothing is kept for gradients of weights, which nobody wants.
        weights = {name: parameter.detach() for name, parameter in module.named_parameters()}
        # A copy, since autograd refuses tensors that were made in inference mode.
        inputs = images.clone(memory_format=torch.channels_last).requires_grad_()
        targets = labels.clone()[:, None]
        logits: Tensor = functional_call(module, weights, (inputs,))
        _check_logits(logits, labels)
        nearest = images.new_full((len(images),), torch.inf, dtype=torch.float64)
        # Images do not meet in eval mode: the gradient of a sum over the batch holds each image's
        # own, though their rivals differ. All rivals at once, by torch.func.vmap, would take as
        # many times the memory, and not every layer's backward pass can be batched so.
        for rivals in _rivals(logits.detach(), targets, candidates).unbind(dim=1):
            margins = (logits.gather(1, targets) - logits.gather(1, rivals[:, None])).flatten()
            (gradients,) = torch.autograd.grad(margins.sum(), inputs, retain_graph=True)
            margins = margins.detach().double()
            distances = torch.where(margins == 0, 0.0, margins / _norms(gradients))
            nearest = torch.minimum(nearest, distances)
    return torch.where(torch.isfinite(logits).all(dim=1), nearest.detach(), torch.nan)


def _rivals(logits: Tensor, targets: Tensor, candidates: int | None) -> Tensor:
    """Return (B, R) int64: the classes besides (B, 1) targets, by falling logits."""
    others = logits.shape[1] - 1
    without = logits.scatter(1, targets, -torch.inf)
    return without.topk(min(candidates or others, others), dim=1).indices


def _norms(changes: Tensor) -> Tensor:
    """Return (B,) float64 L2 norms of (B, …); NaN where they are not finite."""
    norms: Tensor = torch.linalg.vector_norm(changes.flatten(1), dim=1, dtype=torch.float64)
    return torch.where(torch.isfinite(norms), norms, torch.nan)


def _batches(
    module: nn.Module,
    images: Tensor | NDArray[np.uint8],
    labels: Tensor | NDArray[np.int64],
    batch_size: int,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield each batch's place, its images as they are, and its int64 labels, on the module's device."""
    if any(part.training for part in module.modules()):
        raise InputError("the model is in training mode; call its eval() before measuring it.")
    check_values("model", module)
    batch_size = _as_count("batch_size", batch_size)
    classes = torch.from_numpy(as_labels(labels, len(images)))
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        chosen = images[part]
        # Arrays are copied, since torch warns of those that must not be written to.
        batch = torch.tensor(chosen) if isinstance(chosen, np.ndarray) else chosen
        check_images(batch)
        if batch.is_floating_point():
            check_unit_range(batch)
        yield part, batch.to(device), classes[part].to(device)


def _as_count(name: str, value: Any) -> int:
    count = as_plain(value)
    if not is_integer(count) or count < 1:
        raise InputError(f"{name}={value!r} is wrong; give an integer of 1 or more.")
    return int(count)


def _check_logits(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or logits.shape[0] != len(labels) or logits.shape[1] < 2:
        raise InputError(
            f"the model gives outputs of shape {tuple(logits.shape)} for {len(labels)} images; "
            "give a classifier with two classes or more."
        )
    if not logits.requires_grad:
        raise InputError(
            "the model's logits have no gradients; give a classifier that torch can differentiate."
        )
    if int(labels.max()) >= logits.shape[1]:
        raise InputError(
            f"labels lie in {int(labels.min())}..{int(labels.max())}; the model has outputs "
            f"0..{logits.shape[1] - 1}."
        )
