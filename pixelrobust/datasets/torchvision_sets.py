"""Data sets that torchvision reads, by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelrobust.datasets.array_layout import Layout, as_picture
from pixelrobust.datasets.image_list import ImageList, make_image_list
from pixelrobust.datasets.labels import numbered_labels
from pixelrobust.datasets.sources import ArrayImage
from pixelrobust.errors import InputError, first_line


@dataclass(frozen=True)
class _Kind:
    """How one of torchvision's classes is asked, and where it has what it read.

    Attributes:
        splits: of which all images have labels.
        files: the attribute with the images' files; None: they are an array, `data`.
        labels: the attribute with their labels.
        layout: of the array.
        classes: the classes' names, where torchvision does not give them.
    """

    splits: tuple[str, ...]
    files: str | None = None
    labels: str = "targets"
    layout: Layout = "last"
    classes: tuple[str, ...] | None = None

    @property
    def is_flag(self) -> bool:
        """Whether it takes `train=True` or `False` instead of a split's name."""
        return self.files is None and self.labels == "targets"


_DIGITS = tuple(map(str, range(10)))
_HALVES = ("train", "test")
_THIRDS = ("train", "val", "test")

# Of some, torchvision unpickles files, CIFAR's; it compares their MD5 with its own list before, whenever
# they are read. Before another one is added here, see that it does.
KNOWN = {
    "CIFAR10": _Kind(_HALVES),
    "CIFAR100": _Kind(_HALVES),
    "DTD": _Kind(_THIRDS, "_image_files", "_labels"),
    "FashionMNIST": _Kind(_HALVES, layout="grey"),
    "Flowers102": _Kind(_THIRDS, "_image_files", "_labels"),
    "Food101": _Kind(_HALVES, "_image_files", "_labels"),
    "KMNIST": _Kind(_HALVES, layout="grey"),
    "MNIST": _Kind(_HALVES, layout="grey"),
    "OxfordIIITPet": _Kind(("trainval", "test"), "_images", "_labels"),
    "STL10": _Kind(_HALVES, labels="labels", layout="first"),
    "SVHN": _Kind(("train", "test", "extra"), labels="labels", layout="first", classes=_DIGITS),
}
"""Data sets that are taken, by torchvision's names for them."""


def read_torchvision(
    name: str | None,
    root: Path | None,
    split: str | None,
    download: bool,
    cache: Path,
    classes: Path | str | None,
    key: str = "dataset.split",
) -> ImageList:
    """The images of a split, labelled with torchvision's numbers of classes.

    Args:
        name: one of `KNOWN`.
        root: the folder that torchvision is, or was, given; None: below the cache folder.
        split: one of those that have labels.
        download: let torchvision fetch what is not there.
        cache: the cache folder.
        classes: see `pixelrobust.datasets.labels.numbered_labels`.
        key: of the config, that gave the split.

    Raises:
        InputError: the name or split is unknown, or the files are absent or not the published ones.
    """
    if name not in KNOWN:
        fault = "dataset.name is not set" if name is None else f"dataset.name={name} is unknown"
        raise InputError(f"{fault}; give one of {', '.join(KNOWN)}.")
    kind = KNOWN[name]
    if split not in kind.splits:
        raise InputError(f"{name} has no {key}={split}; give one of {', '.join(kind.splits)}.")
    root = cache / "torchvision" if root is None else root
    made = _make(name, kind, root, split, download)
    names = kind.classes or tuple(map(str, made.classes))
    values = [int(label) for label in getattr(made, kind.labels)]
    if kind.files is None:
        images = _of_array(np.asarray(made.data), values, kind.layout, name, root, split)
    else:
        images = _of_files([Path(path) for path in getattr(made, kind.files)], values, name, root)
    labels, own = numbered_labels(
        images.labels.tolist(),
        names,
        classes,
        lambda position: f"{images.keys[position]} of {name}",
    )
    return ImageList(
        images.root, images.keys, images.sources, np.array(labels, dtype=np.int64), own
    )


def _make(name: str, kind: _Kind, root: Path, split: str, download: bool) -> Any:
    """The data set, as torchvision reads it."""
    import torchvision

    chosen = {"train": split == "train"} if kind.is_flag else {"split": split}
    try:
        if download:
            root.mkdir(parents=True, exist_ok=True)
        return getattr(torchvision.datasets, name)(root, download=download, **chosen)
    # Files that are damaged, or somebody else's, raise nearly anything.
    except Exception as error:
        if download:
            remedy = "connect to the network, or put the files there by hand"
        else:
            remedy = "give the folder that torchvision keeps it in, or dataset.download=true"
        raise InputError(
            f"{name} cannot be read from dataset.root={root} ({_reason(error)}); {remedy}."
        ) from error


def _reason(error: Exception) -> str:
    # torchvision goes on with what to do in Python.
    return first_line(error).partition(". You can use")[0].rstrip(".")


def _of_array(
    data: NDArray[np.uint8],
    labels: Sequence[int],
    layout: Layout,
    name: str,
    root: Path,
    split: str,
) -> ImageList:
    if len(data) != len(labels):
        raise InputError(
            f"{name} in dataset.root={root} has {len(data)} images, but {len(labels)} labels; fetch it anew."
        )
    sources = tuple(
        ArrayImage(
            f"{index} of {name}'s {split} in {root}",
            as_picture(data[index], layout),
        )
        for index in range(len(labels))
    )
    keys = tuple(f"{split}/{index}" for index in range(len(labels)))
    return ImageList(root, keys, sources, np.array(labels, dtype=np.int64))


def _of_files(paths: Sequence[Path], labels: Sequence[int], name: str, root: Path) -> ImageList:
    for path in paths:
        if not path.is_relative_to(root) or ".." in path.relative_to(root).parts:
            raise InputError(
                f"{name} in dataset.root={root} names {str(path)!r}, which leads out of it; fetch it anew."
            )
    return make_image_list(root, paths, labels)
