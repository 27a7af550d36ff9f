"""Engines: what runs a classifier's forward passes on a device."""

import shutil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.datasets.decoded import Advance
from pixelrobust.engine.base import (
    CompiledEngine,
    EagerEngine,
    Engine,
    Screening,
    largest_logit,
    predicted_classes,
)
from pixelrobust.engine.devices import (
    check_batch_size,
    check_precision,
    fast_precision,
    find_device,
    suitable_batch_size,
)
from pixelrobust.engine.feeding import Images, make_feed, split_batches
from pixelrobust.errors import InputError
from pixelrobust.files import package_folder
from pixelrobust.settings import SCREENED, EngineName, EngineSettings, Precision

ASKED_FOR = "asked for"
"""Why an engine runs that the settings name."""
NOTHING_FASTER = (
    "no arithmetic of this device is faster than fp32, so precision=screened computes all in fp32"
)
"""What a user is told who asked for screening in vain."""
# OpenVINO computes several batches at once, each by one thread, whose caches these suit.
_OPENVINO_BATCH = 4
# So many images show that an engine gives eager's logits.
_COMPARED = 4
# From so many forward passes of 224 x 224 images on, an engine has won back the seconds that it takes to
# start: converting takes 1 to 4 s and doubles the rate, compiling takes 5 to 50 s and gains a third
# (results/benchmark.md).
_WORTH_CONVERTING = 500
_WORTH_COMPILING = {"cpu": 10_000, "cuda": 500_000}
# Engines compute the same sums in another order. In float32 they differ by some 1e-5 of the largest logit,
# and by no more than these shares of it.
_TOLERANCE = {"fp32": 1e-3, "tf32": 0.1, "bf16": 0.5, "fp16": 0.1}


def make_engine(module: nn.Module, settings: EngineSettings, images: Tensor, passes: int) -> Engine:
    """Return the engine of a config, running this module, started and compared with eager.

    One that is to be screened computes in fp32 and has `screening`, where the device has a faster
    arithmetic.

    Args:
        module: (B, C, H, W) float in [0, 1] -> (B, K) logits, in eval mode; it may be moved to the
            device and to channels-last layout.
        settings: which engine; devices must be one.
        images: (N, C, H, W), N at least 1: some that it will be given.
        passes: forward passes ahead, in images, by which engine=auto chooses.

    Raises:
        InputError: the device does not exist, or has no such precision; or the engine that is asked
            for is not installed, cannot run the module, or gives other logits than eager.
    """
    assert isinstance(settings.devices, str)
    device = find_device(settings.devices)
    if settings.precision != SCREENED:
        return _made(module, settings, device, settings.precision, images, passes)
    how = settings.screening
    if how.fast:
        check_precision(device, how.fast, "engine.screening.fast")
    engine = _made(module, settings, device, "fp32", images, passes)
    if precision := how.fast or fast_precision(device):
        fast = _made(module, settings, device, precision, images, passes)
        # Plain PyTorch may be slower in it than another engine is in fp32.
        if fast.name == engine.name or fast.name != "eager":
            engine.screening = Screening(fast, how.multiple, how.checked)
    return engine


def _made(
    module: nn.Module,
    settings: EngineSettings,
    device: torch.device,
    precision: Precision,
    images: Tensor,
    passes: int,
) -> Engine:
    """Make the engine of `make_engine` that computes in one arithmetic."""
    image_size = (images.shape[-2], images.shape[-1])
    if settings.batch_size:
        check_batch_size(settings.batch_size, device, image_size)
    size = settings.batch_size or suitable_batch_size(device, image_size)
    eager = EagerEngine(module, device, size, precision)
    name, eager.reason = settings.name, ASKED_FOR
    if name == "auto":
        name, eager.reason = choose_engine(device, passes)
    if name == "eager":
        return eager
    try:
        return _started(name, eager, settings, images[:_COMPARED])
    except InputError as error:
        if settings.name != "auto":
            raise
        # The advice behind the semicolon is being followed.
        eager.reason = str(error).partition(";")[0]
        return eager


def reference_engine(
    module: nn.Module, device: torch.device, image_size: tuple[int, int]
) -> Engine:
    """Return the engine that others are compared with: plain PyTorch in float32."""
    return EagerEngine(module, device, suitable_batch_size(device, image_size))


def choose_engine(device: torch.device, passes: int) -> tuple[EngineName, str]:
    """Choose the engine to run so many forward passes on, and say why.

    A function of the machine and the work, not of timings: the same run has the same engine again.

    Args:
        device: where to run.
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


def _started(
    name: EngineName, eager: EagerEngine, settings: EngineSettings, images: Tensor
) -> Engine:
    """Start another engine than eager; InputError unless it gives eager's logits."""
    module, precision = eager.module, eager.precision
    engine: Engine
    if name == "openvino":
        # Imported late, since it is optional.
        from pixelrobust.engine.openvino import OpenVinoEngine

        image_size = (images.shape[-2], images.shape[-1])
        suitable = suitable_batch_size(eager.device, image_size, _OPENVINO_BATCH)
        engine = OpenVinoEngine(module, settings.batch_size or suitable, precision)
    else:
        engine = CompiledEngine(module, eager.device, eager.batch_size, precision)
    engine.reason = eager.reason
    images = images.to(eager.device)
    # A converter can misread a network.
    if not same_logits(engine, eager.logits(images), images):
        raise InputError(
            f"engine={name} gives other logits than plain PyTorch for this network; give "
            "engine=eager or engine=auto."
        )
    return engine


def same_logits(engine: Engine, expected: Tensor, images: Tensor) -> bool:
    """Tell whether an engine gives (B, K) logits for (B, C, H, W) images, but for rounding."""
    logits = engine.logits(images)
    if logits.shape != expected.shape or not torch.equal(logits.isnan(), expected.isnan()):
        return False
    difference = float((logits - expected).nan_to_num().abs().max())
    return difference <= _TOLERANCE[engine.precision] * largest_logit(expected, engine.module)


def predict_all(engine: Engine, pixels: Images, advance: Advance) -> NDArray[np.int64]:
    """Predict the classes of (N, C, H, W) images, uint8 or float in [0, 1]; -1: logits not finite."""
    order = split_batches(np.arange(len(pixels)), engine.batch_size)
    # Small results of every batch, kept one by one, would fragment the heap, which then grows.
    classes = torch.empty(len(pixels), dtype=torch.int64, device=engine.device)
    done = 0
    for logits in engine.stream(make_feed(pixels, engine.device).batches(order)):
        classes[done : done + len(logits)] = predicted_classes(logits)
        done += len(logits)
        advance(len(logits))
    predicted: NDArray[np.int64] = classes.cpu().numpy()
    return predicted


__all__ = [
    "ASKED_FOR",
    "EagerEngine",
    "Engine",
    "choose_engine",
    "find_device",
    "make_engine",
    "predict_all",
    "reference_engine",
    "suitable_batch_size",
]
