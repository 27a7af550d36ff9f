"""From the names of classes to the indices of a classifier's outputs."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from pixelrobust.errors import InputError

ClassNames = tuple[tuple[str, ...], ...]
"""For each output of a classifier, the names that its class goes by."""

_WNID = re.compile(r"n\d{8}")


@functools.cache
def imagenet_wnids() -> dict[str, int]:
    """WordNet ids of ImageNet-1k's classes, such as n01440764, to output indices 0..999."""
    from timm.data import ImageNetInfo

    return {wnid: index for index, wnid in enumerate(ImageNetInfo("imagenet-1k").label_names())}


@functools.cache
def imagenet_class_names() -> ClassNames:
    """The English names and synonyms of ImageNet-1k's classes."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return tuple(
        tuple(name.strip() for name in info.index_to_description(index).split(","))
        for index in range(len(imagenet_wnids()))
    )


def is_wnid(name: str) -> bool:
    return _WNID.fullmatch(name) is not None


def read_class_names(path: Path) -> ClassNames:
    """A text file with one class name a line, in the order of the classifier's outputs."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"dataset.classes={path} cannot be read ({error}); give a text file with one name a line."
        ) from error
    return tuple((line.strip(),) for line in lines if line.strip())


def class_indices(names: Sequence[str], class_names: ClassNames | None) -> dict[str, int]:
    """The output index of each class folder.

    With class names given (a classes.txt) those alone count. Else WordNet ids and English names
    mean ImageNet's indices.

    Raises:
        InputError: a name is unknown, or fits several classes.
    """
    if class_names is not None:
        return _lookup(names, _known_names(class_names), "the names in dataset.classes")
    if all(is_wnid(name) for name in names):
        return _lookup(names, imagenet_wnids(), "ImageNet-1k's WordNet ids")
    return _lookup(names, _known_names(imagenet_class_names()), "ImageNet-1k's class names")


def _lookup(names: Sequence[str], known: dict[str, int], source: str) -> dict[str, int]:
    found = {name: known.get(_normalised(name)) for name in names}
    unknown = [name for name, index in found.items() if index is None]
    if unknown:
        raise InputError(
            f"class folder {unknown[0]!r} is not among {source} ({len(unknown)} of {len(names)} "
            "folders are not); rename it, remove it, or give dataset.classes, a text file with one "
            "class name a line in the order of the classifiers' outputs."
        )
    return {name: index for name, index in found.items() if index is not None}


def _known_names(class_names: ClassNames) -> dict[str, int]:
    """Names that belong to exactly one class (ImageNet has two cranes)."""
    indices: dict[str, set[int]] = {}
    for index, names in enumerate(class_names):
        for name in names:
            indices.setdefault(_normalised(name), set()).add(index)
    return {name: found.pop() for name, found in indices.items() if len(found) == 1}


def _normalised(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
