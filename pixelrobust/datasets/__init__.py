"""Image sets: from a config to labelled images, and from these to uint8 arrays."""

from pathlib import Path

from pixelrobust.datasets.folders import (
    read_class_folders,
    read_foolbox_samples,
    read_imagenet,
    read_imagenette,
)
from pixelrobust.datasets.lists import ImageList, sample
from pixelrobust.datasets.readers import read_cifar_c, read_csv, read_torchvision
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
            images = read_csv(settings)
        case "torchvision":
            images = read_torchvision(settings, cache)
        case "cifar_c":
            images = read_cifar_c(settings)
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
        images = read_csv(settings, training=True)
    elif settings.train_split is not None:
        images = read_torchvision(settings, cache, training=True)
    elif settings.train_root is None or settings.kind == "csv":
        return None
    else:
        # Other data sets have ImageNet's classes, whatever `classes` says.
        classes = settings.classes if settings.kind == "imagefolder" else None
        key = "dataset.train_root"
        images = read_class_folders(settings.train_root, classes, key, settings.root)
    return images.take(sample(images.keys, settings.candidates, seed))


__all__ = ["ImageList", "list_images", "list_training_images"]
