"""A data set that Hugging Face's library saved on disk (`save_to_disk`)."""

import functools
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pixelrobust.datasets.class_names import ClassNames
from pixelrobust.datasets.image_list import ImageList, check_folder
from pixelrobust.datasets.labels import Label, free_labels, numbered_labels
from pixelrobust.datasets.sources import EncodedImage, file_stamp
from pixelrobust.errors import InputError, first_line
from pixelrobust.packages import how_to_install, package_folder

_SPLITS, _STATE = "dataset_dict.json", "state.json"
_EXAMPLE = "/data/saved"


def read_huggingface(
    root: Path | None,
    split: str | None,
    classes: Path | str | None,
    columns: tuple[str | None, str | None] = (None, None),
    split_key: str = "dataset.split",
) -> ImageList:
    """The images of a saved data set, in its order; nothing is downloaded, and no script is run.

    Args:
        root: the folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.
        split: of a DatasetDict; None: it has only one.
        classes: see `pixelrobust.datasets.labels`.
        columns: of images and of labels; None: the only ones of features Image and ClassLabel.
        split_key: of the config, that gave the split.

    Raises:
        InputError: the library or the folder is missing, or it holds no such columns or split.
    """
    if package_folder("datasets") is None:
        raise InputError(
            "dataset.kind=huggingface needs the package datasets, which is not installed; "
            f"{how_to_install('huggingface')}."
        )
    root = check_folder(root, "dataset.root", _EXAMPLE)
    folder, prefix = _folder(root, split, split_key)
    if not (folder / _STATE).is_file():
        raise InputError(
            f"dataset.root={root} holds no saved data set ({folder / _STATE} is not there); give a folder "
            "that save_to_disk wrote."
        )
    try:
        _check_files(folder)
        saved = _load(folder)
        stamp: tuple[int | str, ...] = tuple(
            part for name in _files(folder) for part in file_stamp(folder / name)
        )
    except InputError:
        raise
    # The library raises nearly anything where files are damaged.
    except Exception as error:
        raise InputError(
            f"dataset.root={root} cannot be read as a saved data set ({first_line(error)}); give a "
            "folder that save_to_disk wrote."
        ) from error
    image, label = _columns(saved.features, columns, folder)
    labels, names = _labels(saved, label, classes, folder)
    rows, stamp = _Rows(saved, image), (*stamp, image)
    sources = tuple(
        EncodedImage(f"{index} of {folder}", stamp, index, functools.partial(rows.encoded, index))
        for index in range(len(labels))
    )
    keys = tuple(f"{prefix}{index}" for index in range(len(labels)))
    return ImageList(folder, keys, sources, np.array(labels, dtype=np.int64), names)


class _Rows:
    """Encoded images of a data set, one thread at a time."""

    def __init__(self, saved: Any, column: str) -> None:
        self._images = saved.select_columns([column])
        self._column = column
        self._lock = threading.Lock()

    def encoded(self, index: int) -> bytes:
        with self._lock:
            image = self._images[index][self._column]
        content = image["bytes"] if image else None
        if content is None:
            raise ValueError(
                "the data set holds no image here, or only the name of a file, which is not looked for"
            )
        return bytes(content)


def _folder(root: Path, split: str | None, key: str) -> tuple[Path, str]:
    """The folder of a split, and what the keys of its images begin with."""
    if not (root / _SPLITS).is_file():
        if split is not None:
            raise InputError(f"dataset.root={root} has no splits; leave out {key}={split}.")
        return root, ""
    try:
        splits = list(json.loads((root / _SPLITS).read_text(encoding="utf-8"))["splits"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"dataset.root={root}: {_SPLITS} cannot be read ({first_line(error)}); save it anew."
        ) from error
    chosen = splits[0] if split is None and len(splits) == 1 else split
    if not isinstance(chosen, str) or chosen not in splits or not _is_plain(chosen):
        raise InputError(
            f"dataset.root={root} has the splits {', '.join(map(str, splits))}; give one as {key}."
        )
    return root / chosen, f"{chosen}/"


def _is_plain(name: object) -> bool:
    """Whether it is the name of something in a folder, and leads nowhere else."""
    return isinstance(name, str) and Path(name).name == name and "\\" not in name


def _files(folder: Path) -> list[str]:
    state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    return [file["filename"] for file in state["_data_files"]]


def _check_files(folder: Path) -> None:
    for name in _files(folder):
        if not _is_plain(name):
            raise InputError(
                f"dataset.root={folder}: {_STATE} names {name!r}, which is no file of this folder; save "
                "the data set anew."
            )


def _load(folder: Path) -> Any:
    """The data set, its images encoded as they are."""
    # Read when the library is imported; loading from disk needs no network anyway.
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    import datasets

    saved = datasets.Dataset.load_from_disk(str(folder), keep_in_memory=False).with_format(None)
    for name, feature in saved.features.items():
        if isinstance(feature, datasets.Image):
            saved = saved.cast_column(name, datasets.Image(decode=False))
    return saved


def _columns(
    features: Any, columns: tuple[str | None, str | None], folder: Path
) -> tuple[str, str]:
    import datasets

    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [
        name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)
    ]
    plain = [name for name, feature in features.items() if isinstance(feature, datasets.Value)]
    image = _column(columns[0], images, images, "dataset.image_column", "Image", folder)
    label = _column(
        columns[1], labels, [*labels, *plain], "dataset.label_column", "ClassLabel", folder
    )
    return image, label


def _column(
    given: str | None,
    found: Sequence[str],
    possible: Sequence[str],
    key: str,
    feature: str,
    folder: Path,
) -> str:
    if given is None and len(found) == 1:
        return found[0]
    if given in possible:
        return str(given)
    fault = f"{key}={given} is no such column" if given else f"{len(found)} columns are {feature}"
    remedy = f"one of {', '.join(possible)}" if possible else "a data set that has one"
    raise InputError(f"dataset.root={folder}: {fault}; give {key}, {remedy}.")


def _labels(
    saved: Any, column: str, classes: Path | str | None, folder: Path
) -> tuple[list[int], ClassNames | None]:
    def place(position: int) -> str:
        return f"image {position} of {folder}"

    values: list[Label | None] = saved[column][:]
    for position, value in enumerate(values):
        if not isinstance(value, int | str) or isinstance(value, bool):
            raise InputError(
                f"{place(position)} has label {value!r} in column {column}; give a class's number or name "
                "for each."
            )
    known = [value for value in values if value is not None]
    names = getattr(saved.features[column], "names", None)
    if names is None:
        return free_labels(known, classes, place), None
    return numbered_labels([int(value) for value in known], names, classes, place)
