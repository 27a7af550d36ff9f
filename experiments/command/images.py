"""What `--images` and `--classes` say, as overrides of the configuration."""

from collections.abc import Callable
from pathlib import Path

from experiments.command.overrides import quoted
from pixelrobust.errors import InputError

DATA_SETS = ("bundled", "imagenette")
"""Those that need no folder."""

_FILES = {".csv": "csv", ".npz": "npz", ".tar": "webdataset"}
# What Hugging Face's library puts beside a data set.
_SAVED = ("dataset_dict.json", "dataset_info.json")

_WORDS = ("folders", "own", "imagenet")
"""What `--classes` says instead of a file."""


def image_overrides(images: str, classes: str | None) -> list[str]:
    """The overrides that name the images.

    Args:
        images: as given to `--images`.
        classes: as given to `--classes`.

    Raises:
        InputError: there are no such images.
    """
    for kind in _KINDS:
        found = kind(images)
        if found is not None:
            return found + _class_overrides(classes)
    raise InputError(
        f"--images={images} is not there; give a folder of class folders, or that Hugging Face's library "
        f"saved, a .csv, .npz or .tar file, or one of {', '.join(DATA_SETS)}."
    )


def outputs_of(classes: str | None) -> int | None:
    """How many outputs a network for these classes has; None where they do not say."""
    if classes is None or classes in _WORDS:
        return None
    # Imported late, like all that takes its time: help and completion answer at once.
    from pixelrobust.datasets.classes import read_class_names

    return len(read_class_names(Path(classes).expanduser()))


def _data_set(images: str) -> list[str] | None:
    return [f"dataset={images}"] if images in DATA_SETS else None


def _file(images: str) -> list[str] | None:
    """A file; a pattern of shards too."""
    path = Path(images).expanduser().absolute()
    kind = _FILES.get(path.suffix)
    is_there = path.is_file() or (kind == "webdataset" and path.parent.is_dir())
    return [f"dataset={kind}", f"dataset.file={quoted(path)}"] if kind and is_there else None


def _saved(images: str) -> list[str] | None:
    folder = Path(images).expanduser().absolute()
    if not any((folder / name).is_file() for name in _SAVED):
        return None
    return ["dataset=huggingface", f"dataset.root={quoted(folder)}"]


def _folder(images: str) -> list[str] | None:
    folder = Path(images).expanduser().absolute()
    return ["dataset=imagefolder", f"dataset.root={quoted(folder)}"] if folder.is_dir() else None


def _class_overrides(classes: str | None) -> list[str]:
    if classes is None:
        return []
    given = classes if classes in _WORDS else quoted(Path(classes).expanduser().absolute())
    return [f"dataset.classes={given}"]


_KINDS: tuple[Callable[[str], list[str] | None], ...] = (
    _data_set,
    _file,
    _saved,
    _folder,
)
"""What a text can stand for; each gives None for texts of another kind, the first that does not wins."""
