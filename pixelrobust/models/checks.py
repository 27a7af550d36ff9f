"""Model checks: a network takes the images, and gives each its logits, always the same."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pixelrobust.engine.base import largest_logit
from pixelrobust.engine.devices import arithmetic, is_out_of_memory, out_of_memory
from pixelrobust.errors import InputError, first_line

# Logits of one image may differ by this share of the largest. Sums of float32 in another order differ
# by some 1e-5 of it.
_TOLERANCE = 1e-3


def check_module(name: str, module: nn.Module, images: Tensor, largest_label: int) -> None:
    """Try a classifier on two images: together, and twice on the first of them alone.

    Args:
        name: what messages call it.
        module: to be evaluated; used on the device that it is on.
        images: (2, C, H, W) float in [0, 1], different ones.
        largest_label: of the run.

    Raises:
        InputError: it has parameters without values, is in training mode, cannot take such images,
            gives anything but a row of logits for each, has no output for a label, gives other logits
            for the same image, or changes its own parameters or buffers.
    """
    check_values(name, module)
    training = next((part for part in module.modules() if part.training), None)
    if training is not None:
        raise InputError(
            f"model {name} is in training mode (its {type(training).__name__}), in which outputs "
            "depend on chance or on the other images; its eval() must put every part into eval mode."
        )
    buffers, parameters = _buffers(module), _versions(module)
    alone = _logits(name, module, images[:1])
    if largest_label >= alone.shape[1]:
        raise InputError(
            f"label {largest_label} is out of range for model {name}, which has {alone.shape[1]} "
            "outputs; check dataset.classes and models.<name>.classes."
        )
    together, again = _logits(name, module, images)[:1], _logits(name, module, images[:1])
    changed = [key for key, value in _buffers(module).items() if not _same(value, buffers.get(key))]
    if changed or _versions(module) != parameters:
        raise InputError(
            f"model {name} changes its own {'buffer ' + changed[0] if changed else 'parameters'} when "
            "it is used, so its outputs would depend on what it saw before; freeze it."
        )
    if not _agree(alone, again, module):
        raise InputError(
            f"model {name} gives different logits for the same image; make it deterministic."
        )
    if not _agree(alone, together, module):
        raise InputError(
            f"model {name} gives an image other logits beside another image than alone; its outputs "
            "must not depend on the batch (batch normalisation needs running statistics)."
        )


def check_values(name: str, module: nn.Module) -> None:
    """Raise InputError where parameters or buffers have no values yet, so that the first use draws some."""
    for key, tensor in chain(module.named_parameters(), module.named_buffers()):
        if is_lazy(tensor):
            raise InputError(
                f"model {name} has parameters that are not initialised yet ({key} of a lazy module), and "
                "the first image would fill them with random values; load its weights."
            )
        if tensor.is_meta:
            raise InputError(f"model {name} has weights without values (device meta); load them.")


def try_module(name: str, module: nn.Module, images: Tensor) -> Any:
    """Return whatever a network gives for (B, C, H, W) images; InputError where it cannot take them."""
    first = next(chain(module.parameters(), module.buffers()), images)
    try:
        with torch.inference_mode(), arithmetic(first.device, "fp32"):
            return module(images.to(first.device))
    except InputError:
        raise
    # A network may raise anything where images do not suit it.
    except Exception as error:
        if is_out_of_memory(error):
            if len(images) == 1:
                raise out_of_memory(first.device) from error
            # Then no image will ever have another beside it.
            return try_module(name, module, images[:1])
        height, width = images.shape[-2:]
        raise InputError(
            f"model {name} cannot take images of {height} x {width} "
            f"({first_line(error)}); set dataset.preprocessing.resize and crop, or leave it out."
        ) from error


def _logits(name: str, module: nn.Module, images: Tensor) -> Tensor:
    """Return the (B, K) float32 logits, on the CPU, of (B, C, H, W) images."""
    logits = try_module(name, module, images)
    if not isinstance(logits, Tensor):
        raise InputError(
            f"model {name} gives a {type(logits).__name__}, not a tensor of logits; wrap it in a "
            "module that gives its logits."
        )
    if logits.ndim != 2 or len(logits) != len(images):
        count = "one image" if len(images) == 1 else f"{len(images)} images"
        raise InputError(
            f"model {name} gives outputs of shape {tuple(logits.shape)} for {count}; "
            f"a classifier gives ({len(images)}, classes)."
        )
    return logits.float().cpu()


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.detach().clone() for name, buffer in module.named_buffers()}


def _versions(module: nn.Module) -> list[tuple[str, int, int]]:
    """Return what shows that parameters were written to, or replaced."""
    return [(name, id(value), value._version) for name, value in module.named_parameters()]


def _same(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and one.shape == other.shape and bool(torch.equal(one, other))


def _agree(one: Tensor, other: Tensor, module: nn.Module) -> bool:
    """Tell whether logits are the same but for rounding; what is not finite is told elsewhere."""
    if one.shape != other.shape:
        return False
    difference = float((one.nan_to_num() - other.nan_to_num()).abs().max())
    return difference <= _TOLERANCE * largest_logit(one, module)
