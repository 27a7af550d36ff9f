"""The arithmetic of forward passes: float32 unless something faster is asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pixelrobust.errors import InputError
from pixelrobust.settings import Precision

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
