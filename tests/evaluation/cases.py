"""Networks, images and measured changes that the tests of activations and amplification share."""

from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from pixelrobust.evaluation.activations import layer_changes
from pixelrobust.perturbation.grid import Cell

SIDE = 12
CELL = Cell(5)


def random_images(count: int, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    shape = (count, 3, SIDE, SIDE)
    return torch.randint(low, high, shape, dtype=torch.uint8, generator=generator)


def keys_of(images: Tensor) -> list[str]:
    return [f"n01440764/{index}.JPEG" for index in range(len(images))]


def measure(module: nn.Module, images: Tensor, cell: Cell = CELL, **options: Any) -> pd.DataFrame:
    arguments = {"seed": 0, "batch_size": 4} | options
    return layer_changes(module, images, keys_of(images), cell, **arguments)


def wide(changes: pd.DataFrame, change: str = "pixels") -> pd.DataFrame:
    """(images, layers) of relative changes."""
    rows = changes[changes["change"] == change]
    return rows.pivot_table(
        index="image", columns="layer", values="relative_change", observed=True, sort=False
    )


class Square(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images**2


def convolutional(inplace: bool) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(inplace=inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8, 5),
    )


def unreachable_norms() -> pd.DataFrame:
    """Changes of 40 images, of which noise often cannot reach the norm of the pixel change.

    Every value of a black image becomes any value: noise is clipped wherever it is negative.
    """
    images = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    images[0, 0, 0, 0] = 255
    clean = images[:, :, :1, :1].expand(40, -1, -1, -1)
    keys = [str(index) for index in range(40)]
    return layer_changes(nn.Flatten(), clean, keys, Cell(1), seed=0, batch_size=9)


def zero_logits() -> pd.DataFrame:
    """Changes of three images that a network maps to zeros alone."""
    module = nn.Sequential(nn.Flatten(), nn.Hardtanh(-2, -1), nn.Threshold(0.0, 0.0))
    return measure(module, random_images(3))
