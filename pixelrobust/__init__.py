"""How easily is an image classifier broken by changing a few random pixels?

Whatever needs torch or pandas is imported on first use, so that the command line can answer `--help`
at once.
"""

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pixelrobust.errors import InputError, printable
from pixelrobust.perturbation.grid import pixel_index

if TYPE_CHECKING:
    from torch import nn

    from pixelrobust.datasets.collecting import collect
    from pixelrobust.datasets.decoded import ImageSet
    from pixelrobust.datasets.lists import ImageList
    from pixelrobust.evaluation.cells import evaluate
    from pixelrobust.outcomes.rows import concatenate, correct_before, read_outcomes
    from pixelrobust.perturbation.pixels import PixelChange
    from pixelrobust.perturbation.transforms import RandomPixelChange
    from pixelrobust.tables.rates import summarize

__all__ = [
    "InputError",
    "PixelChange",
    "RandomPixelChange",
    "collect",
    "concatenate",
    "correct_before",
    "evaluate",
    "load_bundled_images",
    "load_folder",
    "load_network",
    "pixel_index",
    "read_outcomes",
    "summarize",
]

_LAZY = {
    "PixelChange": "perturbation.pixels",
    "RandomPixelChange": "perturbation.transforms",
    "collect": "datasets.collecting",
    "concatenate": "outcomes.rows",
    "correct_before": "outcomes.rows",
    "evaluate": "evaluation.cells",
    "read_outcomes": "outcomes.rows",
    "summarize": "tables.rates",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def load_folder(
    folder: str | Path,
    classes: str | Path | None = None,
    *,
    resize: int = 256,
    crop: int = 224,
    skip_unreadable: bool = False,
    cache: Path | None = None,
) -> "ImageSet":
    """Decode and label the images of a folder `folder/<class>/…/<image>`.

    Args:
        folder: of class folders.
        classes: a text file with one class name a line, in the order of the network's outputs;
            "folders" or "own": the folders' own names, sorted; "imagenet" or None: folder names are
            WordNet ids or English names of ImageNet's classes.
        resize: of the short side, in pixels (bilinear).
        crop: side of the centre crop, in pixels.
        skip_unreadable: leave files out that cannot be read, rather than stop.
        cache: where decoded images are kept; None: the user's cache folder, or what
            PIXELROBUST_CACHE says.

    Returns:
        Pixels, keys and labels, ready for `evaluate`. Warnings count and name files that are left out,
        for their place or ending, or since they cannot be read; `left_out` and `unreadable` have all.

    Raises:
        InputError: there are no such images, a class is unknown, or a file cannot be read.
    """
    from pixelrobust.datasets.folders import read_class_folders
    from pixelrobust.settings import CLASSES

    named = classes if classes is None or classes in CLASSES else Path(classes)
    images = read_class_folders(Path(folder), named, "folder")
    return _decoded(images, resize, crop, skip_unreadable, cache)


def load_bundled_images(
    *, resize: int = 256, crop: int = 224, cache: Path | None = None
) -> "ImageSet":
    """Decode the 20 real ImageNet images that the foolbox package carries.

    Args:
        resize, crop, cache: as in `load_folder`.

    Raises:
        InputError: the package is not installed.
    """
    from pixelrobust.datasets.folders import read_foolbox_samples

    return _decoded(read_foolbox_samples(), resize, crop, False, cache)


def _decoded(
    images: "ImageList", resize: int, crop: int, skip_unreadable: bool, cache: Path | None
) -> "ImageSet":
    from pixelrobust.datasets.decoded import load_images
    from pixelrobust.files import user_cache
    from pixelrobust.settings import preprocessing_settings

    settings = preprocessing_settings(resize=resize, crop=crop, interpolation="bilinear")
    decoded = load_images(
        images, settings, cache or user_cache(), lambda done: None, skip_unreadable=skip_unreadable
    )
    for sentence in (images.what_is_left_out, decoded.what_is_unreadable):
        if sentence:
            warnings.warn(printable(sentence), stacklevel=3)
    return decoded


def load_network(
    name: str,
    weights: str | Path = "pretrained",
    *,
    source: Literal["timm", "torchvision"] = "timm",
    match: Literal["names", "order", "caffe"] = "names",
    classes: int = 1000,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> "nn.Module":
    """Build a network of timm or torchvision with its weights, normalisation in front.

    Args:
        name: in its library.
        weights: timm: "pretrained"; torchvision: a set of published weights, such as
            "IMAGENET1K_V1"; either: a .safetensors, .pth, .pth.tar or .ckpt file, or
            "package:<module>/<file>", which an installed package carries. Pickles that hold code are
            refused. Where a file holds the network more than once, a warning says which is taken.
        source: the library.
        match: how the tensors of a file find their layers, see `configs/model/base.yaml`.
        classes: number of outputs, K.
        mean, std: of the training images, by channel, in [0, 1]; None: what the library says of the
            weights. They are needed for a file that is not published where the library has several.

    Returns:
        (B, 3, H, W) float in [0, 1] -> (B, K) logits; in eval mode.

    Raises:
        InputError: there is no such network, or its weights cannot be had or do not fit.
    """
    from pixelrobust.models.build import load_classifier
    from pixelrobust.settings import model_settings

    settings = model_settings(
        source=source,
        name=name,
        weights=str(weights),
        match=match,
        classes=classes,
        mean=mean,
        std=std,
    )
    classifier = load_classifier(name, settings)
    for note in classifier.notes:
        warnings.warn(note, stacklevel=2)
    return classifier.module
