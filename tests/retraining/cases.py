"""Small networks and images that the tests of retraining share."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import DropPath
from torch import Tensor, nn

from pixelrobust.models.heads import Normalize
from pixelrobust.perturbation.augmentations import PixelAugmentation
from pixelrobust.retraining import Recipe, Retrained, recipe_settings, retrain

CLASSES = [5, 2, 7]
OUTPUTS = 9
SIDE = 8
# A server that has everything imported and has never trained: its children start at once, and
# autograd, which does not survive forking, works in them.
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["pixelrobust.retraining", "tests.retraining.cases"])

CHANGE = PixelAugmentation(6)


class Residual(nn.Module):
    def __init__(self, drop: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.drop_path = DropPath(drop)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.drop_path(self.conv(values))


def classifier(dropout: float = 0.4, drop_path: float = 0.3) -> nn.Module:
    """Convolutions, batch normalisation, all kinds of dropout, a hidden layer and a head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            Residual(drop_path),
            nn.Dropout2d(dropout / 2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout, inplace=True),
            nn.Linear(24, 16),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(16, OUTPUTS),
        )
        network[1].running_mean.normal_(0, 0.1)
        network[1].running_var.uniform_(0.5, 1.5)
    return nn.Sequential(Normalize([0.5] * 3, [0.25] * 3), network).eval()


def images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)


def keys(count: int) -> list[str]:
    return [f"class/{index}.jpg" for index in range(count)]


def labels(count: int) -> list[int]:
    return [CLASSES[index % len(CLASSES)] for index in range(count)]


def train(directory: Path, *, count: int = 13, **options: Any) -> Retrained:
    """`retrain` on the first so many images; options are its own, or the recipe's."""
    recipe = {key: options.pop(key) for key in Recipe.model_fields if key in options}
    return retrain(
        options.pop("module", None) or classifier(),
        CLASSES,
        options.pop("images", images(count)),
        keys(count),
        labels(count),
        options.pop("augmentation", CHANGE),
        recipe_settings(**{"epochs": 3, "batch_size": 4, "learning_rate": 0.05} | recipe),
        directory=directory,
        **options,
    )
