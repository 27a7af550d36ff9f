"""Classes of images: what they are called, and which output of a classifier stands for each."""

import functools
import operator
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
# A line of a synset file, such as "n01440764 tench, Tinca tinca".
_SYNSET = re.compile(r"(n[0-9]{8})(?:[\s,:;]+(.*))?")
# Where names are in order, one in so many may be a spelling that is not known.
_KNOWN_TO_UNKNOWN = 100
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


@functools.cache
def imagenet_classes() -> ClassNames:
    """Return the names of ImageNet-1k's classes, their WordNet ids among them."""
    return tuple(
        (*names, wnid) for names, wnid in zip(imagenet_class_names(), imagenet_wnids(), strict=True)
    )


def read_class_names(path: Path, key: str = "dataset.classes") -> ClassNames:
    """Read a text file with one class name a line, in the order of the classifier's outputs.

    Lines of synset files begin with a WordNet id. A file of ImageNet's names in ImageNet's order has
    the ids and synonyms too, so that the two cranes are told apart by their places.

    Args:
        path: the file.
        key: of the config, that gave it.

    Raises:
        InputError: the file cannot be read.
    """
    lines = read_lines(path, key, "a text file with one name a line")
    names = tuple(names_in(line) for line in lines if line.strip())
    imagenet = imagenet_classes()
    order = _order_of_places(names, imagenet)
    if order is None:
        return names
    every = (
        own if place is None else (*own, *imagenet[place])
        for own, place in zip(names, order, strict=True)
    )
    return tuple(tuple(dict.fromkeys(each)) for each in every)


def are_imagenets(classes: ClassNames) -> bool:
    """Tell whether classes are ImageNet-1k's in its order, by their WordNet ids."""
    ids = imagenet_wnids()
    return len(classes) == len(ids) and all(map(operator.contains, classes, ids))


def names_in(text: str) -> tuple[str, ...]:
    """Return the names that a line of a list, or a label of a network, gives a class.

    They are the whole text, and its parts between commas; of a line of a synset file the words'
    parts, and at last the id.
    """
    synset = _SYNSET.fullmatch(text.strip())
    words = (synset[2] or "" if synset else text).strip()
    parts = [part.strip() for part in words.split(",")]
    every = [*(parts if synset else [words, *parts]), synset[1] if synset else ""]
    return tuple(dict.fromkeys(name for name in every if name)) or (text,)


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
    source = "ImageNet-1k's classes" if class_names is None else "the names in dataset.classes"
    class_names = imagenet_classes() if class_names is None else class_names
    known = _known_names(class_names)
    found = {name: _best_known((name,), known, class_names) for name in names}
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


def match_classes(labels: ClassNames, classes: ClassNames) -> list[list[int]]:
    """Find the classes of a data set that each output of a network may stand for.

    An id counts more than names, and the first name of both more than others. A name that stands as
    often in one list as in the other is settled by its order in both.

    Args:
        labels: the names of each output.
        classes: the names of each class.

    Returns:
        For each output the indices of classes that it fits equally well: mostly one, or none.
    """
    order = _order_of_places(labels, classes)
    if order is not None:
        return [[] if place is None else [place] for place in order]
    known = _known_names(classes)
    alike: dict[frozenset[str], list[int]] = {}
    for output, names in enumerate(labels):
        alike.setdefault(frozenset(map(normalised_name, names)), []).append(output)
    found: list[list[int]] = [[] for _ in labels]
    for outputs in alike.values():
        names = labels[outputs[0]]
        same = sorted(_best_known(names, known, classes))
        if len(same) != len(outputs):
            same = _most_alike(names, same, classes)
        settled = len(same) == len(outputs)
        for place, output in enumerate(outputs):
            found[output] = [same[place]] if settled else same
    return found


def _order_of_places(labels: ClassNames, classes: ClassNames) -> list[int | None] | None:
    """Return the class of each label where both lists are in one order; else None.

    The labels may have one class more, in front: the background, as TensorFlow's networks have it.
    """
    background = len(labels) - len(classes)
    if background not in (0, 1):
        return None
    known, unknown = _known_names(classes), 0
    for place, names in enumerate(labels[background:]):
        places = {one for name in names for one in known.get(normalised_name(name), ())}
        if places and place not in places:
            return None
        unknown += not places
    if unknown * _KNOWN_TO_UNKNOWN > len(classes):
        return None
    return [*([None] * background), *range(len(classes))]


def _known_names(class_names: ClassNames) -> dict[str, set[int]]:
    """Return the indices of each name; several where classes share it (ImageNet has two cranes)."""
    indices: dict[str, set[int]] = {}
    for index, names in enumerate(class_names):
        for name in names:
            indices.setdefault(normalised_name(name), set()).add(index)
    return indices


def _best_known(names: Sequence[str], known: dict[str, set[int]], classes: ClassNames) -> set[int]:
    """Return the classes of one of these names: of their id, else those that have their first one first."""
    for name in names:
        if _SYNSET.fullmatch(name) and name in known:
            return known[name]
    found = {index for name in names for index in known.get(normalised_name(name), ())}
    first = normalised_name(names[0])
    return {index for index in found if normalised_name(classes[index][0]) == first} or found


def _most_alike(names: Sequence[str], indices: Sequence[int], classes: ClassNames) -> list[int]:
    """Return those of some classes that share most of their names with these."""
    own = set(map(normalised_name, names))

    def share(index: int) -> float:
        others = set(map(normalised_name, classes[index]))
        return len(own & others) / len(own | others)

    shares = {index: share(index) for index in indices}
    return [index for index in indices if shares[index] == max(shares.values())]


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
    called_by_number = any(are_numbers(names[:1]) for names in known or ())
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
