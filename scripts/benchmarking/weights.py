"""Weights of the networks of a benchmark: those at hand, else random ones."""

from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file

from pixelrobust.models import Classifier
from pixelrobust.models.architectures import find_architecture
from pixelrobust.packages import package_folder
from pixelrobust.settings import PACKAGE_PREFIX, ModelSettings, is_weights_file


def has_weights(settings: ModelSettings) -> bool:
    """Whether the weights of a config are on this machine, so that nothing is downloaded.

    Those of timm, which lie elsewhere in every version, are taken to be missing.
    """
    weights = settings.weights
    if weights.startswith(PACKAGE_PREFIX):
        return package_folder(weights.removeprefix(PACKAGE_PREFIX).partition("/")[0]) is not None
    if is_weights_file(weights):
        return Path(weights).is_file()
    if settings.source != "torchvision":
        return False
    published = torchvision.models.get_model_weights(settings.name).__members__.get(weights)
    cached = Path(torch.hub.get_dir()) / "checkpoints"
    return published is not None and (cached / Path(published.url).name).is_file()


def save_random_weights(settings: ModelSettings, path: Path) -> None:
    """What the library starts training from: the same at every call."""
    torch.manual_seed(0)
    save_file(find_architecture(settings).build(None).state_dict(), path)


def save_network(classifier: Classifier, path: Path) -> tuple[tuple[float, ...], ...]:
    """Save a classifier's weights without its normalisation, and give that: mean and std."""
    normalize, network = classifier.module.children()
    # An engine may have put them into channels-last layout.
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    buffers = normalize.state_dict()
    return tuple(tuple(np.ravel(buffers[name]).tolist()) for name in ("mean", "std"))
