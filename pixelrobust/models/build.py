"""Classifiers from settings: networks with weights and normalisation, taking float images in [0, 1]."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pixelrobust.datasets.classes import (
    ClassNames,
    known_names,
    normalised_name,
    read_class_names,
)
from pixelrobust.errors import InputError
from pixelrobust.models.architectures import find_architecture
from pixelrobust.models.checks import check_module
from pixelrobust.models.heads import ExpandedLogits, Normalize
from pixelrobust.models.huggingface import load_network, read_folder
from pixelrobust.models.saved import load_model
from pixelrobust.models.weights import load_weights, package_file, read_weights, weights_digest
from pixelrobust.settings import PACKAGE_PREFIX, ModelSettings, is_weights_file, model_label

_NO_NAME = re.compile(r"(LABEL_)?\d+")
_GIVE_LABELS = (
    "give models.<name>.labels, a file with one class name a line in the order of its outputs, or "
    "order where they are in the data set's order."
)


@dataclass(frozen=True)
class Classifier:
    """A network that is ready to classify.

    Attributes:
        name: what tables call it.
        module: (B, 3, H, W) float in [0, 1] -> (B, K) logits; in eval mode.
        weights_sha256: digest of all parameters and buffers, normalisation included.
    """

    name: str
    module: nn.Module
    weights_sha256: str


def load_classifier(
    key: str, settings: ModelSettings, classes: ClassNames | None = None
) -> Classifier:
    """Build the network of a model config, load its weights, put normalisation in front.

    Args:
        key: of the model.
        settings: of the model.
        classes: that the outputs are to be, where a network says what its own stand for; None: as
            they are.

    Raises:
        InputError: no such network, or its weights cannot be had or do not fit, or its outputs are
            no classes of the data set.
    """
    name = model_label(key, settings)
    if settings.source == "checkpoint":
        return _load_saved(name, settings.path)
    if settings.source == "huggingface":
        parts = _huggingface_parts(name, settings, classes)
    else:
        architecture = find_architecture(settings)
        path = _weights_file(settings.weights)
        network = architecture.build(settings.weights if path is None else None)
        if path is not None:
            load_weights(network, read_weights(path, settings.match), settings.match, path.name)
        mean, std = settings.mean or architecture.mean, settings.std or architecture.std
        parts = [Normalize(mean, std), network]
    module = nn.Sequential(*parts).eval()
    return Classifier(name, module, weights_digest(module))


def check_classifier(classifier: Classifier, image_size: tuple[int, int], labels: int) -> None:
    """Try the classifier on a black and a white image.

    Args:
        classifier: the classifier.
        image_size: (height, width) of the run's images.
        labels: the largest label of the run.

    Raises:
        InputError: as of `pixelrobust.models.checks.check_module`.
    """
    black = torch.zeros(1, 3, *image_size)
    check_module(classifier.name, classifier.module, torch.cat([black, 1 - black]), labels)


def _load_saved(name: str, path: Path | None) -> Classifier:
    """Load a network that retraining saved, with outputs for all classes of the data set."""
    if path is None:
        raise InputError("models.<name>.path is not set; give the folder of a saved network.")
    saved = load_model(path)
    outputs = int(saved.about.get("outputs", max(saved.classes) + 1))
    module = ExpandedLogits(saved.module, saved.classes, outputs).eval()
    return Classifier(name, module, saved.weights_sha256)


def _huggingface_parts(
    name: str, settings: ModelSettings, classes: ClassNames | None
) -> list[nn.Module]:
    """Load the layers of an image classifier of transformers, in the order of a data set's classes."""
    folder = read_folder(settings.path, settings.mean, settings.std)
    parts: list[nn.Module] = [Normalize(folder.mean, folder.std), load_network(folder)]
    if settings.labels == "order":
        return parts
    labels: Sequence[str] = folder.labels
    if settings.labels is not None:
        key = "models.<name>.labels"
        labels = [names[0] for names in read_class_names(settings.labels, key)]
    last = arrange_outputs(name, labels, classes) if labels and classes else None
    return parts if last is None else [*parts, last]


def arrange_outputs(name: str, labels: Sequence[str], classes: ClassNames) -> ExpandedLogits | None:
    """Make a last layer that brings a network's outputs into the order of a data set's classes.

    An output whose class the data set lacks stands behind them, so that it can still win; a class
    without an output never does.

    Args:
        name: what messages call the network.
        labels: a name, or several with commas between them, of the class of each output.
        classes: of the data set, the names of each.

    Returns:
        The layer; None where outputs are in order, or have no names.

    Raises:
        InputError: not one label is a class of the data set, one fits several equally well, or two
            fit the same.
    """
    if all(_NO_NAME.fullmatch(label) for label in labels):
        return None
    known = known_names(classes)
    places = [_place(name, label, own, known, classes) for own, label in enumerate(labels)]
    if all(place is None for place in places):
        raise InputError(
            f"none of the outputs of model {name} ({_some(labels)}) is called like a class of the data "
            f"set ({_some([names[0] for names in classes])}); {_GIVE_LABELS}"
        )
    taken: dict[int, str] = {}
    for place, label in zip(places, labels, strict=True):
        if place is not None and taken.setdefault(place, label) is not label:
            raise InputError(
                f"two outputs of model {name} are the class {classes[place][0]!r} of the data set; "
                f"{_GIVE_LABELS}"
            )
    behind = iter(range(len(classes), len(classes) + len(labels)))
    order = [next(behind) if place is None else place for place in places]
    if order == list(range(len(classes))):
        return None
    return ExpandedLogits(nn.Identity(), order, max(len(classes), max(order) + 1))


def _place(
    name: str, label: str, own: int, known: dict[str, set[int]], classes: ClassNames
) -> int | None:
    """Find the class that shares most of its names with a label; None where none shares any."""
    parts = {normalised_name(part) for part in (label, *label.split(","))} - {""}

    def share(index: int) -> float:
        names = {normalised_name(name) for name in classes[index]}
        return len(parts & names) / len(parts | names)

    shares = {index: share(index) for part in parts for index in known.get(part, ())}
    best = [index for index in shares if shares[index] == max(shares.values())]
    # ImageNet has two cranes, which only their places tell apart.
    if len(best) > 1 and own not in best:
        raise InputError(
            f"the output {label!r} of model {name} fits {len(best)} classes of the data set; "
            f"{_GIVE_LABELS}"
        )
    return own if own in best else next(iter(best), None)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _weights_file(weights: str) -> Path | None:
    """Return the file that holds the weights; None for published ones."""
    if weights.startswith(PACKAGE_PREFIX):
        return package_file(weights)
    return Path(weights) if is_weights_file(weights) else None
