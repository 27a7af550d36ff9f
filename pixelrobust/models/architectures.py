"""Networks by name, from torchvision and timm."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import timm
import torchvision
from pydantic import ValidationError
from torch import nn

from pixelrobust.errors import InputError, first_line
from pixelrobust.models.weights import cached_file, download, weights_only
from pixelrobust.settings import ModelSettings, PreprocessingSettings

_PUBLISHED_CLASSES = 1000
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """A network that a library knows.

    Attributes:
        build: makes the network: with published weights of a name, or for None with random ones.
        mean, std: what published weights expect, for images in [0, 1].
        preprocessing: what they were tested with; None where the library does not say.
    """

    build: Callable[[str | None], nn.Module]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: PreprocessingSettings | None


def find_architecture(settings: ModelSettings) -> Architecture:
    """Find the network that a model config names.

    Raises:
        InputError: the library knows no network of this name.
    """
    if settings.source == "torchvision":
        return _torchvision_architecture(settings)
    if settings.source != "timm":
        raise InputError(
            f"a network of source {settings.source} cannot be built from its name, so one retrained from "
            "it cannot be saved; set retrain.save=null."
        )
    return _timm_architecture(settings)


def _torchvision_architecture(settings: ModelSettings) -> Architecture:
    known = torchvision.models.list_models(module=torchvision.models)
    if settings.name not in known:
        raise InputError(_unknown_name(settings.name, known, "torchvision"))
    published = torchvision.models.get_model_weights(settings.name)
    named = published.__members__.get(settings.weights, next(iter(published)))
    transforms = named.transforms()
    return Architecture(
        lambda weights: _build_torchvision(settings, weights),
        tuple(transforms.mean),
        tuple(transforms.std),
        _preprocessing(
            transforms.resize_size[0], transforms.crop_size[0], transforms.interpolation.value
        ),
    )


def _build_torchvision(settings: ModelSettings, weights: str | None) -> nn.Module:
    """Build a network; published weights come from torchvision's cache, or are downloaded into it.

    torchvision itself puts published weights in: some need old names translated, or their input
    transformed inside the network.
    """
    name = settings.name
    if weights is None:
        return cast(nn.Module, torchvision.models.get_model(name, num_classes=settings.classes))
    published = torchvision.models.get_model_weights(name).__members__
    if weights not in published:
        raise InputError(
            f"models.<name>.weights={weights!r} is neither among what torchvision publishes for {name} "
            f"({', '.join(published)}) nor a .safetensors or .pth file."
        )
    _check_published_classes(settings)
    cached = cached_file(published[weights].url)
    try:
        download(published[weights].url, cached)
        with weights_only():
            return cast(nn.Module, torchvision.models.get_model(name, weights=published[weights]))
    except InputError:
        raise
    # A damaged file in the cache can raise nearly anything.
    except Exception as error:
        raise InputError(
            f"the weights {weights} of {name} cannot be had ({first_line(error)}); connect to the "
            f"network, remove {cached} if it is damaged, or give a file: "
            f"models.<name>.weights=/weights/{name}.pth."
        ) from error


def _timm_architecture(settings: ModelSettings) -> Architecture:
    name = settings.name
    if not timm.is_model(name.split(".")[0]):
        raise InputError(_unknown_name(name, timm.list_models(), "timm"))
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:
        known = timm.list_pretrained(f"{name.split('.')[0]}.*")
        raise InputError(_unknown_name(name, known, "timm")) from error
    return Architecture(
        lambda weights: _build_timm(settings, weights),
        tuple(config.mean) if config else _IMAGENET_MEAN,
        tuple(config.std) if config else _IMAGENET_STD,
        _timm_preprocessing(config) if config else None,
    )


def _timm_preprocessing(config: timm.models.PretrainedCfg) -> PreprocessingSettings | None:
    """Return the images that its authors tested it on, maybe of another size than in training."""
    _, height, width = config.test_input_size or config.input_size
    share = (config.test_crop_pct if config.test_input_size else None) or config.crop_pct
    if height != width:
        return None
    return _preprocessing(int(height / share), height, config.interpolation)


def _preprocessing(resize: int, crop: int, interpolation: str) -> PreprocessingSettings | None:
    """Return settings; None where images cannot be resized so here."""
    try:
        return PreprocessingSettings.model_validate(
            {"resize": max(resize, crop), "crop": crop, "interpolation": interpolation}
        )
    except ValidationError:
        return None


def _build_timm(settings: ModelSettings, weights: str | None) -> nn.Module:
    name = settings.name
    if weights is None:
        return cast(nn.Module, timm.create_model(name, num_classes=settings.classes))
    if weights != "pretrained":
        raise InputError(
            f"models.<name>.weights={weights!r} is neither 'pretrained' nor a .safetensors or .pth "
            "file; timm names its published weights after the model, for example "
            "models.<name>.name=resnet50.a1_in1k."
        )
    try:
        network: nn.Module = timm.create_model(name, pretrained=True)
    # huggingface_hub raises many kinds of errors without a network, httpx ones among them.
    except Exception as error:
        raise InputError(
            f"the weights of {name} cannot be had ({first_line(error)}); connect to the network, or "
            "give a file: models.<name>.weights=/weights/file.safetensors."
        ) from error
    return network


def _check_published_classes(settings: ModelSettings) -> None:
    if settings.classes != _PUBLISHED_CLASSES:
        raise InputError(
            f"models.<name>.classes={settings.classes} does not fit the published weights "
            f"{settings.weights}, which have {_PUBLISHED_CLASSES}; give weights of your own, or "
            f"classes={_PUBLISHED_CLASSES}."
        )


def _unknown_name(name: str, known: list[str], library: str) -> str:
    similar = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    hint = f"similar are {', '.join(similar)}" if similar else "see its documentation for names"
    return f"models.<name>.name={name!r} is not a classifier of {library}; {hint}."
