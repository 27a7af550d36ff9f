"""Plain PyTorch, one operation after the other, in channels-last layout."""

import torch
from torch import Tensor, nn

from pixelrobust.engine.base import Engine
from pixelrobust.engine.memory import keep_freed_memory
from pixelrobust.engine.precision import arithmetic, check_precision
from pixelrobust.settings import EngineName, Precision


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
