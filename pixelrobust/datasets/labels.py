"""From what a data set says of its images to the indices of a classifier's outputs."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pixelrobust.datasets.class_names import ClassNames, class_indices, read_class_names
from pixelrobust.errors import InputError
from pixelrobust.settings import OWN_CLASSES

_NUMBER = re.compile(r"-?[0-9]+")
# As many as a network may have outputs.
_LARGEST = 99_999

Label = int | str
"""A class by its number or by its name."""


def numbered_labels(
    labels: Sequence[int],
    names: Sequence[str],
    classes: Path | str | None,
    place: Callable[[int], str],
) -> tuple[list[int], ClassNames | None]:
    """Labels of a data set that numbers and names its classes.

    Args:
        labels: N numbers of classes.
        names: of the K classes, in the order of their numbers.
        classes: a text file with one class name a line in the order of the classifiers' outputs, or
            "imagenet": a class's output is found by its name; None: its number is its output's;
            "own": so it is, but of a network that is made for these classes.
        place: where the label at a position is, for sentences.

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
    present = {names[label] for label in labels}
    indices = class_indices(sorted(present), known, "class")
    return [indices[names[label]] for label in labels], None


def free_labels(
    labels: Sequence[Label],
    classes: Path | str | None,
    place: Callable[[int], str],
    other: Sequence[Label] = (),
) -> list[int]:
    """Labels of a data set that does not say which classes there are.

    Whole numbers are indices of outputs, unless `classes` has a name that is a number: then all are
    names.

    Args:
        labels: N numbers or names of classes.
        classes: a text file with one class name a line in the order of the classifiers' outputs;
            "own": the names, sorted; "imagenet" or None: WordNet ids or English names of ImageNet's
            classes.
        place: where the label at a position is, for sentences.
        other: labels of another split, which count too where the names are the classes.

    Returns:
        N indices of outputs.

    Raises:
        InputError: a number is out of range, or a name is unknown.
    """
    known = read_class_names(classes) if isinstance(classes, Path) else None
    called_by_number = any(_NUMBER.fullmatch(name) for names in known or () for name in names)
    every = [*labels, *other]
    if not called_by_number and all(map(_is_number, every)):
        return [
            _index(int(label), len(known) if known else None, place(position))
            for position, label in enumerate(labels)
        ]
    if classes in OWN_CLASSES:
        known = tuple((name,) for name in sorted({str(label) for label in every}))
    names = [str(label) for label in labels]
    indices = class_indices(sorted(set(names)), known, "class")
    return [indices[name] for name in names]


def _is_number(label: Label) -> bool:
    return isinstance(label, int) or _NUMBER.fullmatch(label) is not None


def _index(label: int, classes: int | None, place: str) -> int:
    largest = _LARGEST if classes is None else classes - 1
    if not 0 <= label <= largest:
        names = "" if classes is None else f", but dataset.classes has {classes} names"
        raise InputError(
            f"{place} has label {label}{names}; give the index of an output, 0 to {largest}, or the name of "
            "a class."
        )
    return label
