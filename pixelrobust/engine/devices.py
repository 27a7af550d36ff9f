"""Devices: which one a config names, how many images suit it, its precisions and its memory."""

import ctypes
import functools
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pixelrobust.errors import InputError
from pixelrobust.settings import Precision

# Images of 224 x 224 a forward pass. On a CPU the activations of a few images stay in the processor's
# caches between layers; smaller images come in larger batches.
_BATCH_SIZES = {"cpu": 16, "cuda": 1024}
_USUAL_PIXELS = 224 * 224
_LARGEST_BATCH = {"cpu": 256, "cuda": 4096}
# A batch may take this share of a machine's memory as it goes in; networks make many times as much of it.
_SHARE_OF_MEMORY = 1 / 16

# What torch calls instructions of processors for bf16: of x86, and of ARM.
_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

# These are numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1


def find_device(name: str) -> torch.device:
    """Return the device that a config names; "auto" is the first GPU, or the CPU where there is none.

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
    """Return a number of images a forward pass that keeps a batch's pixels the same at any size.

    Args:
        device: where the network runs.
        image_size: (height, width) in pixels.
        usual: the number for images of 224 x 224; None: what suits the device.
    """
    pixels = image_size[0] * image_size[1]
    batch_size = (usual or _BATCH_SIZES[device.type]) * _USUAL_PIXELS // pixels
    return min(max(batch_size, 1), _LARGEST_BATCH[device.type])


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
    """Return the machine's memory in bytes; infinity where it is not known."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def out_of_memory(device: torch.device) -> InputError:
    """Return the error that is raised where not even one image fits."""
    return InputError(
        f"there is not enough memory on {device} for one image; close other programs, or "
        "give another device (engine.devices) or smaller images."
    )


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that memory does not suffice, of a GPU or of the machine."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


@functools.cache
def keep_freed_memory() -> None:
    """Tell glibc's allocator not to hand freed blocks back to the system.

    Activations of tens of megabytes are allocated and freed for every layer. By default each is
    mapped afresh, and the system zeroes it page by page, which can take as long as the layer.
    Elsewhere than under glibc this does nothing.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


def release_freed_memory() -> None:
    """Hand free memory back after all: batches of many sizes leave holes that nothing fits."""
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _glibc(name: str) -> Any:
    """Return a function of glibc; None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None


def check_precision(
    device: torch.device, precision: Precision, key: str = "engine.precision"
) -> None:
    """Raise InputError, which names the key, where a device does not have this arithmetic."""
    if device.type == "cpu" and precision in ("tf32", "fp16"):
        raise InputError(f"{key}={precision} needs a GPU; give bf16, or engine.devices=cuda.")


def offers_tf32(device: torch.device) -> bool:
    """Tell whether a device computes in TF32: GPUs since Ampere do."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def fast_precision(device: torch.device) -> Precision | None:
    """Return the arithmetic in which a device computes faster than in fp32; None where there is none."""
    if device.type == "cuda":
        return "tf32" if offers_tf32(device) else None
    # Older versions of torch do not say what the processor can do.
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16" if any(known.get(name) for name in _BF16) else None


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Run what is inside in this precision, and leave torch's settings as they were.

    float32 means float32: torch's own default lets convolutions on a GPU round to TF32.
    """
    half = _HALVES.get(precision)
    with (
        _tensor_float_32(device, precision == "tf32"),
        torch.autocast(device.type, half, enabled=half is not None, cache_enabled=False),
    ):
        yield


@contextmanager
def _tensor_float_32(device: torch.device, allowed: bool) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = allowed
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return the tensor on the device; a GPU fetches it while the CPU, and what it computes, go on."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
