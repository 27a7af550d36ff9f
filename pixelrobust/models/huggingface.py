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

from pixelrobust.datasets.classes import ClassNames, known_names, normalised_name
from pixelrobust.errors import InputError, first_line
from pixelrobust.files import how_to_install
from pixelrobust.models.heads import ExpandedLogits, Logits
from pixelrobust.settings import PreprocessingSettings

_WEIGHTS, _SHARDS = "model.safetensors", "model.safetensors.index.json"
_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_PROCESSORS = "processor_config.json"
# Names of code that lies in the folder, or is fetched for it.
_CODE = ("auto_map", "custom_pipelines")
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# Of normalised values, which are a few units large.
_TOLERANCE = 1e-4
_PROBED_SIDE = 32
_CONVNEXT_CROPS_BELOW = 384


@dataclass(frozen=True)
class Checkpoint:
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


def read_checkpoint(
    path: Path | None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Checkpoint:
    """What a folder says of its network, without its weights.

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
    processor = _processor(folder, required=mean is None or std is None)
    found = ((0.0,), (1.0,)) if processor is None else _normalisation(processor, folder)
    return Checkpoint(
        folder,
        tuple(mean or found[0]),
        tuple(std or found[1]),
        None if processor is None else _preprocessing(processor),
        tuple(str(names.get(str(index), index)) for index in range(count)),
    )


def load_network(checkpoint: Checkpoint) -> nn.Module:
    """The network of a folder: (B, 3, H, W) normalised -> (B, K) logits, float32, in eval mode.

    Raises:
        InputError: transformers knows no such image classifier, or weights are missing, unsound or
            do not fit.
    """
    path = checkpoint.path
    with _quiet_and_offline() as transformers:
        modeling_auto = transformers.models.auto.modeling_auto
        kind = _read_json(path / _CONFIG).get("model_type")
        if kind not in modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
            raise InputError(
                f"checkpoint {path} is of the kind {kind!r}, of which transformers has no image "
                "classifier; give another."
            )
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
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"checkpoint {path} holds NaN or infinity in {name}; give sound weights."
            )
    return Logits(network.eval())


def _checked_folder(path: Path | None) -> Path:
    if path is None:
        raise InputError("models.<name>.path is not set; give the folder of a checkpoint.")
    if not (path / _CONFIG).is_file():
        raise InputError(
            f"models.<name>.path={path} holds no {_CONFIG}; give the folder of a Hugging Face checkpoint "
            "on this machine (models are not downloaded)."
        )
    for name in (_CONFIG, _PROCESSOR, _PROCESSORS):
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
    _check_weights(path)
    return path


def _check_weights(path: Path) -> None:
    if (path / _WEIGHTS).is_file():
        return
    if not (path / _SHARDS).is_file():
        raise InputError(
            f"checkpoint {path} holds no {_WEIGHTS}; other files of weights may hold code and are not "
            "read: save it by save_pretrained(…, safe_serialization=True)."
        )
    shards = _read_json(path / _SHARDS).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) else {None}
    for name in names:
        plain = isinstance(name, str) and name == Path(name).name and name.endswith(".safetensors")
        if not plain or not (path / str(name)).is_file():
            raise InputError(
                f"checkpoint {path} lacks weights, or looks for them elsewhere ({name!r} in {_SHARDS}); "
                "give a whole one."
            )


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


def _processor(folder: Path, required: bool) -> Any:
    """The image processor; None where there is none and none is required."""
    if not any((folder / name).is_file() for name in (_PROCESSOR, _PROCESSORS)):
        if not required:
            return None
        raise InputError(
            f"checkpoint {folder} does not say how images are normalised; add its {_PROCESSOR}, or give "
            "models.<name>.mean and std."
        )
    with _quiet_and_offline() as transformers:
        try:
            return transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            raise InputError(
                f"the image processor of checkpoint {folder} cannot be read ({first_line(error)}); give "
                f"a whole {_PROCESSOR}."
            ) from error


def _normalisation(processor: Any, folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std by channel, in [0, 1]: found by showing it black, white and a colour.

    So rescaling by whatever factor, offsets and normalising twice all count.
    """
    try:
        black, white, seen = (_shown(processor, colour) for colour in (0, 255, (26, 128, 230)))
    except Exception as error:
        raise InputError(
            f"the image processor of checkpoint {folder} cannot be used ({first_line(error)}); give "
            "models.<name>.mean and std, and no such file."
        ) from error
    step = white - black
    expected = black + step * np.array([26, 128, 230]) / 255
    if not np.isfinite(step).all() or (step <= 0).any() or abs(seen - expected).max() > _TOLERANCE:
        raise InputError(
            f"the image processor of checkpoint {folder} does more to colours than normalise each "
            "channel, such as exchanging red and blue; that is not supported."
        )
    return (
        tuple(round(float(value), 6) for value in -black / step),
        tuple(round(float(value), 6) for value in 1 / step),
    )


def _shown(processor: Any, colour: int | tuple[int, int, int]) -> Any:
    """(3,) float64: what becomes of one colour."""
    image = np.full((_PROBED_SIDE, _PROBED_SIDE, 3), colour, dtype=np.uint8)
    given = processor(
        images=image, do_resize=False, do_center_crop=False, do_pad=False, return_tensors="np"
    )
    return np.asarray(given["pixel_values"], dtype=np.float64)[0].mean(axis=(1, 2))


def _preprocessing(processor: Any) -> PreprocessingSettings | None:
    """Resizing and cropping as an image processor does them, the short side standing for both."""
    about = processor.to_dict()
    edge = _side(about.get("size"))
    interpolation = _RESAMPLING.get(int(about.get("resample") or 0))
    if edge is None or interpolation is None:
        return None
    kind = str(about.get("image_processor_type"))
    crop = _side(about.get("crop_size")) if about.get("do_center_crop") else None
    share = about.get("crop_pct")
    resize = edge
    if kind.startswith("ConvNext"):
        resize = int(edge / share) if edge < _CONVNEXT_CROPS_BELOW and share else edge
    elif share and crop:
        resize = int(edge / share)
    elif kind.startswith("Levit"):
        resize = int(edge * 256 / 224)
    sides = sorted([crop or edge, resize])
    try:
        return PreprocessingSettings(
            crop=sides[0],
            resize=sides[1],
            interpolation=interpolation,  # type: ignore[arg-type]  # one of them
        )
    except ValueError:
        return None


def _side(size: Any) -> int | None:
    """The side of a square, or the short side."""
    if not isinstance(size, dict):
        return size if isinstance(size, int) else None
    known = [size.get(key) for key in ("shortest_edge", "height", "width") if size.get(key)]
    return known[0] if known and len(set(known)) == 1 and isinstance(known[0], int) else None


@contextmanager
def _quiet_and_offline() -> Iterator[Any]:
    """transformers, which within it downloads nothing, whatever a folder asks for, and shows no bars."""
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


# Which class of a data set each output of a network stands for.

_NO_NAME = re.compile(r"(LABEL_)?\d+")
_REMEDY = (
    "give models.<name>.labels, a file with one class name a line in the order of its outputs, or "
    "order where they are in the data set's order."
)


def arrange_outputs(name: str, labels: Sequence[str], classes: ClassNames) -> nn.Module:
    """A last layer that brings a network's outputs into the order of a data set's classes.

    An output whose class the data set lacks stands behind them, so that it can still win; a class
    without an output never does.

    Args:
        name: what messages call the network.
        labels: a name, or several with commas between them, of the class of each output.
        classes: of the data set, the names of each.

    Raises:
        InputError: not one label is a class of the data set, one fits several equally well, or two
            fit the same.
    """
    if all(_NO_NAME.fullmatch(label) for label in labels):
        return nn.Identity()
    known = known_names(classes)
    places = [_place(name, label, own, known, classes) for own, label in enumerate(labels)]
    if all(place is None for place in places):
        raise InputError(
            f"none of the outputs of model {name} ({_some(labels)}) is called like a class of the data "
            f"set ({_some([names[0] for names in classes])}); {_REMEDY}"
        )
    taken: dict[int, str] = {}
    for place, label in zip(places, labels, strict=True):
        if place is not None and taken.setdefault(place, label) is not label:
            raise InputError(
                f"two outputs of model {name} are the class {classes[place][0]!r} of the data set; "
                f"{_REMEDY}"
            )
    behind = iter(range(len(classes), len(classes) + len(labels)))
    order = [next(behind) if place is None else place for place in places]
    if order == list(range(len(classes))):
        return nn.Identity()
    return ExpandedLogits(nn.Identity(), order, max(len(classes), max(order) + 1))


def _place(
    name: str, label: str, own: int, known: dict[str, set[int]], classes: ClassNames
) -> int | None:
    """The class that shares most of its names with a label; None where none shares any."""
    parts = {normalised_name(part) for part in (label, *label.split(","))} - {""}
    fitting = set().union(*(known.get(part, set()) for part in parts))
    if not fitting:
        return None
    shares = {index: _share(parts, classes[index]) for index in fitting}
    best = [index for index in fitting if shares[index] == max(shares.values())]
    # ImageNet has two cranes.
    if own in best:
        return own
    if len(best) > 1:
        raise InputError(
            f"the output {label!r} of model {name} fits {len(best)} classes of the data set; {_REMEDY}"
        )
    return best[0]


def _share(parts: set[str], names: Sequence[str]) -> float:
    own = {normalised_name(name) for name in names}
    return len(parts & own) / len(parts | own)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
