"""A small network and images in folders, for retraining through the command line."""

from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

NETWORK = "test_convnext2"
SIDE = 32
# Output of the network by class: not all of them are in the data set, nor in alphabetical order.
OUTPUTS = ["grey", "red", "black", "green", "blue"]
CLASSES = ["blue", "green", "red"]
LABELS = [OUTPUTS.index(name) for name in CLASSES]
EACH = 12
TOTAL = EACH * len(CLASSES)


def pictures(root: Path, seed: int) -> Path:
    """Noise that is a little brighter in one channel, as the folder's name says."""
    rng = np.random.default_rng(seed)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for index in range(EACH):
            pixels = rng.integers(0, 160, (SIDE, SIDE, 3))
            pixels[..., ["red", "green", "blue"].index(name)] += rng.integers(10, 60)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{index:02}.png")
    return root


def read(root: Path) -> tuple[torch.Tensor, torch.Tensor]:
    paths = sorted(root.glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in paths])
    labels = torch.tensor([OUTPUTS.index(path.parent.name) for path in paths])
    return torch.tensor(pixels) / 255, labels


def fitted(images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Random features, and a last layer that tells the classes apart (ridge regression)."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = timm.create_model(NETWORK, num_classes=len(OUTPUTS)).eval()
        features = network.forward_head(
            network.forward_features(2 * images - 1), pre_logits=True
        ).double()
        inputs = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        targets = torch.nn.functional.one_hot(labels, len(OUTPUTS)).double()
        ridge = 1e-3 * len(inputs) * torch.eye(inputs.shape[1])
        weight = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ targets)
        head = network.get_classifier()
        head.weight.copy_(10 * weight[:-1].T)
        head.bias.copy_(10 * weight[-1])
    return network.state_dict()


def make_world(root: Path) -> Path:
    """A folder of training and test images, class names, and a network's weights."""
    pictures(root / "test", 1)
    images, labels = read(pictures(root / "train", 0))
    save_file(fitted(images, labels), root / "net.safetensors")
    (root / "classes.txt").write_text("\n".join(OUTPUTS))
    return root


SHORT = (
    "retrain.num=[4,64]", "retrain.controls=[unchanged,noise]", "retrain.epochs=2",
    "retrain.learning_rate=0.05", "perturbation.num=[4,64]",
)  # fmt: skip


def data(world: Path, *, train: bool = True) -> tuple[str, ...]:
    return (
        "dataset=imagefolder", f"dataset.root={world / 'test'}",
        *((f"dataset.train_root={world / 'train'}",) if train else ()),
        f"dataset.classes={world / 'classes.txt'}", f"dataset.preprocessing.resize={SIDE}",
        f"dataset.preprocessing.crop={SIDE}",
    )  # fmt: skip


def network(world: Path) -> tuple[str, ...]:
    return (
        "model=timm", f"models.timm.name={NETWORK}", "models.timm.label=small",
        f"models.timm.weights={world / 'net.safetensors'}", f"models.timm.classes={len(OUTPUTS)}",
        "models.timm.mean=[0.5,0.5,0.5]", "models.timm.std=[0.5,0.5,0.5]",
    )  # fmt: skip


def only(results: Path, pattern: str) -> Path:
    (folder,) = results.glob(f"{pattern}-*")
    return folder


def rows_of(results: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(only(results, name) / "outcomes" / f"{name}.parquet")


def files(folder: Path) -> dict[str, bytes]:
    """All that is written but what says when and how long."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.rglob("*.*"))
        if path.suffix != ".json"
    }


def predicted(world: Path, split: str) -> np.ndarray:
    """The original network's logits, without anything of this project."""
    model = timm.create_model(NETWORK, num_classes=len(OUTPUTS)).eval()
    model.load_state_dict(load_file(world / "net.safetensors"))
    with torch.no_grad():
        return model(2 * read(world / split)[0] - 1).numpy()
