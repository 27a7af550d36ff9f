"""Which class of a data set each output of a network stands for."""

import re
from collections.abc import Sequence

from torch import nn

from pixelrobust.datasets.classes import ClassNames, known_names, normalised_name
from pixelrobust.errors import InputError
from pixelrobust.heads import ExpandedLogits

_NO_NAME = re.compile(r"(LABEL_)?\d+")
_REMEDY = (
    "give models.<name>.labels, a file with one class name a line in the order of its outputs, or "
    "order where they are in the data set's order."
)


def arrange_outputs(name: str, labels: Sequence[str], classes: ClassNames) -> nn.Module:
    """A last layer that brings a network's outputs into the order of a data set's classes.

    An output whose class the data set lacks stands behind them, so that it can still win; a class
    without an output never does.

    Args:
        name: what messages call the network.
        labels: a name, or several with commas between them, of the class of each output.
        classes: of the data set, the names of each.

    Raises:
        InputError: not one label is a class of the data set, one fits several equally well, or two
            fit the same.
    """
    if all(_NO_NAME.fullmatch(label) for label in labels):
        return nn.Identity()
    known = known_names(classes)
    places = [_place(name, label, own, known, classes) for own, label in enumerate(labels)]
    if all(place is None for place in places):
        raise InputError(
            f"none of the outputs of model {name} ({_some(labels)}) is called like a class of the data "
            f"set ({_some([names[0] for names in classes])}); {_REMEDY}"
        )
    taken: dict[int, str] = {}
    for place, label in zip(places, labels, strict=True):
        if place is not None and taken.setdefault(place, label) is not label:
            raise InputError(
                f"two outputs of model {name} are the class {classes[place][0]!r} of the data set; "
                f"{_REMEDY}"
            )
    behind = iter(range(len(classes), len(classes) + len(labels)))
    order = [next(behind) if place is None else place for place in places]
    if order == list(range(len(classes))):
        return nn.Identity()
    return ExpandedLogits(nn.Identity(), order, max(len(classes), max(order) + 1))


def _place(
    name: str, label: str, own: int, known: dict[str, set[int]], classes: ClassNames
) -> int | None:
    """The class that shares most of its names with a label; None where none shares any."""
    parts = {normalised_name(part) for part in (label, *label.split(","))} - {""}
    fitting = set().union(*(known.get(part, set()) for part in parts))
    if not fitting:
        return None
    shares = {index: _share(parts, classes[index]) for index in fitting}
    best = [index for index in fitting if shares[index] == max(shares.values())]
    # ImageNet has two cranes.
    if own in best:
        return own
    if len(best) > 1:
        raise InputError(
            f"the output {label!r} of model {name} fits {len(best)} classes of the data set; {_REMEDY}"
        )
    return best[0]


def _share(parts: set[str], names: Sequence[str]) -> float:
    own = {normalised_name(name) for name in names}
    return len(parts & own) / len(parts | own)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
