"""Tiny networks of other people's kinds, made on the spot: Hugging Face folders."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pixelrobust.settings import ModelSettings
from tests.conftest import from_setup_dev

SIDE = 32
CLASSES = ("cat", "dog")


def model(**values: Any) -> ModelSettings:
    """Settings of a SqueezeNet of two classes, where nothing else is said."""
    usual = {
        "source": "torchvision", "name": "squeezenet1_1", "weights": "saved", "match": "names",
        "classes": len(CLASSES), "mean": None, "std": None,
    }  # fmt: skip
    return ModelSettings(**(usual | values))


def hugging_face(folder: Path, **values: Any) -> ModelSettings:
    """Settings of the network in a folder."""
    return model(source="huggingface", name="huggingface", path=folder, **values)


def checkpoint(
    folder: Path, kind: str = "vit", labels: Sequence[str] = CLASSES, favourite: int = 0
) -> Path:
    """Write a folder as save_pretrained does: a tiny network that takes everything for one class."""
    named = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    transformers = from_setup_dev("transformers")
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    model, processor = KINDS[kind](transformers, named)
    head = [part for part in model.modules() if isinstance(part, nn.Linear)][-1]
    with torch.no_grad():
        head.bias[favourite] += 10
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _vit(transformers: Any, named: dict[str, Any]) -> tuple[Any, Any]:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=SIDE, patch_size=8, **named,
    )  # fmt: skip
    processor = transformers.ViTImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]
    )
    return transformers.ViTForImageClassification(config), processor


def _convnext(transformers: Any, named: dict[str, Any]) -> tuple[Any, Any]:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, **named)
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)
    return transformers.ConvNextForImageClassification(config), processor


def _resnet(transformers: Any, named: dict[str, Any]) -> tuple[Any, Any]:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **named
    )
    processor = transformers.BitImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, rescale_factor=1 / 127.5
    )
    return transformers.ResNetForImageClassification(config), processor


KINDS = {"vit": _vit, "convnext": _convnext, "resnet": _resnet}


def edited(folder: Path, name: str, **values: Any) -> Path:
    """Change settings in one of a folder's files."""
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | values))
    return folder


def tiny(
    classes: int = 2, last: nn.Module | None = None, favourite: int | None = None
) -> nn.Module:
    """Make a network whose logits depend on all pixels, or that takes everything for one class."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten()]
    head = nn.Linear(54, classes)
    if favourite is not None:
        with torch.no_grad():
            head.bias[favourite] += 100
    return nn.Sequential(*layers, head, last or nn.Identity()).eval()


def noise(count: int, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def picture(seed: int = 0, side: int = SIDE) -> tuple[Image.Image, NDArray[np.uint8]]:
    """Make a square image of noise, and return its pixels too."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels), pixels
