"""Imagenette: ten easy ImageNet classes, downloaded by torchvision."""

from pathlib import Path

from pixelrobust.datasets.folder import read_class_folders
from pixelrobust.datasets.image_list import ImageList
from pixelrobust.errors import InputError

_FOLDER = "imagenette2"


def read_imagenette(root: Path | None, cache: Path, split: str = "val") -> ImageList:
    """Imagenette's images, labelled with ImageNet's indices by their WordNet ids.

    Args:
        root: a folder that holds, or will hold, `imagenette2`; None: below the cache folder.
        cache: the cache folder.
        split: val or train; a download brings both.

    Raises:
        InputError: the images are not there and cannot be downloaded.
    """
    root = root or cache / "imagenette"
    if not (root / _FOLDER / split).is_dir():
        _download(root)
    return read_class_folders(root / _FOLDER / split)


def _download(root: Path) -> None:
    from torchvision.datasets import Imagenette

    try:
        root.mkdir(parents=True, exist_ok=True)
        Imagenette(root, split="val", size="full", download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"Imagenette could not be downloaded ({error}); connect to the network, or unpack "
            f"imagenette2.tgz by hand and give dataset.root, the folder that holds {_FOLDER}."
        ) from error
