"""Devices that a config names, and how many images suit them at a time."""

import ctypes
import functools
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pixelrobust.errors import InputError
from pixelrobust.settings import EngineName, Precision

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


# Keeping freed memory, so that every batch does not fetch its memory anew from the system.

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1


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
    """Hand what is free back after all: batches of many sizes leave holes that nothing fits."""
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _glibc(name: str) -> Any:
    """A function of glibc; None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None


# The arithmetic of forward passes: float32 unless something faster is asked for.

_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(device: torch.device, precision: Precision) -> None:
    """Raise InputError where a device does not have this arithmetic."""
    if device.type == "cpu" and precision in ("tf32", "fp16"):
        raise InputError(
            f"engine.precision={precision} needs a GPU; give fp32 or bf16, or engine.devices=cuda."
        )


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


# What all engines share: from images to predicted classes, whatever runs the network.

_LACKING = -1e29


class Engine:
    """Runs one classifier.

    Args:
        device: where images and predictions live.
        batch_size: images a forward pass.
        precision: of the arithmetic.

    Attributes:
        name: of the kind of engine.
        reason: why it was chosen.
    """

    name: EngineName
    reason: str = ""

    def __init__(self, device: torch.device, batch_size: int, precision: Precision) -> None:
        self.device = device
        self.batch_size = batch_size
        self.precision = precision

    @property
    def version(self) -> str:
        """Of the software that computes: the same version gives the same logits."""
        return f"{self.name}, torch {torch.__version__}"

    @property
    def is_reference(self) -> bool:
        """Whether it is what other engines are compared with."""
        return self.name == "eager" and self.precision == "fp32"

    def description(self) -> dict[str, Any]:
        """What it is, as plain data."""
        return {"name": self.name, "precision": self.precision, "batch_size": self.batch_size}

    def logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], on `device` -> (B, K) float32.

        Where memory does not suffice the batch size is halved, for good, until it does.

        Raises:
            InputError: not even one image fits.
        """
        parts = []
        start = 0
        while start < len(images):
            part = images[start : start + self.batch_size]
            try:
                parts.append(self._forward(part))
                start += len(part)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(part))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def predict(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], on `device` -> (B,) int64 predicted classes.

        An image whose logits are not all finite gets -1.
        """
        return predicted_classes(self.logits(images))

    def stream(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """`logits` of each batch of at most `batch_size` images, in order.

        Batches are asked for as soon as there is room for them, which may be before the logits of
        earlier ones are there.
        """
        return map(self.logits, batches)

    def predictions(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """`predict` of each batch, as `stream` gives the logits."""
        return map(predicted_classes, self.stream(batches))

    def _forward(self, images: Tensor) -> Tensor:
        """`logits` of at most `batch_size` images."""
        raise NotImplementedError

    def _halve(self, tried: int) -> None:
        if tried == 1:
            raise out_of_memory(self.device)
        self.batch_size = (tried + 1) // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def predicted_classes(logits: Tensor) -> Tensor:
    """(B, K) -> (B,) int64: the largest; -1 where not all are finite."""
    finite = torch.isfinite(logits).all(dim=1)
    return torch.where(finite, logits.argmax(dim=1), -1)


def margins(logits: Tensor) -> Tensor:
    """(B, K) -> (B,) float32: how far the largest lies above the next; 0 where there is only one."""
    if logits.shape[1] < 2:
        return logits.new_zeros(len(logits))
    largest = logits.topk(2, dim=1).values
    return largest[:, 0] - largest[:, 1]


def largest_logit(logits: Tensor) -> Tensor:
    """(B, K) -> (): the largest absolute value, but for those of classes that a network lacks.

    These are as low as can be (see `pixelrobust.models.heads.ExpandedLogits`), and would hide differences.
    """
    return torch.where(logits > _LACKING, logits.nan_to_num().abs(), 0).max()


def label_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K), (B,) -> (B,) float32: how far the label's logit lies above the largest other one."""
    if logits.shape[1] < 2:
        return logits.new_zeros(len(logits))
    column = labels[:, None]
    others = logits.scatter(1, column, -torch.inf).amax(dim=1)
    return logits.gather(1, column)[:, 0] - others


def filled_up(images: Tensor, batch_size: int) -> Tensor:
    """The images, and black ones after them where there are fewer than `batch_size`."""
    missing = batch_size - len(images)
    if missing == 0:
        return images
    return torch.cat([images, images.new_zeros(missing, *images.shape[1:])])


def out_of_memory(device: torch.device) -> InputError:
    """What is said where not even one image fits."""
    return InputError(
        f"there is not enough memory on {device} for one image; close other programs, or "
        "give another device (engine.devices) or smaller images."
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory does not suffice, of a GPU or of the machine."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


# Plain PyTorch, one operation after the other, in channels-last layout.


class EagerEngine(Engine):
    """Runs a module as it is.

    Args:
        module: (B, C, H, W) float in [0, 1] -> (B, K) logits. Moved to the device, and its weights
            to channels-last layout, in place; values do not change.
        device: where to run.
        batch_size: images a forward pass.
        precision: of the arithmetic.

    Raises:
        InputError: the device does not have this precision.
    """

    name: EngineName = "eager"

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        batch_size: int,
        precision: Precision = "fp32",
    ) -> None:
        check_precision(device, precision)
        if device.type == "cpu":
            keep_freed_memory()
        super().__init__(device, batch_size, precision)
        self._module = module.to(device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> Tensor:
        with arithmetic(self.device, self.precision):
            logits: Tensor = self._module(as_floats(images))
        return logits.float()


def as_floats(images: Tensor) -> Tensor:
    """uint8, or float in [0, 1] -> float32 in [0, 1], channels last."""
    floats = images.to(torch.float32, memory_format=torch.channels_last)
    return floats if images.is_floating_point() else floats.div_(255)
