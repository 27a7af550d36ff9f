"""Networks by name, from torchvision and timm, and what their libraries say of them."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError

import timm
import torchvision
from torch import Tensor, nn

from pixelrobust.errors import InputError
from pixelrobust.settings import ModelSettings


@dataclass(frozen=True)
class Architecture:
    """A network without its weights.

    Attributes:
        build: makes the network, randomly initialised.
        download: the published weights under a name (torchvision) or the default ones (timm).
        mean, std: what published weights expect, for images in [0, 1].
    """

    build: Callable[[], nn.Module]
    download: Callable[[str], dict[str, Tensor]]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def find_architecture(settings: ModelSettings) -> Architecture:
    """The network that a model config names.

    Raises:
        InputError: the library knows no network of this name.
    """
    if settings.source == "torchvision":
        return _torchvision_architecture(settings)
    return _timm_architecture(settings)


def _torchvision_architecture(settings: ModelSettings) -> Architecture:
    name = settings.name
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise InputError(_unknown_name(name, known, "torchvision"))
    published = torchvision.models.get_model_weights(name)
    reference = next(iter(published))
    transforms = reference.transforms()
    return Architecture(
        build=lambda: torchvision.models.get_model(
            name, weights=None, num_classes=settings.classes
        ),
        download=lambda weights: _download_torchvision(name, weights),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def _download_torchvision(name: str, weights: str) -> dict[str, Tensor]:
    """Published weights, from torchvision's cache or downloaded and checked against their hash."""
    published = torchvision.models.get_model_weights(name)
    if weights not in published.__members__:
        raise InputError(
            f"weights={weights!r} of {name} is neither published by torchvision "
            f"({', '.join(published.__members__)}) nor a .safetensors or .pth file."
        )
    try:
        state: dict[str, Tensor] = published[weights].get_state_dict(
            progress=True, check_hash=True, weights_only=True
        )
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"the weights {weights} of {name} could not be downloaded ({error}); connect to the network, "
            f"or give the file, for example models.{name}.weights=/weights/{name}.pth."
        ) from error
    return state


def _timm_architecture(settings: ModelSettings) -> Architecture:
    name = settings.name
    if not timm.is_model(name.split(".")[0]):
        raise InputError(_unknown_name(name, timm.list_models(), "timm"))
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return Architecture(
        build=lambda: timm.create_model(name, pretrained=False, num_classes=settings.classes),
        download=lambda weights: _download_timm(name, weights),
        mean=tuple(config.mean) if config else (0.485, 0.456, 0.406),
        std=tuple(config.std) if config else (0.229, 0.224, 0.225),
    )


def _download_timm(name: str, weights: str) -> dict[str, Tensor]:
    if weights != "pretrained":
        raise InputError(
            f"weights={weights!r} of {name} is neither 'pretrained' nor a .safetensors or .pth file; "
            "timm names its published weights after the model, for example name=resnet50.a1_in1k."
        )
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    # huggingface_hub raises many kinds of errors without a network, httpx ones among them.
    except Exception as error:
        raise InputError(
            f"the weights of {name} could not be downloaded ({_first_line(error)}); connect to the "
            "network, or give a file: models.<name>.weights=/weights/file.safetensors."
        ) from error


def _unknown_name(name: str, known: list[str], library: str) -> str:
    similar = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    return (
        f"models.<name>.name={name!r} is not a classifier of {library}; "
        f"{'similar are ' + ', '.join(similar) if similar else 'see its documentation for names'}."
    )


def _first_line(error: Any) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
