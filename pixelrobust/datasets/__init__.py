"""Image sets: from a config to labelled image files, and from files to uint8 arrays."""

from pathlib import Path

from pixelrobust.datasets.folder import read_class_folders
from pixelrobust.datasets.foolbox_samples import read_foolbox_samples
from pixelrobust.datasets.image_list import ImageList, sample
from pixelrobust.datasets.imagenet import read_imagenet
from pixelrobust.datasets.imagenette import read_imagenette
from pixelrobust.settings import DatasetSettings


def list_images(settings: DatasetSettings, cache: Path, seed: int) -> ImageList:
    """The images that a dataset config stands for, at most `candidates` of them.

    Args:
        settings: the `dataset` group.
        cache: folder for what is downloaded.
        seed: decides which images a `candidates` limit keeps.

    Raises:
        InputError: the images cannot be found or labelled.
    """
    if settings.kind == "foolbox":
        images = read_foolbox_samples()
    elif settings.kind == "imagenet":
        images = read_imagenet(settings.root, settings.labels)
    elif settings.kind == "imagenette":
        images = read_imagenette(settings.root, cache)
    else:
        images = read_class_folders(settings.root, settings.classes, other=settings.train_root)
    return images.take(sample(images.keys, settings.candidates, seed))


def list_training_images(settings: DatasetSettings, cache: Path, seed: int) -> ImageList | None:
    """The images of the training split; None where the data set has none.

    Args:
        settings: the `dataset` group; `train_root` names the split, but for Imagenette.
        cache: folder for what is downloaded.
        seed: decides which images a `candidates` limit keeps.

    Raises:
        InputError: the images cannot be found or labelled.
    """
    if settings.kind == "imagenette":
        images = read_imagenette(settings.root, cache, "train")
    elif settings.train_root is None:
        return None
    else:
        # Other data sets have ImageNet's classes, whatever `classes` says.
        classes = settings.classes if settings.kind == "imagefolder" else None
        key = "dataset.train_root"
        images = read_class_folders(settings.train_root, classes, key, settings.root)
    return images.take(sample(images.keys, settings.candidates, seed))


__all__ = ["ImageList", "list_images", "list_training_images"]
