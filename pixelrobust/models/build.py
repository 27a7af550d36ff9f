"""Classifiers: networks with weights and normalisation, taking float images in [0, 1]."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pixelrobust.datasets.classes import ClassNames, read_class_names
from pixelrobust.errors import InputError
from pixelrobust.models.architectures import find_architecture
from pixelrobust.models.checks import check_module
from pixelrobust.models.heads import ExpandedLogits, Normalize
from pixelrobust.models.huggingface import arrange_outputs, load_network, read_checkpoint
from pixelrobust.models.saved import load_model
from pixelrobust.models.weights import (
    load_weights,
    package_file,
    read_weights,
    weights_digest,
)
from pixelrobust.settings import (
    PACKAGE_PREFIX,
    ModelSettings,
    is_weights_file,
    model_label,
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
        return _load_huggingface(name, settings, classes)
    architecture = find_architecture(settings)
    path = _weights_file(settings.weights)
    network = architecture.build(settings.weights if path is None else None)
    if path is not None:
        load_weights(network, read_weights(path, settings.match), settings.match, path.name)
    normalize = Normalize(settings.mean or architecture.mean, settings.std or architecture.std)
    module = nn.Sequential(normalize, network).eval()
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
    """A network that retraining saved, with outputs for all classes of the data set."""
    if path is None:
        raise InputError("models.<name>.path is not set; give the folder of a saved network.")
    saved = load_model(path)
    outputs = int(saved.about.get("outputs", max(saved.classes) + 1))
    module = ExpandedLogits(saved.module, saved.classes, outputs).eval()
    return Classifier(name, module, saved.weights_sha256)


def _load_huggingface(name: str, settings: ModelSettings, classes: ClassNames | None) -> Classifier:
    """An image classifier of transformers, from a folder."""
    checkpoint = read_checkpoint(settings.path, settings.mean, settings.std)
    parts: list[nn.Module] = [Normalize(checkpoint.mean, checkpoint.std), load_network(checkpoint)]
    last = _last_layer(name, settings, checkpoint.labels, classes)
    if not isinstance(last, nn.Identity):
        parts.append(last)
    module = nn.Sequential(*parts).eval()
    return Classifier(name, module, weights_digest(module))


def _last_layer(
    name: str,
    settings: ModelSettings,
    own: Sequence[str] | None,
    classes: ClassNames | None,
) -> nn.Module:
    """What brings outputs into the order of the data set's classes."""
    labels = own
    if settings.labels == "order":
        return nn.Identity()
    if settings.labels is not None:
        key = "models.<name>.labels"
        labels = [names[0] for names in read_class_names(settings.labels, key)]
    return arrange_outputs(name, labels, classes) if labels and classes else nn.Identity()


def _weights_file(weights: str) -> Path | None:
    """The file that holds the weights; None for published ones."""
    if weights.startswith(PACKAGE_PREFIX):
        return package_file(weights)
    return Path(weights) if is_weights_file(weights) else None


__all__ = ["Classifier", "check_classifier", "load_classifier"]
