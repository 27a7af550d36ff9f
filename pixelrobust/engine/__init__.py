"""Engines: what runs a classifier's forward passes on a device."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelrobust.datasets.cache import Advance
from pixelrobust.engine.eager import EagerEngine, find_device
from pixelrobust.settings import EngineSettings


class Engine(Protocol):
    """Runs one classifier.

    Attributes:
        name: of the engine, for provenance.
        device: where images and predictions live.
        batch_size: images a forward pass.
    """

    name: str
    device: torch.device
    batch_size: int

    def predict(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in [0, 1], on `device` -> (B,) int64 predicted classes.

        An image whose logits are not all finite gets -1.
        """
        ...


def make_engine(module: nn.Module, settings: EngineSettings) -> Engine:
    """The engine of a config, running this module.

    Raises:
        InputError: the device does not exist.
    """
    assert isinstance(settings.devices, str)
    return EagerEngine(module, find_device(settings.devices), settings.batch_size)


def predict_all(engine: Engine, pixels: NDArray[np.uint8], advance: Advance) -> NDArray[np.int64]:
    """(N, C, H, W) uint8 -> (N,) int64 predicted classes, batch by batch."""
    predictions = np.empty(len(pixels), dtype=np.int64)
    for start in range(0, len(pixels), engine.batch_size):
        batch = torch.tensor(pixels[start : start + engine.batch_size]).to(engine.device)
        predictions[start : start + len(batch)] = engine.predict(batch).cpu().numpy()
        advance(len(batch))
    return predictions


__all__ = ["EagerEngine", "Engine", "find_device", "make_engine", "predict_all"]
