"""Devices that a config names, and how many images suit them at a time."""

import math
import os

import torch

from pixelrobust.errors import InputError

# Images of 224 x 224 a forward pass. On a CPU the activations of a few images stay in the processor's
# caches between layers; smaller images come in larger batches.
_BATCH_SIZES = {"cpu": 16, "cuda": 1024}
_USUAL_PIXELS = 224 * 224
_LARGEST = {"cpu": 256, "cuda": 4096}
# Of a machine's memory, what a batch may take as it goes in; networks make many times as much of it.
_SHARE_OF_MEMORY = 1 / 16


def find_device(name: str) -> torch.device:
    """The device that a config names; "auto" is the first GPU, or the CPU where there is none.

    Raises:
        InputError: the device does not exist on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"engine.devices={name!r} is not a device; give auto, cpu, cuda or cuda:N."
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"engine.devices={name} is not there: this machine shows {torch.cuda.device_count()} GPUs "
            "to torch; give engine.devices=auto or cpu."
        )
    if device.type not in ("cpu", "cuda"):
        raise InputError(
            f"engine.devices={name!r} is not supported; give auto, cpu, cuda or cuda:N."
        )
    return device


def suitable_batch_size(
    device: torch.device, image_size: tuple[int, int], usual: int | None = None
) -> int:
    """Images a forward pass, so that batches hold as many pixels whatever the size of the images.

    Args:
        device: where the network runs.
        image_size: (height, width) in pixels.
        usual: the number for images of 224 x 224; None: what suits the device.
    """
    pixels = image_size[0] * image_size[1]
    batch_size = (usual or _BATCH_SIZES[device.type]) * _USUAL_PIXELS // pixels
    return min(max(batch_size, 1), _LARGEST[device.type])


def check_batch_size(batch_size: int, device: torch.device, image_size: tuple[int, int]) -> None:
    """Raise InputError where a batch is so large that a CPU's memory cannot hold what becomes of it.

    The system would end the process rather than refuse it memory. GPUs do refuse, and batches are
    halved then.
    """
    needed = batch_size * 3 * image_size[0] * image_size[1] * 4
    if device.type == "cpu" and needed > _SHARE_OF_MEMORY * _memory():
        raise InputError(
            f"engine.batch_size={batch_size} images of {image_size[0]} x {image_size[1]} take "
            f"{needed / 1e9:.1f} GB before the network has begun, of {_memory() / 1e9:.0f} GB that "
            "this machine has; give fewer."
        )


def _memory() -> float:
    """Of the machine, in bytes; infinite where it is not known."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf
