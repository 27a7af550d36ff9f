"""Classifiers from settings: networks with weights and normalisation, taking float images in [0, 1]."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pixelrobust.datasets.classes import (
    ClassNames,
    are_imagenets,
    match_classes,
    names_in,
    read_class_names,
)
from pixelrobust.engine.base import known_outputs
from pixelrobust.errors import InputError, some
from pixelrobust.models.architectures import find_architecture
from pixelrobust.models.checks import check_module
from pixelrobust.models.heads import ExpandedLogits, Normalize
from pixelrobust.models.huggingface import load_network, read_folder
from pixelrobust.models.saved import load_model
from pixelrobust.models.weights import (
    load_weights,
    read_weights,
    weights_digest,
    weights_file,
)
from pixelrobust.settings import ModelSettings, model_label

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
        notes: sentences that a user should know of how it was made.
        classes: the data set's, where outputs were brought into their order.
    """

    name: str
    module: nn.Module
    weights_sha256: str
    notes: tuple[str, ...] = ()
    classes: ClassNames | None = None


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
    notes: list[str] = []
    labels: ClassNames = ()
    if settings.source == "huggingface":
        folder = read_folder(settings.path, settings.mean, settings.std)
        parts: list[nn.Module] = [Normalize(folder.mean, folder.std), load_network(folder)]
        labels, outputs = tuple(map(names_in, folder.labels)), len(folder.labels)
    else:
        architecture = find_architecture(settings)
        mean, std = architecture.normalisation()
        path = weights_file(settings.weights)
        network = architecture.build(settings.weights if path is None else None)
        if path is not None:
            tensors = read_weights(path, settings.match)
            notes += load_weights(network, tensors, settings.match, path.name)
        parts, outputs = [Normalize(mean, std), network], settings.classes
    if settings.labels == "order":
        labels = ()
    elif settings.labels is not None:
        labels = read_class_names(settings.labels, "models.<name>.labels")
    last = None
    if classes is not None and has_names(labels):
        last = arrange_outputs(name, labels, classes)
    elif classes is not None and are_imagenets(classes) and outputs == len(classes) + 1:
        # TensorFlow's networks have it so.
        last = ExpandedLogits(nn.Identity(), [len(classes), *range(len(classes))], outputs)
        notes.append(
            f"model {name} has {outputs:,} outputs for ImageNet's {len(classes):,} classes; the first is "
            "taken for the background, and the others for ImageNet's in order"
        )
    module = nn.Sequential(*parts, *([] if last is None else [last])).eval()
    matched = None if last is None else classes
    return Classifier(name, module, weights_digest(module), tuple(notes), matched)


def check_classifier(
    classifier: Classifier, image_size: tuple[int, int], labels: NDArray[np.int64]
) -> None:
    """Try the classifier on a black and a white image.

    Args:
        classifier: the classifier.
        image_size: (height, width) of the run's images.
        labels: (N,) of the run.

    Raises:
        InputError: as of `pixelrobust.models.checks.check_module`, or classes that the images show are
            none that the network's labels name.
    """
    if classifier.classes is not None:
        _check_labels(classifier, classifier.classes, sorted({int(label) for label in labels}))
    black = torch.zeros(1, 3, *image_size)
    images = torch.cat([black, 1 - black])
    check_module(classifier.name, classifier.module, images, int(labels.max()))


def _check_labels(classifier: Classifier, classes: ClassNames, shown: list[int]) -> None:
    """Raise InputError where some of the classes that images show have no output."""
    known = known_outputs(classifier.module)
    assert known is not None
    lacking = [label for label in shown if label >= len(known) or not known[label]]
    if lacking:
        called = some(
            [classes[label][0] if label < len(classes) else str(label) for label in lacking]
        )
        raise InputError(
            f"{len(lacking):,} of the {len(shown):,} classes that the images show have no output of model "
            f"{classifier.name} ({called}), so it could never be right about them; leave these classes out of "
            f"the images, or {_GIVE_LABELS}"
        )


def _load_saved(name: str, path: Path | None) -> Classifier:
    """Load a network that retraining saved, with outputs for all classes of the data set."""
    if path is None:
        raise InputError("models.<name>.path is not set; give the folder of a saved network.")
    saved = load_model(path)
    outputs = int(saved.about.get("outputs", max(saved.classes) + 1))
    module = ExpandedLogits(saved.module, saved.classes, outputs).eval()
    return Classifier(name, module, saved.weights_sha256)


def has_names(labels: ClassNames) -> bool:
    """Tell whether a network's labels are any names, rather than numbers or none."""
    return not all(_NO_NAME.fullmatch(names[0]) for names in labels)


def arrange_outputs(name: str, labels: ClassNames, classes: ClassNames) -> ExpandedLogits | None:
    """Make a last layer that brings a network's outputs into the order of a data set's classes.

    An output whose class the data set lacks stands behind them, so that it can still win; a class
    without an output never does.

    Args:
        name: what messages call the network.
        labels: the names of the class of each output.
        classes: of the data set, the names of each.

    Returns:
        The layer; None where outputs are in order.

    Raises:
        InputError: not one label is a class of the data set, one fits several equally well, or two
            fit the same.
    """
    found = match_classes(labels, classes)
    if not any(found):
        raise InputError(
            f"none of the outputs of model {name} ({_firsts(labels)}) is called like a class of the data "
            f"set ({_firsts(classes)}); {_GIVE_LABELS}"
        )
    taken: dict[int, int] = {}
    for output, places in enumerate(found):
        if len(places) > 1:
            raise InputError(
                f"the output {labels[output][0]!r} of model {name} fits {len(places)} classes of the "
                f"data set; {_GIVE_LABELS}"
            )
        if places and taken.setdefault(places[0], output) != output:
            raise InputError(
                f"two outputs of model {name} are the class {classes[places[0]][0]!r} of the data set; "
                f"{_GIVE_LABELS}"
            )
    behind = iter(range(len(classes), len(classes) + len(labels)))
    order = [places[0] if places else next(behind) for places in found]
    if order == list(range(len(classes))):
        return None
    return ExpandedLogits(nn.Identity(), order, max(len(classes), max(order) + 1))


def _firsts(names: ClassNames) -> str:
    return some([each[0] for each in names])
