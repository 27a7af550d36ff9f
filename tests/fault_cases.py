"""A small network, small folders of images, files that do harm, and how a command ended."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from pixelrobust.errors import InputError

SIDE = 32
CLASSES = ("cat", "dog")


def picture(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    """Make an image of noise."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def folder_of(root: Path, *names: str) -> Path:
    """Write a picture under each name."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(root / name)
    return root


def state(classes: int = len(CLASSES)) -> dict[str, Tensor]:
    """Weights of a SqueezeNet that takes everything for the first of its classes."""
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(weights=None, num_classes=classes)
    with torch.no_grad():
        network.classifier[1].bias[0] += 10
    return network.state_dict()


def network(weights: Path, classes: int = len(CLASSES)) -> list[str]:
    """Arguments that name that network."""
    return [
        "model=torchvision", "models.torchvision.name=squeezenet1_1",
        f"models.torchvision.weights={weights}", f"models.torchvision.classes={classes}",
    ]  # fmt: skip


def saved(tensors: dict[str, Tensor], path: Path) -> Path:
    save_file(tensors, path)
    return path


def images(root: Path, classes: Sequence[str] = CLASSES) -> list[str]:
    """Arguments that name a folder of images of these classes, and a small run over them."""
    names = root.parent / f"{root.name}-classes.txt"
    names.write_text("\n".join(classes), encoding="utf-8")
    return [
        "dataset=imagefolder", f"dataset.root={root}", f"dataset.classes={names}",
        f"dataset.preprocessing.resize={SIDE}", f"dataset.preprocessing.crop={SIDE}",
        "perturbation.num=4",
    ]  # fmt: skip


def manifest(results: Path) -> dict[str, Any]:
    """Read the record of the only run below a results folder."""
    (path,) = results.glob("run-*/outcomes/*.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def caption(results: Path) -> str:
    """Read the page of the only run below a results folder."""
    (path,) = results.glob("run-*/table.md")
    return path.read_text(encoding="utf-8")


def share(folder: Path, content: dict[str, Any]) -> list[str]:
    """Return what somebody types who was given a folder of configs."""
    path = folder / "given" / "experiment" / "shared.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# @package _global_\n" + yaml.safe_dump(content))
    return ["--config-dir", str(folder / "given"), "experiment=shared"]


class Touching:
    """Unpickles to a new file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def sentence(ended: Ended, *folders: Path) -> str:
    """Return what a command was refused with, after checking that it is one sentence and exit code 2.

    Args:
        ended: how it ended.
        folders: left out of the sentence.
    """
    assert ended.code == 2, ended
    assert "Traceback" not in ended.out + ended.err
    assert ended.err.startswith("error: "), ended.err
    assert ended.err.count("\n") == 1, ended.err
    text = ended.err.removeprefix("error: ").strip()
    assert text.endswith("."), text
    return f"exit code 2: {_without(text, folders)}"


def refusal(call: Callable[[], object], *folders: Path) -> str:
    """Return what a call is refused with, an InputError of one sentence."""
    with pytest.raises(InputError) as refused:
        call()
    text = str(refused.value)
    assert "\n" not in text, text
    assert text.endswith("."), text
    return f"InputError: {_without(text, folders)}"


def _without(text: str, folders: Iterable[Path]) -> str:
    # The longest first, since one may lie in another.
    for folder in sorted(map(str, folders), key=len, reverse=True):
        text = text.replace(folder, "…")
    return text
