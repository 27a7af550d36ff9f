"""Do engines agree? They compute the same sums in another order."""

import torch
from torch import Tensor

from pixelrobust.engine.base import Engine, largest_logit
from pixelrobust.errors import InputError

# Of the largest logit. Engines in float32 differ by some 1e-5 of it.
_TOLERANCE = {"fp32": 1e-3, "tf32": 0.1, "bf16": 0.5, "fp16": 0.1}


def check_agreement(engine: Engine, eager: Engine, images: Tensor) -> None:
    """See that an engine gives eager's logits: a converter can misread a network.

    Args:
        engine: the one to be tried.
        eager: plain PyTorch, of the same precision.
        images: (B, C, H, W) on their device.

    Raises:
        InputError: the logits differ by more than rounding explains.
    """
    if not same_logits(engine, eager.logits(images), images):
        raise InputError(
            f"engine={engine.name} gives other logits than plain PyTorch for this network; give "
            "engine=eager or engine=auto."
        )


def same_logits(engine: Engine, expected: Tensor, images: Tensor) -> bool:
    """Whether an engine gives (B, K) logits for (B, C, H, W) images, but for rounding."""
    logits = engine.logits(images)
    if logits.shape != expected.shape or not torch.equal(logits.isnan(), expected.isnan()):
        return False
    difference = (logits - expected).nan_to_num().abs().max()
    return bool(difference <= _TOLERANCE[engine.precision] * largest_logit(expected))
