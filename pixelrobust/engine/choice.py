"""Which engine is worth its start: `engine=auto`."""

import shutil

import torch

from pixelrobust.packages import package_folder
from pixelrobust.settings import EngineName, Precision

# Forward passes of 224 x 224 images from which on an engine has won back the seconds that it takes to
# start: converting takes 1 to 4 s and doubles the rate, compiling takes 5 to 50 s and gains a third
# (results/benchmark.md).
_WORTH_CONVERTING = 500
_WORTH_COMPILING = {"cpu": 10_000, "cuda": 500_000}


def choose_engine(
    device: torch.device, precision: Precision, passes: int
) -> tuple[EngineName, str]:
    """The engine to run so many forward passes on, and why.

    A function of the machine and the work, not of timings: the same run has the same engine again.

    Args:
        device: where to run.
        precision: of the arithmetic.
        passes: forward passes of one network that are ahead, in images.
    """
    if device.type == "cpu" and package_folder("openvino"):
        if passes >= _WORTH_CONVERTING:
            return "openvino", f"{passes:,} forward passes are worth converting a network for"
        return "eager", f"{passes:,} forward passes are not worth converting a network for"
    if passes < _WORTH_COMPILING[device.type]:
        return "eager", f"{passes:,} forward passes are not worth compiling a network for"
    if device.type == "cpu" and not shutil.which("g++"):
        return "eager", "there is no g++ to compile with"
    return "compile", f"{passes:,} forward passes are worth compiling a network for"
