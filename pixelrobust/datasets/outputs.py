"""The classes that the labels of a data set count."""

from pathlib import Path

from pixelrobust.datasets.class_names import (
    ClassNames,
    imagenet_class_names,
    imagenet_wnids,
    read_class_names,
)
from pixelrobust.datasets.folder import folder_names
from pixelrobust.settings import DatasetSettings

_OF_IMAGENET = ("foolbox", "imagenet", "imagenette", "imagefolder")


def class_names_of(settings: DatasetSettings) -> ClassNames | None:
    """For each label of a data set the names of its class; None where they are not known.

    Raises:
        InputError: the file or folder that names them cannot be read.
    """
    if settings.has_own_classes:
        if settings.kind != "imagefolder":
            return None
        return tuple((name,) for name in folder_names(settings.root, settings.train_root))
    if settings.classes not in (None, "imagenet"):
        return read_class_names(Path(str(settings.classes)))
    if settings.classes is None and settings.kind not in _OF_IMAGENET:
        return None
    return tuple(
        (*names, wnid) for names, wnid in zip(imagenet_class_names(), imagenet_wnids(), strict=True)
    )
