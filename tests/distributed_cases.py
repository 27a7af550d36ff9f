"""Work of other processes in tests. Apart from the tests: little to import starts fast."""

import os
import signal

import torch

from pixelrobust import InputError
from pixelrobust.distributed import Context


def add_ranks(context: Context) -> float:
    return float(context.sum(torch.tensor([context.rank + 1.0])).item())


def fail(context: Context, how: str) -> None:
    """Fail in the second process, while the first one waits for it."""
    if context.rank == 1:
        if how == "input":
            raise InputError("retrain.epochs is wrong; give another.")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("something else")
    context.barrier()
