"""Images and weights."""

from collections.abc import Iterator
from pathlib import Path

from experiments.doctor.findings import Finding
from pixelrobust.errors import InputError
from pixelrobust.files import file_sha256
from pixelrobust.settings import ModelSettings, RunSettings, is_weights_file, model_label

# Of a data set, so many images are decoded.
_DECODED = 32
_IMAGENETTE = "imagenette2"
_ALL_OF_SHA256 = 64


def look_at_images(settings: RunSettings) -> Iterator[Finding]:
    """Whether they are there, have known classes, and some of them can be decoded.

    Raises:
        InputError: they are not, have not, or cannot.
    """
    from pixelrobust.datasets import list_images
    from pixelrobust.datasets.decoded import decode

    dataset = settings.dataset
    root = dataset.root or settings.paths.cache / "imagenette"
    if dataset.kind == "imagenette" and not (root / _IMAGENETTE).is_dir():
        yield Finding("images", "warning", "Imagenette (1.5 GB) is downloaded on first use")
        return
    images = list_images(dataset, settings.paths.cache, settings.seed)
    step = max(len(images) // _DECODED, 1)
    tried = images.sources[::step]
    for source in tried:
        decode(source, dataset.preprocessing)
    classes = len(set(images.labels.tolist()))
    text = f"{len(images):,} of {classes:,} classes in {images.root}; {len(tried)} were decoded"
    yield Finding("images", "ok", text)


def network_name(key: str, settings: ModelSettings) -> str:
    """What findings call a network."""
    return f"network {model_label(key, settings)}"


def look_at_network(key: str, settings: ModelSettings) -> Iterator[Finding]:
    """Whether its weights are there, are what was published, and fit.

    Args:
        key: of the network below `models`.
        settings: of the network.

    Raises:
        InputError: they are not, or do not.
    """
    from pixelrobust.models import load_classifier

    name = network_name(key, settings)
    missing = _not_downloaded(settings)
    if missing:
        yield Finding(
            name, "warning", f"{missing} is downloaded on first use",
            "Connect to the network then, or give a file: --model NAME=FILE.",
        )  # fmt: skip
        return
    classifier = load_classifier(key, settings)
    yield Finding(name, "ok", f"weights fit; SHA-256 {classifier.weights_sha256[:10]}")


def look_at_published() -> Iterator[Finding]:
    """Whether all published weights in torch's cache are what their names say."""
    import torch

    from pixelrobust.models.published import check_published, has_digest

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    files = [path for path in sorted(folder.glob("*-*")) if path.is_file() and has_digest(path)]
    faults = 0
    for path in files:
        try:
            check_published(path)
        except InputError as error:
            faults += 1
            yield Finding("torch's cache", "problem", str(error))
    if not faults:
        text = f"{len(files)} files of published weights in {folder}, all as published"
        yield Finding("torch's cache", "ok", text)


def _not_downloaded(settings: ModelSettings) -> str:
    """What weights still have to be downloaded; empty where none."""
    if is_weights_file(settings.weights):
        return ""
    if settings.source == "torchvision":
        return _missing_of_torchvision(settings)
    if settings.source == "timm" and settings.weights == "pretrained":
        return _missing_of_timm(settings)
    return ""


def _missing_of_torchvision(settings: ModelSettings) -> str:
    import torchvision

    from pixelrobust.models.published import cached_file

    # An unknown name or set of weights is told of by loading it.
    if settings.name not in torchvision.models.list_models(module=torchvision.models):
        return ""
    published = torchvision.models.get_model_weights(settings.name).__members__
    if settings.weights not in published:
        return ""
    file = cached_file(published[settings.weights].url)
    return "" if file.is_file() else file.name


def _missing_of_timm(settings: ModelSettings) -> str:
    """The same; weights that are there are compared with their SHA-256."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    try:
        config = timm.get_pretrained_cfg(settings.name)
    except RuntimeError:
        return ""
    if config is None or not config.hf_hub_id:
        return ""
    for name in ("model.safetensors", "pytorch_model.bin"):
        cached = try_to_load_from_cache(config.hf_hub_id, name)
        if isinstance(cached, str):
            _check_blob(Path(cached).resolve())
            return ""
    return f"{config.hf_hub_id} of Hugging Face's hub"


def _check_blob(path: Path) -> None:
    """Raise InputError unless a file of Hugging Face's cache has the SHA-256 that names it."""
    if len(path.name) != _ALL_OF_SHA256:
        return
    found = file_sha256(path)
    if found != path.name:
        raise InputError(
            f"weights file {path} is not what was downloaded: its SHA-256 begins with {found[:8]}; "
            "delete it, and it is downloaded again."
        )
