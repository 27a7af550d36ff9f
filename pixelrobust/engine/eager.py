"""Plain PyTorch, one operation after the other, in float32 and channels-last layout."""

import torch
from torch import Tensor, nn

from pixelrobust.engine.memory import keep_freed_memory
from pixelrobust.errors import InputError

# On a CPU the activations of a few images stay in the processor's caches between layers.
_BATCH_SIZES = {"cpu": 16, "cuda": 256}


class EagerEngine:
    """Runs a module as it is.

    Args:
        module: (B, C, H, W) float in [0, 1] -> (B, K) logits. Moved to the device, and its weights
            to channels-last layout, in place; values do not change.
        device: where to run.
        batch_size: images a forward pass; None: what suits the device.
    """

    name = "eager"

    def __init__(self, module: nn.Module, device: torch.device, batch_size: int | None) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        self.device = device
        self.batch_size = batch_size or _BATCH_SIZES[device.type]
        self._module = module.to(device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """See `pixelrobust.engine.Engine.predict`."""
        floats = images.to(torch.float32, memory_format=torch.channels_last)
        if not images.is_floating_point():
            floats = floats.div_(255)
        logits: Tensor = self._module(floats)
        finite = torch.isfinite(logits).all(dim=1)
        return torch.where(finite, logits.argmax(dim=1), -1)


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
