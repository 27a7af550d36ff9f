"""Configuration as plain typed values: the one place where a config becomes arguments."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from pixelrobust.errors import InputError
from pixelrobust.grid import Cell, as_tuple, build_grid, check_amplitude, check_area, check_num

PACKAGE_PREFIX = "package:"
"""What `weights` begins with where an installed package carries the file."""

# Keys that only feed other keys of the config, or that are read apart.
_NOT_PASSED_ON = ("selection", "grid_draws")

Positive = Annotated[StrictInt, Field(ge=1)]
NotNegative = Annotated[StrictInt, Field(ge=0)]
Channels = Annotated[tuple[float, ...], Field(min_length=1)]


def _checked(check: Any) -> Any:
    """A tuple field that takes a scalar too, and whose every item passes the check."""

    def convert(value: Any) -> tuple[Any, ...]:
        items = as_tuple(value)
        for item in items:
            check(item)
        return items

    return BeforeValidator(convert)


RETRAINED = ("retraining", "transfer", "distances")
"""What `measure` says where networks are retrained."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_S = TypeVar("_S", bound=_Settings)


class PerturbationSettings(_Settings):
    """The grid: every combination of num, amplitude and area (see `pixelrobust.grid.Cell`)."""

    num: Annotated[tuple[StrictInt, ...], _checked(check_num), Field(min_length=1)]
    amplitude: Annotated[tuple[StrictInt | None, ...], _checked(check_amplitude)]
    area: Annotated[tuple[StrictInt | None, ...], _checked(check_area)]

    def cells(self) -> list[Cell]:
        return build_grid(self.num, self.amplitude, self.area)


class PreprocessingSettings(_Settings):
    """From an image file to the uint8 crop that pixels are changed on."""

    resize: Positive
    crop: Positive
    interpolation: Literal["bilinear", "bicubic", "nearest"]

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop > self.resize:
            raise ValueError(
                f"crop={self.crop} is larger than resize={self.resize}; make resize at least {self.crop}."
            )
        return self


class DatasetSettings(_Settings):
    """Which images, with which labels."""

    kind: Literal["foolbox", "imagefolder", "imagenet", "imagenette"]
    root: Path | None
    train_root: Path | None = None
    labels: Path | None
    classes: Path | Literal["folders"] | None
    candidates: Positive | None
    limit: Positive | None
    preprocessing: PreprocessingSettings
    description: StrictStr
    caveat: StrictStr


class ModelSettings(_Settings):
    """A network, its weights, and what it expects of its input."""

    source: Literal["torchvision", "timm", "checkpoint"]
    name: StrictStr
    path: Path | None = None
    weights: StrictStr
    match: Literal["names", "order"]
    classes: Positive
    mean: Channels | None
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] | None
    label: StrictStr | None = None


class AttackSettings(_Settings):
    """How images are attacked before their pixels are changed (see `pixelrobust.adversarial`)."""

    kind: Literal["adversarial"]
    target: Annotated[StrictStr, Field(alias="_target_")]
    arguments: dict[StrictStr, Any]
    epsilon: Annotated[
        tuple[Literal["minimal"] | Annotated[float, Field(gt=0)], ...],
        BeforeValidator(as_tuple),
        Field(min_length=1),
    ]
    step: Annotated[float, Field(gt=0)]
    max_epsilon: Annotated[float, Field(gt=0)]
    round: StrictBool
    wanted: Positive


Control = Literal["unchanged", "noise", "erasing", "trivial_augment", "auto_augment", "augmix"]


class RetrainSettings(_Settings):
    """How a network is retrained, and with what it is compared (see `configs/retrain`)."""

    model: StrictStr | None
    num: Annotated[tuple[NotNegative, ...], BeforeValidator(as_tuple)]
    controls: Annotated[tuple[Control, ...], BeforeValidator(as_tuple)]
    noise: Annotated[float, Field(gt=0)]
    seeds: Annotated[tuple[NotNegative, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    images: Positive
    categories: Positive | None
    selected: StrictBool
    trainable: Literal["last", "all"]
    head: Literal["random", "copied"]
    epochs: Positive
    steps: Positive | None
    learning_rate: Annotated[float, Field(gt=0)]
    optimizer: Literal["sgd", "adam"]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    batch_size: Positive
    originals: StrictBool
    redraw: StrictBool
    batch_norm: Literal["eval", "train"]
    precision: Literal["fp32", "bf16"]
    boundaries: Positive | None
    measured: Annotated[StrictInt, Field(ge=0)]
    save: Path | None


class SelectionSettings(_Settings):
    """Models that must all classify an image correctly for it to take part; None: the evaluated."""

    models: tuple[StrictStr, ...] | None


class EngineSettings(_Settings):
    """What runs the forward passes."""

    name: Literal["eager"]
    devices: StrictStr | Positive | tuple[StrictStr, ...]
    batch_size: Positive | None


class PathSettings(_Settings):
    """Where things are read and written; all absolute."""

    root: Path
    results: Path
    cache: Path


class PixelIndexSettings(_Settings):
    """How the value range enters the Pixel-index."""

    amplitude_share: Literal["range", "half"]


class RunSettings(_Settings):
    """Everything that one run needs to know."""

    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    profile: StrictStr | None
    seed: Annotated[StrictInt, Field(ge=0)]
    draws: Positive
    measure: Literal[
        "outcomes", "activations", "descriptions", "retraining", "transfer", "distances"
    ]
    pictures: Annotated[StrictInt, Field(ge=0)]
    models: dict[str, ModelSettings]
    selection_models: dict[str, ModelSettings]
    perturbation: PerturbationSettings
    dataset: DatasetSettings
    attack: AttackSettings | None
    retrain: RetrainSettings
    engine: EngineSettings
    pixel_index: PixelIndexSettings
    paths: PathSettings

    @model_validator(mode="after")
    def _grid_fits(self) -> Self:
        side = self.dataset.preprocessing.crop
        for cell in self.perturbation.cells():
            cell.check_fits((side, side))
        labels = [model_label(key, model) for key, model in self.models.items()]
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise ValueError(
                f"two entries of models share the label '{repeated[0]}'; set models.<name>.label apart."
            )
        return self

    @model_validator(mode="after")
    def _measures_one_thing(self) -> Self:
        if self.attack and self.measure not in ("outcomes", "transfer"):
            raise ValueError(f"measure={self.measure} takes images as they are; set attack=none.")
        if self.measure == "transfer" and not self.attack:
            raise ValueError("measure=transfer needs an attack; set attack=fgsm.")
        named = self.retrain.model if self.measure in RETRAINED else None
        if named is not None and named not in self.models:
            raise ValueError(
                f"retrain.model={self.retrain.model} is not among the models "
                f"({', '.join(self.models)}); name one of them."
            )
        largest = max(self.retrain.num, default=0)
        side = self.dataset.preprocessing.crop
        if self.measure in RETRAINED and largest > side**2:
            raise ValueError(
                f"retrain.num={largest} is more than the {side**2} pixels of an image of {side} x "
                f"{side}; give fewer."
            )
        if self.pictures and (self.measure != "outcomes" or self.attack):
            raise ValueError("pictures are drawn of outcomes of plain images; set pictures=0.")
        if self.measure == "activations" and self.draws > 1:
            raise ValueError("activations are measured under one change an image; set draws=1.")
        return self

    def on_device(self, device: str) -> Self:
        """The same run on one device."""
        engine = self.engine.model_copy(update={"devices": device})
        return self.model_copy(update={"engine": engine})

    def identity(self) -> dict[str, Any]:
        """What determines the numbers, as plain data.

        Left out: words, pictures, and where files lie; their contents are hashed elsewhere.
        """
        data = self.model_dump(
            mode="json",
            exclude={
                "paths": True,
                "profile": True,
                "pictures": True,
                "engine": {"devices", "batch_size"},
                "dataset": {"root", "train_root", "labels", "classes", "description", "caveat"},
                "models": {"__all__": {"label", "path"}},
                "selection_models": {"__all__": {"label", "path"}},
            },
        )
        # What a run does not use is no part of it.
        if data["attack"] is None:
            del data["attack"]
        if data["measure"] == "outcomes":
            del data["measure"]
        if self.measure in RETRAINED:
            del data["retrain"]["save"]
        else:
            del data["retrain"]
        for group in ("models", "selection_models"):
            for model in data[group].values():
                if is_weights_file(model["weights"]):
                    model["weights"] = Path(model["weights"]).name
        return data


def model_label(key: str, model: ModelSettings) -> str:
    """What tables call a model: its label where it has one, else its key under `models`."""
    return model.label or key


def fingerprint(*parts: Any) -> str:
    """A hexadecimal SHA-256 over plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def build_settings(config: Mapping[str, Any], known_models: Mapping[str, Any]) -> RunSettings:
    """Validate a resolved config.

    Args:
        config: plain data with the keys of `configs/config.yaml`.
        known_models: settings of models that `selection.models` may name besides `models`.

    Raises:
        InputError: a value is wrong; one sentence a fault.
    """
    data = {key: value for key, value in config.items() if key not in _NOT_PASSED_ON}
    data["paths"] = _absolute_paths(config["paths"])
    data["dataset"] = _anchored(
        config["dataset"], ("root", "train_root", "labels", "classes"), data["paths"]["root"]
    )
    data["retrain"] = _anchored(config["retrain"], ("save",), data["paths"]["root"])
    if isinstance(config["attack"], Mapping) and config["attack"].get("kind") == "none":
        data["attack"] = None
    models = config.get("models") or {}
    if not models:
        raise InputError("no model is given; name one, for example model=resnet101.")
    chosen = _validate(SelectionSettings, config["selection"], "selection.").models
    data["selection_models"] = {
        name: _selection_model(name, models, known_models) for name in chosen or models
    }
    for group in ("models", "selection_models"):
        data[group] = {
            name: _anchored_weights(model, data["paths"]["root"])
            for name, model in (data.get(group) or {}).items()
        }
    return _validate(RunSettings, data, "")


def _selection_model(name: str, models: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    if name in models:
        return models[name]
    if name in known:
        return known[name]
    raise InputError(
        f"selection.models names '{name}', which is not a model; "
        f"known are {', '.join(sorted({*models, *known}))}."
    )


def _absolute_paths(paths: Mapping[str, Any]) -> dict[str, Path]:
    root = Path(paths["root"]).expanduser().resolve()
    return {
        "root": root,
        **{key: root / Path(paths[key]).expanduser() for key in ("results", "cache")},
    }


def _anchored(section: Mapping[str, Any], keys: tuple[str, ...], root: Path) -> dict[str, Any]:
    """The section with its relative paths taken from paths.root."""
    anchored = dict(section)
    for key in keys:
        if anchored.get(key) not in (None, "folders"):
            anchored[key] = root / Path(str(anchored[key])).expanduser()
    return anchored


def _anchored_weights(model: Any, root: Path) -> Any:
    """The model with its relative files taken from paths.root."""
    if not isinstance(model, Mapping):
        return model
    anchored = _anchored(model, ("path",), root)
    if is_weights_file(model.get("weights")):
        anchored["weights"] = str(root / Path(model["weights"]).expanduser())
    return anchored


def is_weights_file(weights: Any) -> bool:
    """Whether a `weights` value names a file, rather than published weights or a package's file."""
    if not isinstance(weights, str) or weights.startswith(PACKAGE_PREFIX):
        return False
    return weights.lower().endswith((".safetensors", ".pth", ".pt", ".bin"))


def _validate(kind: type[_S], data: Any, prefix: str) -> _S:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        sentences = dict.fromkeys(_sentence(detail, prefix) for detail in error.errors())
        raise InputError("\n".join(sentences)) from None


def _sentence(detail: Any, prefix: str) -> str:
    """One sentence for one fault found by pydantic."""
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return str(cause)
    parts = [str(part) for part in detail["loc"] if not isinstance(part, int)]
    # Models named in both places are one config: its faults are told once.
    key = prefix + ".".join(parts).replace("selection_models.", "models.")
    if detail["type"] == "value_error":
        return f"{key}: {cause}" if key else str(cause)
    if detail["type"] == "extra_forbidden":
        return f"{key} is not a key of the configuration; `python -m experiments.run --help` lists them."
    if detail["type"] == "missing":
        return f"{key} is missing; `python -m experiments.run --help` says what it means."
    requirement = detail["msg"][detail["msg"].find("should") :]
    return f"{key}={detail['input']!r} is wrong: it {requirement}."
