"""Image sets: from a config to labelled images, and from these to uint8 arrays."""

from pathlib import Path

from pixelrobust.datasets.csv_file import read_csv
from pixelrobust.datasets.folder import read_class_folders
from pixelrobust.datasets.foolbox_samples import read_foolbox_samples
from pixelrobust.datasets.image_list import ImageList, sample
from pixelrobust.datasets.imagenet import read_imagenet
from pixelrobust.datasets.imagenette import read_imagenette
from pixelrobust.datasets.torchvision_sets import read_torchvision
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
    given = settings
    columns = given.image_column, given.label_column
    other = given.train_file if given.has_own_classes else None
    match given.kind:
        case "foolbox":
            images = read_foolbox_samples()
        case "imagenet":
            images = read_imagenet(given.root, given.labels)
        case "imagenette":
            images = read_imagenette(given.root, cache)
        case "imagefolder":
            images = read_class_folders(given.root, given.classes, other=given.train_root)
        case "csv":
            images = read_csv(given.file, given.root, given.classes, columns, other=other)
        case "torchvision":
            images = read_torchvision(
                given.name, given.root, given.split, given.download, cache, given.classes
            )
    return images.take(sample(images.keys, settings.candidates, seed))


def list_training_images(settings: DatasetSettings, cache: Path, seed: int) -> ImageList | None:
    """The images of the training split; None where the data set has none.

    Args:
        settings: the `dataset` group; `train_root`, `train_file` or `train_split` names the split, but
            for Imagenette.
        cache: folder for what is downloaded.
        seed: decides which images a `candidates` limit keeps.

    Raises:
        InputError: the images cannot be found or labelled.
    """
    given = settings
    if settings.kind == "imagenette":
        images = read_imagenette(settings.root, cache, "train")
    elif given.train_file is not None:
        other = given.file if given.has_own_classes else None
        root, columns = given.train_root or given.root, (given.image_column, given.label_column)
        key = "dataset.train_file"
        images = read_csv(given.train_file, root, given.classes, columns, key, other)
    elif given.train_split is not None:
        key = "dataset.train_split"
        images = read_torchvision(
            given.name, given.root, given.train_split, given.download, cache, given.classes, key
        )
    elif settings.train_root is None or settings.kind == "csv":
        return None
    else:
        # Other data sets have ImageNet's classes, whatever `classes` says.
        classes = settings.classes if settings.kind == "imagefolder" else None
        key = "dataset.train_root"
        images = read_class_folders(settings.train_root, classes, key, settings.root)
    return images.take(sample(images.keys, settings.candidates, seed))


__all__ = ["ImageList", "list_images", "list_training_images"]
