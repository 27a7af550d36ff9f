"""Images that a CSV file names, data sets of torchvision by name, and those of CIFAR-10-C's layout."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.datasets.classes import free_labels, numbered_labels
from pixelrobust.datasets.lists import (
    ArrayImage,
    ImageList,
    as_labels,
    check_folder,
    make_image_list,
)
from pixelrobust.errors import InputError, first_line
from pixelrobust.settings import DatasetSettings

# Of each corruption, in the order in which a file holds them.
_SEVERITIES = 5
_CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_CIFAR100_CLASSES = 100
_DRIVE = re.compile(r"[A-Za-z]:")


def read_csv(settings: DatasetSettings, training: bool = False) -> ImageList:
    """List the images that a CSV file names.

    Args:
        settings: `file` and `train_file` are UTF-8, separated by commas, with a header; paths in
            them are relative to a root, or else to the file's own folder.
        training: list the images of the training split.

    Raises:
        InputError: the file is missing or does not have this form, or a path leads out of root.
    """
    splits = [("dataset.file", settings.file), ("dataset.train_file", settings.train_file)]
    (key, file), (other_key, other) = reversed(splits) if training else splits
    if file is None:
        raise InputError(f"{key} is not set; give a file, for example {key}=/data/labels.csv.")
    rows = _read_rows(file, settings, key)
    root = (settings.train_root if training else None) or settings.root or file.parent
    root = check_folder(root, "dataset.root", "/data/images")
    others: list[str] = []
    if other is not None and settings.has_own_classes:
        others = _read_rows(other, settings, other_key)["label"].tolist()
    labels = free_labels(
        rows["label"].tolist(),
        settings.classes,
        lambda position: f"{key}={file}, line {rows.index[position]},",
        others,
    )
    return make_image_list(root, [root / path for path in rows["path"]], labels)


def _read_rows(file: Path, settings: DatasetSettings, key: str) -> pd.DataFrame:
    """Read the paths and labels of a file, indexed by its lines."""
    lines = _read_lines(file, key)
    place = f"{key}={file}"
    paths, labels = _positions([name.strip() for name in lines.iloc[0]], settings, place)
    rows = lines.iloc[1:]
    rows = rows[(rows != "").any(axis=1)]
    if rows.empty:
        raise InputError(f"{place} names no image; give one a line below the header.")
    found = pd.DataFrame({"path": rows[paths], "label": rows[labels].str.strip()})
    seen: dict[str, int] = {}
    for line, path, label in found.itertuples():
        _check_path(path, f"{place}, line {line}")
        if not label:
            raise InputError(
                f"{place}, line {line} has no label; give the name of a class, or an index."
            )
        name = unicodedata.normalize("NFC", PurePosixPath(path).as_posix())
        if seen.setdefault(name, line) != line:
            raise InputError(
                f"{place}, line {line}: {name!r} stands in line {seen[name]} already; keep one."
            )
    return found


def _read_lines(file: Path, key: str) -> pd.DataFrame:
    """Read every field as text, indexed by line from 1 on; lines of too many fields are refused."""
    try:
        # Opened here, so that pandas takes the name for no address and unpacks nothing.
        with file.open(encoding="utf-8-sig", newline="") as opened:
            lines = pd.read_csv(
                opened, header=None, dtype=str, keep_default_na=False, skip_blank_lines=False
            )
    # Pandas' errors of files that are no CSV, and those of Unicode, are ValueErrors.
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise InputError(
            f"{key}={file} cannot be read ({reason}); give a CSV file in UTF-8 with a header, and fields "
            "that hold commas in quotes."
        ) from error
    lines.index += 1
    return lines.fillna("")


def _positions(header: list[str], settings: DatasetSettings, place: str) -> tuple[int, int]:
    """Find the columns of paths and of labels."""
    found = []
    for wanted, option in (
        (settings.image_column or "path", "dataset.image_column"),
        (settings.label_column or "label", "dataset.label_column"),
    ):
        if header.count(wanted) != 1:
            fault = "lacks the column" if wanted not in header else "has more than one column"
            raise InputError(
                f"{place} {fault} {wanted!r} (its first line is {','.join(header)!r}); begin it with a "
                f"header such as path,label, or give {option}."
            )
        found.append(header.index(wanted))
    return found[0], found[1]


def _check_path(text: str, place: str) -> None:
    """Raise InputError unless a path stays below the root."""
    path = PurePosixPath(text)
    if "\\" in text:
        raise InputError(f"{place}: the path {text!r} has backslashes; write slashes.")
    if "\0" in text or not path.parts:
        raise InputError(f"{place}: {text!r} is not a path; give that of an image.")
    if path.is_absolute() or ".." in path.parts or _DRIVE.match(text):
        raise InputError(
            f"{place}: the path {text!r} leads out of the folder that paths are relative to; write it "
            "relative to dataset.root (null: the file's own folder), without '..'."
        )


@dataclass(frozen=True)
class _TorchvisionSet:
    """Says how one of torchvision's classes is asked, and where it has what it read.

    Attributes:
        splits: of which all images have labels.
        files: the attribute with the images' files; None: they are an array, `data`.
        labels: the attribute with their labels.
        channels: whether the array has them last, (N, H, W, 3) or (N, H, W), or first.
        classes: the classes' names, where torchvision does not give them.
    """

    splits: tuple[str, ...]
    files: str | None = None
    labels: str = "targets"
    channels: Literal["first", "last"] = "last"
    classes: tuple[str, ...] | None = None

    @property
    def is_flag(self) -> bool:
        """Tell whether it takes `train=True` or `False` instead of a split's name."""
        return self.files is None and self.labels == "targets"


_DIGITS = tuple(map(str, range(10)))
_HALVES = ("train", "test")
_THIRDS = ("train", "val", "test")

# torchvision unpickles files of some, CIFAR's; it compares their MD5 with its own list before, whenever
# they are read. Before another one is added here, see that it does.
TORCHVISION_SETS = {
    "CIFAR10": _TorchvisionSet(_HALVES),
    "CIFAR100": _TorchvisionSet(_HALVES),
    "DTD": _TorchvisionSet(_THIRDS, "_image_files", "_labels"),
    "FashionMNIST": _TorchvisionSet(_HALVES),
    "Flowers102": _TorchvisionSet(_THIRDS, "_image_files", "_labels"),
    "Food101": _TorchvisionSet(_HALVES, "_image_files", "_labels"),
    "KMNIST": _TorchvisionSet(_HALVES),
    "MNIST": _TorchvisionSet(_HALVES),
    "OxfordIIITPet": _TorchvisionSet(("trainval", "test"), "_images", "_labels"),
    "STL10": _TorchvisionSet(_HALVES, labels="labels", channels="first"),
    "SVHN": _TorchvisionSet((*_HALVES, "extra"), None, "labels", "first", _DIGITS),
}
"""Data sets that are taken, by torchvision's names for them."""


def read_torchvision(settings: DatasetSettings, cache: Path, training: bool = False) -> ImageList:
    """List the images of a split of one of `TORCHVISION_SETS`.

    Args:
        settings: `root` is the folder that torchvision is, or was, given; None: below the cache folder.
        cache: the cache folder.
        training: list the images of the training split.

    Raises:
        InputError: the name or split is unknown, or the files are absent or not the published ones.
    """
    name = settings.name
    key, split = ("train_split", settings.train_split) if training else ("split", settings.split)
    if name not in TORCHVISION_SETS:
        fault = "dataset.name is not set" if name is None else f"dataset.name={name} is unknown"
        raise InputError(f"{fault}; give one of {', '.join(TORCHVISION_SETS)}.")
    kind = TORCHVISION_SETS[name]
    if split not in kind.splits:
        raise InputError(
            f"{name} has no dataset.{key}={split}; give one of {', '.join(kind.splits)}."
        )
    root = cache / "torchvision" if settings.root is None else settings.root
    read = _read_with_torchvision(name, kind, root, split, settings.download)
    labels = [int(label) for label in getattr(read, kind.labels)]
    if kind.files is None:
        data = np.asarray(read.data)
        data = data.transpose(0, 2, 3, 1) if kind.channels == "first" else data
        images = _list_array(data, labels, name, root, split)
    else:
        images = _list_files([Path(path) for path in getattr(read, kind.files)], labels, name, root)
    found, own = numbered_labels(
        images.labels.tolist(),
        kind.classes or tuple(map(str, read.classes)),
        settings.classes,
        lambda position: f"{images.keys[position]} of {name}",
    )
    return replace(images, labels=np.array(found, dtype=np.int64), classes=own)


def read_cifar_c(settings: DatasetSettings) -> ImageList:
    """List the images of a corruption of CIFAR-10-C or CIFAR-100-C (Hendrycks & Dietterich 2019).

    Args:
        settings: `root` holds `<corruption>.npy`, uint8 (5 N, H, W, 3), N images in each of five
            severities, mildest first, and `labels.npy`, a label for each; 5 N is 50,000 in those that
            are published. Images are read when they are needed: the file is mapped into memory.

    Raises:
        InputError: a key or a file is missing, or a file does not have this form.
    """
    root = check_folder(settings.root, "dataset.root", "/data/CIFAR-10-C")
    corruption, severity = settings.corruption, settings.severity
    known = sorted(path.stem for path in root.glob("*.npy") if path.stem != "labels")
    if corruption not in known:
        fault = " is not set" if corruption is None else f"={corruption} is not in {root}"
        remedy = (
            f"give one of {', '.join(known)}" if known else f"{root} holds no .npy files at all"
        )
        raise InputError(f"dataset.corruption{fault}; {remedy}.")
    images = _map_array(root / f"{corruption}.npy")
    labels = as_labels(_map_array(root / "labels.npy"))
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[0] % _SEVERITIES:
        raise InputError(
            f"{root / corruption}.npy holds {images.dtype} of shape {shape}; give uint8 (5 N, H, W, 3), N "
            "images in each of five severities."
        )
    if len(labels) != len(images):
        raise InputError(
            f"{root / corruption}.npy holds {len(images)} images, but labels.npy {len(labels)} labels; "
            "give a label for each."
        )
    each = len(images) // _SEVERITIES
    first, last = (severity - 1, severity) if isinstance(severity, int) else (0, _SEVERITIES)
    rows = range(first * each, last * each)
    keys = [f"{corruption}/{row // each + 1}/{row % each}" for row in rows]
    sources = [
        ArrayImage(f"{key} in {root}", images[row]) for key, row in zip(keys, rows, strict=True)
    ]
    numbers = map(str, range(_CIFAR100_CLASSES))
    names = _CIFAR10 if labels.max(initial=0) < len(_CIFAR10) else tuple(numbers)
    found, own = numbered_labels(
        labels[rows.start : rows.stop].tolist(),
        names,
        settings.classes,
        lambda position: f"{keys[position]} in {root}",
    )
    own_labels = np.array(found, dtype=np.int64)
    return ImageList(root, tuple(keys), tuple(sources), own_labels, own)


def _map_array(file: Path) -> NDArray[Any]:
    """Map an array in a file into memory."""
    try:
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    # Files that are no arrays raise ValueError; those of no length EOFError.
    except (OSError, ValueError, EOFError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise InputError(
            f"{file} cannot be read ({reason}); give an array as NumPy saves it, without pickles."
        ) from error


def _read_with_torchvision(
    name: str, kind: _TorchvisionSet, root: Path, split: str, download: bool
) -> Any:
    # Imported late, since it brings torch, which other data sets are listed without.
    import torchvision

    chosen = {"train": split == "train"} if kind.is_flag else {"split": split}
    try:
        if download:
            root.mkdir(parents=True, exist_ok=True)
        return getattr(torchvision.datasets, name)(root, download=download, **chosen)
    # Files that are damaged, or somebody else's, raise nearly anything.
    except Exception as error:
        # torchvision goes on with what to do in Python.
        reason = first_line(error).partition(". You can use")[0].rstrip(".")
        if download:
            remedy = "connect to the network, or put the files there by hand"
        else:
            remedy = "give the folder that torchvision keeps it in, or dataset.download=true"
        raise InputError(
            f"{name} cannot be read from dataset.root={root} ({reason}); {remedy}."
        ) from error


def _list_array(
    data: NDArray[np.uint8], labels: Sequence[int], name: str, root: Path, split: str
) -> ImageList:
    if len(data) != len(labels):
        raise InputError(
            f"{name} in dataset.root={root} has {len(data)} images, but {len(labels)} labels; fetch it anew."
        )
    sources = tuple(
        ArrayImage(f"{index} of {name}'s {split} in {root}", values)
        for index, values in enumerate(data)
    )
    keys = tuple(f"{split}/{index}" for index in range(len(labels)))
    return ImageList(root, keys, sources, np.array(labels, dtype=np.int64))


def _list_files(paths: Sequence[Path], labels: Sequence[int], name: str, root: Path) -> ImageList:
    for path in paths:
        if not path.is_relative_to(root) or ".." in path.relative_to(root).parts:
            raise InputError(
                f"{name} in dataset.root={root} names {str(path)!r}, which leads out of it; fetch it anew."
            )
    return make_image_list(root, paths, labels)
