"""Image sets: from a config to labelled images, and from these to uint8 arrays."""

from pathlib import Path

from pixelrobust.datasets.folders import (
    read_class_folders,
    read_foolbox_samples,
    read_imagenet,
    read_imagenette,
)
from pixelrobust.datasets.lists import ImageList, sample
from pixelrobust.datasets.readers import read_csv, read_torchvision
from pixelrobust.settings import DatasetSettings


def list_images(settings: DatasetSettings, cache: Path, seed: int) -> ImageList:
    """List the images that a dataset config stands for, at most `candidates` of them.

    Args:
        settings: the `dataset` group.
        cache: folder for what is downloaded.
        seed: decides which images a `candidates` limit keeps.

    Raises:
        InputError: the images cannot be found or labelled.
    """
    other = settings.train_file if settings.has_own_classes else None
    match settings.kind:
        case "foolbox":
            images = read_foolbox_samples()
        case "imagenet":
            images = read_imagenet(settings.root, settings.labels)
        case "imagenette":
            images = read_imagenette(settings.root, cache)
        case "imagefolder":
            images = read_class_folders(settings.root, settings.classes, other=settings.train_root)
        case "csv":
            images = _read_csv(settings, settings.file, settings.root, "dataset.file", other)
        case "torchvision":
            images = _read_torchvision(settings, settings.split, cache, "dataset.split")
    return images.take(sample(images.keys, settings.candidates, seed))


def list_training_images(settings: DatasetSettings, cache: Path, seed: int) -> ImageList | None:
    """List the images of the training split; None where the data set has none.

    Args:
        settings: the `dataset` group; `train_root`, `train_file` or `train_split` names the split, but
            for Imagenette.
        cache: folder for what is downloaded.
        seed: decides which images a `candidates` limit keeps.

    Raises:
        InputError: the images cannot be found or labelled.
    """
    if settings.kind == "imagenette":
        images = read_imagenette(settings.root, cache, "train")
    elif settings.train_file is not None:
        root = settings.train_root or settings.root
        other = settings.file if settings.has_own_classes else None
        images = _read_csv(settings, settings.train_file, root, "dataset.train_file", other)
    elif settings.train_split is not None:
        images = _read_torchvision(settings, settings.train_split, cache, "dataset.train_split")
    elif settings.train_root is None or settings.kind == "csv":
        return None
    else:
        # Other data sets have ImageNet's classes, whatever `classes` says.
        classes = settings.classes if settings.kind == "imagefolder" else None
        key = "dataset.train_root"
        images = read_class_folders(settings.train_root, classes, key, settings.root)
    return images.take(sample(images.keys, settings.candidates, seed))


def _read_csv(
    settings: DatasetSettings, file: Path | None, root: Path | None, key: str, other: Path | None
) -> ImageList:
    columns = settings.image_column, settings.label_column
    return read_csv(file, root, settings.classes, columns, key, other)


def _read_torchvision(
    settings: DatasetSettings, split: str | None, cache: Path, key: str
) -> ImageList:
    name, root, download = settings.name, settings.root, settings.download
    return read_torchvision(name, root, split, download, cache, settings.classes, key)


__all__ = ["ImageList", "list_images", "list_training_images"]
