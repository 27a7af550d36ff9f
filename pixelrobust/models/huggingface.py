"""Image classifiers of Hugging Face's transformers from a folder: nothing of it is run or downloaded."""

import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pixelrobust.errors import InputError, first_line
from pixelrobust.files import how_to_install
from pixelrobust.models.heads import Logits
from pixelrobust.models.weights import check_finite
from pixelrobust.settings import PreprocessingSettings

_WEIGHTS, _SHARDS = "model.safetensors", "model.safetensors.index.json"
_CONFIG = "config.json"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
# These keys name code that lies in the folder, or is fetched for it.
_CODE = ("auto_map", "custom_pipelines")
# These of an image processor's switches (do_…) change no colours, or do so in a way that is known here.
_USUAL = ("resize", "rescale", "normalize", "center_crop", "convert_rgb", "pad", "reduce_labels")
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_CONVNEXT_CROPS_BELOW = 384


@dataclass(frozen=True)
class HuggingFaceFolder:
    """A folder that transformers' save_pretrained wrote.

    Attributes:
        path: the folder.
        mean, std: of the training images, by channel, in [0, 1].
        preprocessing: what the image processor does before it normalises; None where it says nothing
            that can be done here.
        labels: the names of the outputs' classes.
    """

    path: Path
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: PreprocessingSettings | None
    labels: tuple[str, ...]


def read_folder(
    path: Path | None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> HuggingFaceFolder:
    """Read what a folder says of its network, without its weights.

    Args:
        path: the folder.
        mean, std: instead of what its image processor says; both: it need not have one.

    Raises:
        InputError: it is no such folder, it holds or asks for code, its weights are not in
            safetensors, or it does not say how images are normalised.
    """
    folder = _checked_folder(path)
    config = _read_json(folder / _CONFIG)
    labels = config.get("id2label")
    names = labels if isinstance(labels, dict) else {}
    count = len(names) if names else config.get("num_labels", 2)
    processor: dict[str, Any] = {}
    for name in _PROCESSORS:
        if (folder / name).is_file() and not processor:
            content = _read_json(folder / name)
            nested = content.get("image_processor")
            processor = nested if isinstance(nested, dict) else content
    unusual = [key for key, on in processor.items() if key[:3] == "do_" and on]
    unusual = [key for key in unusual if key.removeprefix("do_") not in _USUAL]
    if unusual:
        raise InputError(
            f"the image processor of checkpoint {folder} does more to colours than normalise each "
            f"channel, such as exchanging red and blue ({unusual[0]}); that is not supported."
        )
    if mean is None or std is None:
        own_mean, own_std = _normalisation(processor, folder)
        mean, std = mean or own_mean, std or own_std
    return HuggingFaceFolder(
        folder,
        tuple(mean),
        tuple(std),
        _preprocessing(processor),
        tuple(str(names.get(str(index), index)) for index in range(count)),
    )


def load_network(folder: HuggingFaceFolder) -> nn.Module:
    """Load a folder's network: (B, 3, H, W) normalised -> (B, K) logits, float32, in eval mode.

    Raises:
        InputError: transformers knows no such image classifier, or weights are missing, unsound or
            do not fit.
    """
    path = folder.path
    with _quiet_and_offline() as transformers:
        try:
            network, found = transformers.AutoModelForImageClassification.from_pretrained(
                path,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=torch.float32,
                attn_implementation="eager",
            )
        # Configs and weights from anywhere can raise nearly anything.
        except Exception as error:
            raise InputError(
                f"checkpoint {path} cannot be loaded as an image classifier ({first_line(error)}); give "
                "a folder that save_pretrained wrote."
            ) from error
    lacking = sorted({*found["missing_keys"], *(key[0] for key in found["mismatched_keys"])})
    if lacking:
        raise InputError(
            f"checkpoint {path} lacks {len(lacking)} of the network's tensors, or holds them in other "
            f"shapes ({lacking[0]}, …); give one that was trained to classify images."
        )
    check_finite(network.state_dict(), str(path))
    return Logits(network.eval())


def _checked_folder(path: Path | None) -> Path:
    """Return the folder; InputError unless it holds a network in safetensors and asks for no code."""
    if path is None:
        raise InputError("models.<name>.path is not set; give the folder of a checkpoint.")
    if not (path / _CONFIG).is_file():
        raise InputError(
            f"models.<name>.path={path} holds no {_CONFIG}; give the folder of a Hugging Face checkpoint "
            "on this machine (models are not downloaded)."
        )
    for name in (_CONFIG, *_PROCESSORS):
        content = _read_json(path / name) if (path / name).is_file() else {}
        asked = next((key for key in _CODE if content.get(key)), None)
        if asked is not None:
            raise InputError(
                f"checkpoint {path} asks for code of its own ({asked} in {name}), which is never run; "
                "give a checkpoint of an architecture that transformers has."
            )
    if (path / "adapter_config.json").is_file():
        raise InputError(
            f"checkpoint {path} holds an adapter, not a network; merge it into its network "
            "(merge_and_unload) and save that."
        )
    if (path / _WEIGHTS).is_file():
        return path
    if not (path / _SHARDS).is_file():
        raise InputError(
            f"checkpoint {path} holds no {_WEIGHTS}; other files of weights may hold code and are not "
            "read: save it by save_pretrained(…, safe_serialization=True)."
        )
    shards = _read_json(path / _SHARDS).get("weight_map")
    for shard in set(shards.values()) if isinstance(shards, dict) else {None}:
        plain = isinstance(shard, str) and re.fullmatch(r"[^/\\]+\.safetensors", shard)
        if not plain or not (path / str(shard)).is_file():
            raise InputError(
                f"checkpoint {path} lacks weights, or looks for them elsewhere ({shard!r} in {_SHARDS}); "
                "give a whole one."
            )
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({first_line(error)}); give a whole one."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold settings; give a whole one.")
    return content


def _normalisation(
    processor: dict[str, Any], folder: Path
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return an image processor's mean and std by channel, for images in [0, 1]."""
    normalises, rescales = (processor.get(f"do_{key}", True) for key in ("normalize", "rescale"))
    usual = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    about = processor if normalises else usual
    try:
        mean, std = np.array([about[key] for key in usual], dtype=float)
        largest = 255 * float(processor.get("rescale_factor", 1 / 255) if rescales else 1)
        found = np.array([mean, std]) * (1 / largest)
        is_sound = found.shape == (2, 3) and np.isfinite(found).all() and (found[1] > 0).all()
    except (LookupError, TypeError, ValueError, ZeroDivisionError):
        is_sound = False
    if not is_sound or processor.get("rescale_offset"):
        raise InputError(
            f"checkpoint {folder} does not say how images are normalised; add its {_PROCESSORS[0]}, or "
            "give models.<name>.mean and std."
        )
    # EfficientNet's divides by std twice.
    found[1] *= std if processor.get("include_top") else 1
    return tuple(found[0].round(6).tolist()), tuple(found[1].round(6).tolist())


def _preprocessing(processor: dict[str, Any]) -> PreprocessingSettings | None:
    """Return an image processor's resizing and cropping, the short side standing for both."""
    edge, crop = _side(processor.get("size")), _side(processor.get("crop_size"))
    if edge is None:
        return None
    crop = crop if processor.get("do_center_crop") else None
    share = processor.get("crop_pct")
    kind = str(processor.get("image_processor_type") or processor.get("feature_extractor_type"))
    resize = edge
    try:
        if share and (edge < _CONVNEXT_CROPS_BELOW if kind.startswith("ConvNext") else crop):
            resize = int(edge / share)
        elif kind.startswith("Levit"):
            resize = int(edge * 256 / 224)
        return PreprocessingSettings(
            crop=min(crop or edge, resize),
            resize=max(crop or edge, resize),
            interpolation=_RESAMPLING.get(processor.get("resample")),  # type: ignore[arg-type]
        )
    except (TypeError, ValueError):
        return None


def _side(size: Any) -> int | None:
    """Return the side of a square, or the short side."""
    if not isinstance(size, dict):
        return size if isinstance(size, int) else None
    known = [size.get(key) for key in ("shortest_edge", "height", "width") if size.get(key)]
    return known[0] if known and len(set(known)) == 1 and isinstance(known[0], int) else None


@contextmanager
def _quiet_and_offline() -> Iterator[Any]:
    """Give transformers, which within it downloads nothing, whatever a folder asks for, and shows no bars."""
    if importlib.util.find_spec("transformers") is None:
        raise InputError(
            "models of source huggingface need the package transformers, which is not installed; "
            f"{how_to_install('huggingface')}."
        )
    import huggingface_hub.constants as constants
    import transformers
    from transformers.utils import logging as untyped_logging

    logging: Any = untyped_logging
    before = constants.HF_HUB_OFFLINE, logging.get_verbosity(), logging.is_progress_bar_enabled()
    constants.HF_HUB_OFFLINE = True
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        constants.HF_HUB_OFFLINE = before[0]
        logging.set_verbosity(before[1])
        if before[2]:
            logging.enable_progress_bar()
