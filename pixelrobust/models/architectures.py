"""Networks by name, from torchvision and timm."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import timm
import torchvision
from pydantic import ValidationError
from torch import nn

from pixelrobust.errors import InputError
from pixelrobust.models.weights import (
    cached_file,
    download,
    published_name,
    weights_file,
    weights_only,
    why_refused,
)
from pixelrobust.settings import (
    PACKAGE_PREFIX,
    ModelSettings,
    PreprocessingSettings,
    is_weights_file,
)

_PUBLISHED_CLASSES = 1000
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# torchvision's published weights of these want images with mean and std 0.5: the network itself turns
# images that were normalised as ImageNet's into such. Networks of one's own do so or not.
_TRANSFORMING = ("googlenet", "inception_v3")
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Published:
    """Hold what a set of published weights wants, and how good it is.

    Attributes:
        mean, std: for images in [0, 1].
        preprocessing: what it was tested with; None where the library does not say.
        accuracy: share of ImageNet's validation images that it classifies correctly, as its library
            says; None where that is not known.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: PreprocessingSettings | None
    accuracy: float | None = None


@dataclass(frozen=True)
class Architecture:
    """A network that a library knows.

    Attributes:
        settings: of the model.
        build: makes the network: with published weights of a name, or for None with random ones.
        find: returns what the weights want: one, where they are published ones or all that are
            published for the network want the same; else all that are published.
    """

    settings: ModelSettings
    build: Callable[[str | None], nn.Module]
    find: Callable[[], tuple[Published, ...]]

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and std by channel, for images in [0, 1].

        Raises:
            InputError: they are not given, and those of published weights differ.
        """
        mean, std = self.settings.mean, self.settings.std
        if mean is not None and std is not None:
            return mean, std
        found = list(dict.fromkeys((each.mean, each.std) for each in self.find()))
        if len(found) > 1:
            told = "; ".join(f"mean={list(own)}, std={list(other)}" for own, other in found)
            raise InputError(
                f"{unrecognised(self.settings)} are normalised in different ways ({told}); give "
                "models.<name>.mean and std as the network was trained with."
            )
        return mean or found[0][0], std or found[0][1]

    @property
    def preprocessing(self) -> tuple[PreprocessingSettings, ...]:
        """Tell what the weights were tested with: one, or none where the library does not say.

        Several, where it may be any of them.
        """
        known = (each.preprocessing for each in self.find())
        return tuple(dict.fromkeys(each for each in known if each is not None))

    @property
    def accuracy(self) -> float | None:
        """Tell the published accuracy on ImageNet; None where the weights are none that are known."""
        found = self.find()
        return found[0].accuracy if len(found) == 1 else None


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


def published_accuracy(settings: ModelSettings) -> float | None:
    """Return the published accuracy of a model on ImageNet; None where it is not known."""
    if settings.source not in ("torchvision", "timm"):
        return None
    return find_architecture(settings).accuracy


def unrecognised(settings: ModelSettings) -> str:
    """Return how a sentence begins about weights that may want several things; "… are" follows."""
    tags = timm.list_pretrained(f"{settings.name}.*")[:1] if settings.source == "timm" else []
    hint = f" (or models.<name>.name lacks its tag, as in {tags[0]})" if tags else ""
    return (
        f"models.<name>.weights={settings.weights} is no file that is published for "
        f"{settings.name}{hint}, whose images"
    )


def _torchvision_architecture(settings: ModelSettings) -> Architecture:
    known = torchvision.models.list_models(module=torchvision.models)
    if settings.name not in known:
        raise InputError(_unknown_name(settings.name, known, "torchvision"))
    entries = torchvision.models.get_model_weights(settings.name).__members__

    def find() -> tuple[Published, ...]:
        if not _is_file(settings):
            named = entries.get(settings.weights, next(iter(entries.values())))
            return (_torchvision_published(named),)
        # Others are parts of networks, for other tasks.
        published = {
            entry.url: _torchvision_published(entry)
            for entry in entries.values()
            if entry.meta["categories"]
        }
        if settings.name not in _TRANSFORMING:
            return _of_file(settings, published)
        other = tuple(published.values())
        published = {url: replace(one, mean=_HALF, std=_HALF) for url, one in published.items()}
        return _of_file(settings, published, other)

    return Architecture(settings, lambda weights: _build_torchvision(settings, weights), find)


def _torchvision_published(entry: Any) -> Published:
    transforms = entry.transforms()
    accuracy = entry.meta["_metrics"].get("ImageNet-1K", {}).get("acc@1")
    return Published(
        tuple(transforms.mean),
        tuple(transforms.std),
        _preprocessing(
            transforms.resize_size[0], transforms.crop_size[0], transforms.interpolation.value
        ),
        accuracy / 100 if accuracy else None,
    )


def _is_file(settings: ModelSettings) -> bool:
    return settings.weights.startswith(PACKAGE_PREFIX) or is_weights_file(settings.weights)


def _of_file(
    settings: ModelSettings, published: Mapping[str, Published], other: Sequence[Published] = ()
) -> tuple[Published, ...]:
    """Return what the weights of a file want: as it was published, or all that they may.

    Args:
        settings: of the model, with the file.
        published: what is published for the network, by its address or name.
        other: what a file that is not published may want besides.

    Raises:
        InputError: that depends on the file, and it is not there.
    """
    every = (replace(one, accuracy=None) for one in (*published.values(), *other))
    known = tuple(dict.fromkeys(every))
    try:
        path = weights_file(settings.weights)
        name = None if path is None else published_name(path, published)
    except InputError:
        if len(known) > 1:
            raise
        # It is told when the weights are loaded.
        name = None
    return known if name is None else (published[name],)


def _build_torchvision(settings: ModelSettings, weights: str | None) -> nn.Module:
    """Build a network; published weights come from torchvision's cache, or are downloaded into it.

    torchvision itself puts published weights in: some need old names translated, or their input
    transformed inside the network.
    """
    name = settings.name
    if weights is None:
        options = {"num_classes": settings.classes} | _size_of_file(settings)
        return cast(nn.Module, torchvision.models.get_model(name, **options))
    published = torchvision.models.get_model_weights(name).__members__
    if weights not in published:
        raise InputError(
            f"models.<name>.weights={weights!r} is neither among what torchvision publishes for {name} "
            f"({', '.join(published)}) nor a file, such as .safetensors or .pth."
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
            f"the weights {weights} of {name} cannot be had ({why_refused(error)}); connect to the "
            f"network, remove {cached} if it is damaged, or give a file: "
            f"models.<name>.weights=/weights/{name}.pth."
        ) from error


def _size_of_file(settings: ModelSettings) -> dict[str, int]:
    """Return the size that a vision transformer is made for, where a published file asks for its own."""
    path = weights_file(settings.weights)
    if path is None or not settings.name.startswith("vit_"):
        return {}
    sizes = {
        entry.url: entry.meta["min_size"][0]
        for entry in torchvision.models.get_model_weights(settings.name).__members__.values()
    }
    found = published_name(path, sizes)
    return {} if found is None else {"image_size": sizes[found]}


def _timm_architecture(settings: ModelSettings) -> Architecture:
    name = settings.name
    if not timm.is_model(name.split(".")[0]):
        raise InputError(_unknown_name(name, timm.list_models(), "timm"))
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:
        known = timm.list_pretrained(f"{name.split('.')[0]}.*")
        raise InputError(_unknown_name(name, known, "timm")) from error

    def find() -> tuple[Published, ...]:
        # A tag says whose weights are meant.
        is_open = _is_file(settings) and "." not in name
        tags = timm.list_pretrained(f"{name}.*") if is_open else []
        if not tags:
            return (_timm_published(config),)
        configs = {tag: timm.get_pretrained_cfg(tag) for tag in tags}
        suitable = {
            tag: each for tag, each in configs.items() if each.num_classes == settings.classes
        }
        published: dict[str, Published] = {}
        for tag, each in (suitable or configs).items():
            published |= dict.fromkeys((tag, each.url or tag), _timm_published(each))
        return _of_file(settings, published)

    return Architecture(settings, lambda weights: _build_timm(settings, weights), find)


def _timm_published(config: timm.models.PretrainedCfg | None) -> Published:
    if config is None:
        return Published(_IMAGENET_MEAN, _IMAGENET_STD, None)
    return Published(tuple(config.mean), tuple(config.std), _timm_preprocessing(config))


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
            f"models.<name>.weights={weights!r} is neither 'pretrained' nor a file, such as "
            ".safetensors or .pth; timm names its published weights after the model, for example "
            "models.<name>.name=resnet50.a1_in1k."
        )
    try:
        network: nn.Module = timm.create_model(name, pretrained=True)
    # huggingface_hub raises many kinds of errors without a network, httpx ones among them.
    except Exception as error:
        raise InputError(
            f"the weights of {name} cannot be had ({why_refused(error)}); connect to the network, or "
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
