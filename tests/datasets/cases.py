"""Small data sets in other people's formats, made on the spot."""

import hashlib
import io
import json
import pickle
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from pixelrobust.datasets import ImageList, list_images
from pixelrobust.settings import DatasetSettings, PreprocessingSettings
from tests.fault_cases import SIDE, folder_of

SMALL = PreprocessingSettings(resize=SIDE, crop=SIDE, interpolation="bilinear")


def config(kind: str, **keys: Any) -> DatasetSettings:
    unset = dict.fromkeys(("root", "labels", "classes", "candidates", "limit"))
    usual = unset | {"preprocessing": SMALL, "description": "images of a test", "caveat": ""}
    return DatasetSettings(kind=kind, **usual | keys)


def listed(
    kind: str,
    cache: Path = Path("/nonexistent-cache"),
    listing: Any = None,
    seed: int = 0,
    **keys: Any,
) -> ImageList:
    """List the images of a data set's config, or those of its training split by another listing."""
    return (listing or list_images)(config(kind, **keys), cache, seed)


def labels_by_key(images: ImageList) -> dict[str, int]:
    return dict(zip(images.keys, images.labels.tolist(), strict=True))


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def csv_of(folder: Path, rows: Iterable[tuple[str, object]], header: str = "path,label") -> Path:
    """labels.csv in a folder, as written; the pictures are written elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [header, *(f"{path},{label}" for path, label in rows)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "labels.csv"


def cifar_c(root: Path, images: NDArray[np.uint8], labels: object, name: str = "fog") -> Path:
    """Images (5 N, H, W, 3) of a corruption, and their labels, as CIFAR-10-C has them."""
    root.mkdir(parents=True, exist_ok=True)
    np.save(root / f"{name}.npy", images)
    np.save(root / "labels.npy", np.array(labels))
    return root


# torchvision's


def idx_of(values: NDArray[np.uint8]) -> bytes:
    """MNIST's format: kind of values, number of axes, their lengths, the values."""
    return struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.tobytes()


def mnist(
    root: Path, images: NDArray[np.uint8], labels: Sequence[int], name: str = "MNIST"
) -> Path:
    """The test split, and as the training split the same in negative."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for prefix, own in (("t10k", images), ("train", 255 - images)):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx_of(own))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_of(np.array(labels, np.uint8)))
    return root


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def cifar10(
    root: Path, images: NDArray[np.uint8], labels: Sequence[int], patch: pytest.MonkeyPatch
) -> Path:
    """Images (N, 3, 32, 32) as the test split; torchvision is told their checksums."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    batch = {"data": images.reshape(len(images), -1), "labels": list(labels)}
    names = [
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ]  # fmt: skip
    for name, content in {"test_batch": batch, "batches.meta": {"label_names": names}}.items():
        (folder / name).write_bytes(pickle.dumps(content))
    kind = torchvision.datasets.CIFAR10
    patch.setattr(kind, "train_list", [])
    patch.setattr(kind, "test_list", [["test_batch", md5(folder / "test_batch")]])
    patch.setattr(kind, "meta", kind.meta | {"md5": md5(folder / "batches.meta")})
    return root


def svhn(
    root: Path, images: NDArray[np.uint8], labels: Sequence[int], patch: pytest.MonkeyPatch
) -> Path:
    """Images (N, 32, 32, 3) as the test split; SVHN calls the digit 0 label 10."""
    root.mkdir(parents=True)
    file = root / "test_32x32.mat"
    own = [[label or 10] for label in labels]
    savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": np.array(own, np.uint8)})
    splits = torchvision.datasets.SVHN.split_list
    patch.setattr(
        torchvision.datasets.SVHN, "split_list", splits | {"test": ["", file.name, md5(file)]}
    )
    return root


def stl10(
    root: Path, images: NDArray[np.uint8], labels: Sequence[int], patch: pytest.MonkeyPatch
) -> Path:
    """Images (N, 96, 96, 3) as the test split; STL10 counts from 1, and stores columns first."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    (folder / "test_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
    (folder / "test_y.bin").write_bytes(bytes(label + 1 for label in labels))
    names = "airplane bird car cat deer dog horse monkey ship truck"
    (folder / "class_names.txt").write_text(names.replace(" ", "\n"))
    lists = [[name, md5(folder / name)] for name in ("test_X.bin", "test_y.bin")]
    patch.setattr(torchvision.datasets.STL10, "train_list", [])
    patch.setattr(torchvision.datasets.STL10, "test_list", lists)
    return root


def food101(root: Path, images: Mapping[str, Sequence[str]]) -> Path:
    """The names of images of each class, without their ending, as both splits."""
    meta = root / "food-101" / "meta"
    meta.mkdir(parents=True)
    for split in ("train", "test"):
        names = {name: [f"{name}/{image}" for image in own] for name, own in images.items()}
        (meta / f"{split}.json").write_text(json.dumps(names))
    folder_of(
        root / "food-101" / "images", *(f"{n}/{i}.jpg" for n, own in images.items() for i in own)
    )
    return root


def flowers102(root: Path, labels: Sequence[int], patch: pytest.MonkeyPatch) -> Path:
    """Pictures 1 to N, all of them the test split; Flowers102 counts classes from 1."""
    folder = root / "flowers-102"
    folder_of(folder / "jpg", *(f"image_{n:05}.jpg" for n in range(1, len(labels) + 1)))
    ids = np.arange(1, len(labels) + 1)
    savemat(folder / "setid.mat", {"tstid": ids, "trnid": ids, "valid": ids})
    savemat(folder / "imagelabels.mat", {"labels": np.array(labels) + 1})
    own = {
        "setid": ("setid.mat", md5(folder / "setid.mat")),
        "label": ("imagelabels.mat", md5(folder / "imagelabels.mat")),
    }
    kind: Any = torchvision.datasets.Flowers102
    patch.setattr(kind, "_file_dict", kind._file_dict | own)
    return root


def pets(root: Path, images: Sequence[tuple[str, int]]) -> Path:
    """Names of images such as Abyssinian_1, with labels, as the test split."""
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    lines = [f"{name} {label + 1} 1 1" for name, label in images]
    (folder / "annotations" / "test.txt").write_text("\n".join(lines) + "\n")
    folder_of(folder / "images", *(f"{name}.jpg" for name, _ in images))
    return root


def textures(root: Path, images: Sequence[str]) -> Path:
    """Names such as banded/banded_0001.jpg, as the test split of DTD."""
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    (folder / "labels" / "test1.txt").write_text("\n".join(images) + "\n")
    folder_of(folder / "images", *images)
    return root
