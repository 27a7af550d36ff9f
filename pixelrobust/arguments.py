"""What callers of `pixelrobust.evaluate` give, checked before anything is computed."""

import copy
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.engine.eager import as_floats
from pixelrobust.errors import InputError, first_line
from pixelrobust.models.fitness import check_module, try_module
from pixelrobust.models.logits import Logits, has_logits
from pixelrobust.perturbation import check_images, check_unit_range

_MAX_OUTCOMES = 200_000_000


def as_images(images: Any) -> Tensor:
    """Images as a tensor; InputError unless they are (N, C, H, W), uint8 or float in [0, 1]."""
    try:
        with warnings.catch_warnings():
            # Memory-mapped images are read-only; nothing here writes to them.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            tensor = torch.as_tensor(images)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"images cannot be used as a tensor ({first_line(error)}); give a tensor or an array."
        ) from error
    check_images(tensor)
    if tensor.is_floating_point():
        check_unit_range(tensor)
    return tensor


def as_labels(labels: Any) -> NDArray[np.int64]:
    """Labels as an array; InputError unless they are a sequence of integers of 0 or more."""
    array = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise InputError(
            f"labels have shape {array.shape} and dtype {array.dtype}; give an integer for each image."
        )
    if array.size and array.min() < 0:
        raise InputError(f"label {array.min()} is not the index of an output; give 0 or more.")
    return array.astype(np.int64)


def as_classifier(model: nn.Module, images: Tensor, labels: NDArray[np.int64], name: str) -> Any:
    """A copy of a model, in eval mode and float32, that gives logits.

    Raises:
        InputError: it cannot be measured on these images.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; give a torch.nn.Module.")
    try:
        module = copy.deepcopy(model).eval()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"model {name} cannot be copied ({first_line(error)}); give one that copy.deepcopy takes."
        ) from error
    module = _in_float32(name, module)
    # Mirrored, so that the two differ even where there is only one.
    examples = torch.cat([as_floats(images[:1]), as_floats(images[-1:]).flip(-1)])
    if has_logits(try_module(name, module, examples[:1])):
        module = Logits(module)
    check_module(name, module, examples, int(labels.max()))
    return module


def _in_float32(name: str, module: nn.Module) -> nn.Module:
    """The module with weights in float32: `precision` says what is computed in, not the weights."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        raise InputError(f"model {name} has weights without values (device meta); load them.")
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return module.float() if kinds - {torch.float32} else module


def check_draws(draws: Any) -> None:
    """Raise InputError unless draws is an integer of 1 or more."""
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 1:
        raise InputError(
            f"draws={draws!r} is not a number of changes; give an integer of 1 or more."
        )


def check_room(outcomes: int, draws: int) -> None:
    """Raise InputError where a model would have more outcomes than memory has room for."""
    if outcomes > _MAX_OUTCOMES:
        raise InputError(
            f"draws={draws} makes {outcomes:,} outcomes of a model, more than {_MAX_OUTCOMES:,}; give "
            "fewer draws, fewer cells or fewer images."
        )
