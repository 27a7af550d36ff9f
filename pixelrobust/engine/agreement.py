"""Do engines agree? They compute the same sums in another order."""

import torch
from torch import Tensor

from pixelrobust.engine.base import Engine
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
    logits, expected = engine.logits(images), eager.logits(images)
    if logits.shape == expected.shape and torch.equal(logits.isnan(), expected.isnan()):
        difference = (logits - expected).nan_to_num().abs().max()
        if bool(difference <= _TOLERANCE[engine.precision] * expected.nan_to_num().abs().max()):
            return
    raise InputError(
        f"engine={engine.name} gives other logits than plain PyTorch for this network; give "
        "engine=eager or engine=auto."
    )
