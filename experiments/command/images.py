"""What `--images` and `--classes` say, as overrides of the configuration."""

from collections.abc import Callable
from pathlib import Path

from experiments.command.overrides import quoted
from pixelrobust.errors import InputError

DATA_SETS = ("bundled", "imagenette")
"""Those that need no folder."""

_FOLDERS = "folders"


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
        f"--images={images} is not a folder; give one of class folders, or one of "
        f"{', '.join(DATA_SETS)}."
    )


def outputs_of(classes: str | None) -> int | None:
    """How many outputs a network for these classes has; None where they do not say."""
    if classes is None or classes == _FOLDERS:
        return None
    # Imported late, like all that takes its time: help and completion answer at once.
    from pixelrobust.datasets.class_names import read_class_names

    return len(read_class_names(Path(classes).expanduser()))


def _data_set(images: str) -> list[str] | None:
    return [f"dataset={images}"] if images in DATA_SETS else None


def _folder(images: str) -> list[str] | None:
    folder = Path(images).expanduser().absolute()
    return ["dataset=imagefolder", f"dataset.root={quoted(folder)}"] if folder.is_dir() else None


def _class_overrides(classes: str | None) -> list[str]:
    if classes is None:
        return []
    given = classes if classes == _FOLDERS else quoted(Path(classes).expanduser().absolute())
    return [f"dataset.classes={given}"]


_KINDS: tuple[Callable[[str], list[str] | None], ...] = (_data_set, _folder)
"""What a text can stand for; each gives None for texts of another kind, the first that does not wins."""
