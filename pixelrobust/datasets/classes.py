"""Classes of images: what they are called, and which output of a classifier stands for each."""

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from pixelrobust.errors import InputError
from pixelrobust.settings import OWN_CLASSES

ClassNames = tuple[tuple[str, ...], ...]
"""For each output of a classifier, the names that its class goes by."""

_PLURALS = {"class folder": "folders", "class": "classes"}
_GIVE_CLASSES = (
    "give dataset.classes, a text file with one class name a line in the order of the classifiers' "
    "outputs."
)
_NUMBER = re.compile(r"-?[0-9]+")
# No network may have more outputs.
_LARGEST_LABEL = 99_999


@functools.cache
def imagenet_wnids() -> dict[str, int]:
    """Return ImageNet-1k's WordNet ids, such as n01440764, with their output indices 0..999."""
    from timm.data import ImageNetInfo

    return {wnid: index for index, wnid in enumerate(ImageNetInfo("imagenet-1k").label_names())}


@functools.cache
def imagenet_class_names() -> ClassNames:
    """Return the English names and synonyms of ImageNet-1k's classes."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return tuple(
        tuple(name.strip() for name in info.index_to_description(index).split(","))
        for index in range(len(imagenet_wnids()))
    )


def read_class_names(path: Path, key: str = "dataset.classes") -> ClassNames:
    """Read a text file with one class name a line, in the order of the classifier's outputs.

    Args:
        path: the file.
        key: of the config, that gave it.

    Raises:
        InputError: the file cannot be read.
    """
    lines = read_lines(path, key, "a text file with one name a line")
    return tuple((line.strip(),) for line in lines if line.strip())


def read_lines(path: Path, key: str, form: str) -> list[str]:
    """Read the lines of a text file; InputError, which names the key and the form, where it cannot be."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{key}={path} cannot be read ({error}); give {form}.") from error


def class_indices(
    names: Sequence[str], class_names: ClassNames | None, what: str = "class folder"
) -> dict[str, int]:
    """Find the output index of each class.

    Args:
        names: of the classes.
        class_names: of the outputs; None: WordNet ids and English names mean ImageNet's indices.
        what: sentences call a name: a class folder, or a class.

    Raises:
        InputError: a name is unknown, or fits several classes.
    """
    if class_names is not None:
        known, source = known_names(class_names), "the names in dataset.classes"
    else:
        known, source = known_names(imagenet_class_names()), "ImageNet-1k's classes"
        known |= {wnid: {index} for wnid, index in imagenet_wnids().items()}
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
    """Return the indices of each name; several where classes share it (ImageNet has two cranes)."""
    indices: dict[str, set[int]] = {}
    for index, names in enumerate(class_names):
        for name in names:
            indices.setdefault(normalised_name(name), set()).add(index)
    return indices


def normalised_name(name: str) -> str:
    """Return a class name without what tells no names apart: case, hyphens, underscores, kinds of space."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def numbered_labels(
    labels: Sequence[int],
    names: Sequence[str],
    classes: Path | str | None,
    place: Callable[[int], str],
) -> tuple[list[int], ClassNames | None]:
    """Find the outputs that labels mean in a data set that numbers and names its classes.

    Args:
        labels: N numbers of classes.
        names: of the K classes, in the order of their numbers.
        classes: a text file with one class name a line in the order of the classifiers' outputs, or
            "imagenet": a class's output is found by its name; None: its number is its output's;
            "own": so it is, but of a network that is made for these classes.
        place: names the label at a position, for sentences.

    Returns:
        N indices of outputs, and, where they are the data set's own numbers, the classes' names.

    Raises:
        InputError: a number is out of range, or a name is unknown.
    """
    for position, label in enumerate(labels):
        if not 0 <= label < len(names):
            raise InputError(
                f"{place(position)} has label {label}, but there are {len(names)} classes; give a "
                "split in which every image has a label, and whole numbers from 0 on."
            )
    if classes is None or classes in OWN_CLASSES:
        return list(labels), tuple((name,) for name in names)
    known = read_class_names(classes) if isinstance(classes, Path) else None
    indices = class_indices(sorted({names[label] for label in labels}), known, "class")
    return [indices[names[label]] for label in labels], None


def free_labels(
    labels: Sequence[str],
    classes: Path | str | None,
    place: Callable[[int], str],
    other: Sequence[str] = (),
    what: str = "class",
) -> list[int]:
    """Find the outputs that labels mean in a data set that does not say which classes there are.

    Whole numbers are indices of outputs, unless `classes` has a name that is a number: then all are
    names.

    Args:
        labels: N numbers or names of classes.
        classes: a text file with one class name a line in the order of the classifiers' outputs;
            "own": the names, sorted; "imagenet" or None: WordNet ids or English names of ImageNet's
            classes.
        place: names the label at a position, for sentences.
        other: labels of the other split, which count too where the names are the classes.
        what: sentences call a name, as in `class_indices`.

    Returns:
        N indices of outputs.

    Raises:
        InputError: a number is out of range, or a name is unknown.
    """
    known = read_class_names(classes) if isinstance(classes, Path) else None
    called_by_number = any(are_numbers([name]) for names in known or () for name in names)
    if not called_by_number and are_numbers([*labels, *other]):
        largest = len(known) - 1 if known else _LARGEST_LABEL
        for position, label in enumerate(labels):
            if not 0 <= int(label) <= largest:
                names = f", but dataset.classes has {len(known)} names" if known else ""
                raise InputError(
                    f"{place(position)} has label {label}{names}; give the index of an output, 0 to "
                    f"{largest}, or the name of a class."
                )
        return [int(label) for label in labels]
    if classes in OWN_CLASSES:
        known = tuple((name,) for name in sorted({*labels, *other}))
    indices = class_indices(sorted(set(labels)), known, what)
    return [indices[label] for label in labels]


def are_numbers(labels: Sequence[str]) -> bool:
    """Tell whether all labels are whole numbers."""
    return all(map(_NUMBER.fullmatch, labels))
