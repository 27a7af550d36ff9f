"""The sections of a config as typed values."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from pixelrobust.grid import Cell, as_tuple, build_grid, check_amplitude, check_area, check_num

PACKAGE_PREFIX = "package:"
"""What `weights` begins with where an installed package carries the file."""

ATTACK_PREFIX = "foolbox.attacks."
"""What the name of an attack begins with; nothing else is ever looked up."""

_LONGEST_NAME = 100

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


class Section(BaseModel):
    """Typed values of one section of the config; unknown keys are refused, nothing can be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PerturbationSettings(Section):
    """The grid: every combination of num, amplitude and area (see `pixelrobust.grid.Cell`)."""

    num: Annotated[tuple[StrictInt, ...], _checked(check_num), Field(min_length=1)]
    amplitude: Annotated[tuple[StrictInt | None, ...], _checked(check_amplitude)]
    area: Annotated[tuple[StrictInt | None, ...], _checked(check_area)]

    def cells(self) -> list[Cell]:
        return build_grid(self.num, self.amplitude, self.area)


class PreprocessingSettings(Section):
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


class DatasetSettings(Section):
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


class ModelSettings(Section):
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


class AttackSettings(Section):
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


class RetrainSettings(Section):
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


class SelectionSettings(Section):
    """Models that must all classify an image correctly for it to take part; None: the evaluated."""

    models: tuple[StrictStr, ...] | None


EngineName = Literal["eager", "compile", "openvino"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]


class EngineSettings(Section):
    """What runs the forward passes (see `configs/engine`)."""

    name: EngineName | Literal["auto"]
    devices: StrictStr | Positive | tuple[StrictStr, ...]
    batch_size: Positive | None
    precision: Precision
    compared: NotNegative


class PathSettings(Section):
    """Where things are read and written; all absolute."""

    root: Path
    results: Path
    cache: Path


class PixelIndexSettings(Section):
    """How the value range enters the Pixel-index."""

    amplitude_share: Literal["range", "half"]


def model_label(key: str, model: ModelSettings) -> str:
    """What tables call a model: its label where it has one, else its key under `models`."""
    return model.label or key


def is_plain_name(name: str) -> bool:
    """Whether a name can stand in tables, figures and paths, and is no formula of a spreadsheet."""
    if not name[:1].isalnum() or len(name) > _LONGEST_NAME:
        return False
    return name.isprintable() and not set(name) & set("/\\")


def is_weights_file(weights: Any) -> bool:
    """Whether a `weights` value names a file, rather than published weights or a package's file."""
    if not isinstance(weights, str) or weights.startswith(PACKAGE_PREFIX):
        return False
    return weights.lower().endswith((".safetensors", ".pth", ".pt", ".bin"))
