"""From the names of classes to the indices of a classifier's outputs."""

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from pixelrobust.errors import InputError

ClassNames = tuple[tuple[str, ...], ...]
"""For each output of a classifier, the names that its class goes by."""

_PLURALS = {"class folder": "folders", "class": "classes"}
_GIVE_CLASSES = (
    "give dataset.classes, a text file with one class name a line in the order of the classifiers' "
    "outputs."
)


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


def read_class_names(path: Path, key: str = "dataset.classes") -> ClassNames:
    """A text file with one class name a line, in the order of the classifier's outputs.

    The key, of the config, gave it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{key}={path} cannot be read ({error}); give a text file with one name a line."
        ) from error
    return tuple((line.strip(),) for line in lines if line.strip())


def class_indices(
    names: Sequence[str], class_names: ClassNames | None, what: str = "class folder"
) -> dict[str, int]:
    """The output index of each class.

    With class names given (a classes.txt) those alone count. Else WordNet ids and English names
    mean ImageNet's indices. Sentences call a name `what`: a class folder, or a class.

    Raises:
        InputError: a name is unknown, or fits several classes.
    """
    if class_names is not None:
        return _lookup(names, known_names(class_names), "the names in dataset.classes", what)
    known = known_names(imagenet_class_names())
    known |= {wnid: {index} for wnid, index in imagenet_wnids().items()}
    return _lookup(names, known, "ImageNet-1k's classes", what)


def _lookup(
    names: Sequence[str], known: Mapping[str, set[int]], source: str, what: str
) -> dict[str, int]:
    found = {name: known.get(normalised_name(name), set()) for name in names}
    unknown = [name for name, indices in found.items() if not indices]
    if unknown:
        raise InputError(
            f"{what} {unknown[0]!r} is not among {source} ({len(unknown)} of {len(names)} "
            f"{_PLURALS[what]} are not); rename it, remove it, or {_GIVE_CLASSES}"
        )
    for name, indices in found.items():
        if len(indices) > 1:
            raise InputError(
                f"{what} {name!r} fits {len(indices)} of {source}; name {_PLURALS[what]} by WordNet id "
                f"(such as n01440764), or {_GIVE_CLASSES}"
            )
    return {name: min(indices) for name, indices in found.items()}


def known_names(class_names: ClassNames) -> dict[str, set[int]]:
    """The indices of each name; several where classes share it (ImageNet has two cranes)."""
    indices: dict[str, set[int]] = {}
    for index, names in enumerate(class_names):
        for name in names:
            indices.setdefault(normalised_name(name), set()).add(index)
    return indices


def normalised_name(name: str) -> str:
    """A class name without what does not tell names apart: case, hyphens, underscores, kinds of space."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()
