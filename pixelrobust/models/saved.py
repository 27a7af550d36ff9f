"""Finished models as folders: weights, and how to rebuild the network that they belong to.

`weights.safetensors` holds the network's own names, without normalisation, so that it can be used
wherever the architecture is known; `model.json` holds the rest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from pixelrobust.errors import InputError
from pixelrobust.files import write_text
from pixelrobust.models.architectures import find_architecture
from pixelrobust.models.heads import Normalize
from pixelrobust.models.weights import (
    load_weights,
    portable,
    read_weights,
    weights_digest,
    write_tensors,
)
from pixelrobust.settings import ModelSettings

_FORMAT = 1
_WEIGHTS = "weights.safetensors"
_RECORD = "model.json"


@dataclass(frozen=True)
class SavedModel:
    """A model read from a folder.

    Attributes:
        module: (B, 3, H, W) float in [0, 1] -> (B, len(classes)) logits; in eval mode.
        settings: of the network, with as many classes as there are, its mean and std, and the
            weights file.
        classes: what its outputs stand for: classes of the model that it was made from.
        about: plain data that was saved with it.
        weights_sha256: digest of all parameters and buffers, normalisation included.
    """

    module: nn.Module
    settings: ModelSettings
    classes: tuple[int, ...]
    about: dict[str, Any]
    weights_sha256: str


def save_model(
    path: Path,
    module: nn.Module,
    settings: ModelSettings,
    classes: Sequence[int],
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a retrained classifier.

    Args:
        path: a folder; a model in it is replaced.
        module: normalisation and network, as `retrain` gives them for what `load_classifier` made.
        settings: of the model that was retrained: its source and name say what to rebuild.
        classes: what the outputs stand for.
        about: plain data to keep beside them, such as the recipe.

    Raises:
        InputError: the network cannot be rebuilt from its name, or the folder not written to.
    """
    normalize, network = _parts(module)
    mean, std = (tuple(each.flatten().tolist()) for each in (normalize.mean, normalize.std))
    own = settings.model_copy(update={"classes": len(classes), "mean": mean, "std": std})
    check_rebuildable(network, own)
    write_tensors(path / _WEIGHTS, portable(network.state_dict()))
    record = {
        "format": _FORMAT,
        "settings": own.model_dump(mode="json", exclude={"weights", "match"}),
        "classes": [int(one) for one in classes],
        "weights_sha256": weights_digest(module),
        "about": dict(about or {}),
    }
    write_text(path / _RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def load_model(path: Path) -> SavedModel:
    """Load a model that `save_model` wrote, on the CPU.

    Raises:
        InputError: the folder does not hold one, or its parts do not belong together.
    """
    try:
        record = json.loads((path / _RECORD).read_text(encoding="utf-8"))
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']} is not {_FORMAT}")
        weights = {"weights": str(path / _WEIGHTS), "match": "names"}
        settings = ModelSettings.model_validate(record["settings"] | weights)
        classes, about, digest = (record[key] for key in ("classes", "about", "weights_sha256"))
        mean, std = settings.mean, settings.std
        if mean is None or std is None or len(classes) != settings.classes:
            raise ValueError("mean, std or classes are missing")
    except (OSError, ValueError, LookupError, TypeError, ValidationError) as error:
        raise InputError(
            f"{path} holds no saved model ({error}); give the folder that retraining wrote."
        ) from error
    network = _rebuild(settings)
    load_weights(network, read_weights(path / _WEIGHTS, "names"), "names", str(path / _WEIGHTS))
    module = nn.Sequential(Normalize(mean, std), network).eval()
    if weights_digest(module) != digest:
        raise InputError(
            f"{path / _WEIGHTS} is not what {_RECORD} describes; save the model again."
        )
    return SavedModel(module, settings, tuple(classes), about, digest)


def check_rebuildable(network: nn.Module, settings: ModelSettings) -> None:
    """Raise InputError unless building a network of this name gives one of the same layers.

    Args:
        network: without normalisation in front.
        settings: their `classes` is the number of the network's outputs.
    """
    rebuilt = _rebuild(settings)
    shapes, expected = (
        {name: tensor.shape for name, tensor in one.state_dict().items()}
        for one in (network, rebuilt)
    )
    # torchvision's oldest networks move their inputs around where published weights want it.
    moved = [getattr(one, "transform_input", False) for one in (network, rebuilt)]
    if shapes != expected or repr(network) != repr(rebuilt) or moved[0] != moved[1]:
        raise InputError(
            f"a {settings.source} network of the name {settings.name} has other layers than this "
            "one, so it cannot be saved under that name; give another architecture."
        )


def _parts(module: nn.Module) -> tuple[Normalize, nn.Module]:
    match list(module.children()):
        case [Normalize() as normalize, network] if isinstance(module, nn.Sequential):
            return normalize, network
    raise InputError("only normalisation and a network can be saved; see `load_classifier`.")


def _rebuild(settings: ModelSettings) -> nn.Module:
    """Build the network with random weights; torch's generators are left as they were."""
    with torch.random.fork_rng():
        return find_architecture(settings).build(None).eval()
