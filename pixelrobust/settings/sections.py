"""The other sections of the config as typed values."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from pixelrobust.errors import InputError
from pixelrobust.grid import Cell, as_tuple, build_grid, check_amplitude, check_area, check_num
from pixelrobust.settings.fields import (
    Batch,
    Draws,
    NotNegative,
    Parts255,
    Positive,
    Real,
    Section,
    Seed,
    checked,
)

RENAMED_ATTACK = "attack._target_ is now attack.name, without the module; give attack.name=FGSM."
"""What is said of the key that attacks had before."""

# Upper bounds keep what no computer could finish, or hold in memory, from being tried.
_MAX_DEVICES = 64
_MAX_EPOCHS = 100_000
_MAX_STEPS = 10**7
_MAX_SEARCH = 10_000
_MAX_ARGUMENT = 10**6
_MAX_TRACKED_IMAGES = 100
_MAX_TIMEOUT = 3600


class PerturbationSettings(Section):
    """The grid: every combination of num, amplitude and area (see `pixelrobust.grid.Cell`)."""

    num: Annotated[tuple[StrictInt, ...], checked(check_num), Field(min_length=1)]
    amplitude: Annotated[
        tuple[StrictInt | None, ...], checked(check_amplitude), Field(min_length=1)
    ]
    area: Annotated[tuple[StrictInt | None, ...], checked(check_area), Field(min_length=1)]

    def cells(self) -> list[Cell]:
        return build_grid(self.num, self.amplitude, self.area)


class AttackSettings(Section):
    """How images are attacked before their pixels are changed (see `pixelrobust.adversarial`)."""

    kind: Literal["adversarial"]
    name: StrictStr
    arguments: dict[StrictStr, Any]
    epsilon: Annotated[
        tuple[Literal["minimal"] | Parts255, ...],
        BeforeValidator(as_tuple),
        Field(min_length=1),
    ]
    step: Parts255
    max_epsilon: Parts255
    round: StrictBool
    wanted: Positive

    @model_validator(mode="before")
    @classmethod
    def _is_called_by_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and "_target_" in data:
            raise InputError(RENAMED_ATTACK)
        return data

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.max_epsilon > _MAX_SEARCH * self.step:
            raise InputError(
                f"attack.step={self.step} takes more than {_MAX_SEARCH:,} steps to "
                f"attack.max_epsilon={self.max_epsilon}; give a larger step."
            )
        for name, value in self.arguments.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and not 0 <= value <= _MAX_ARGUMENT:  # NaN is refused too
                raise InputError(
                    f"attack.arguments.{name}={value} is out of range; give a number from 0 to "
                    f"{_MAX_ARGUMENT:,}."
                )
        return self


Control = Literal["unchanged", "noise", "erasing", "trivial_augment", "auto_augment", "augmix"]


class RetrainSettings(Section):
    """How a network is retrained, and with what it is compared (see `configs/retrain`)."""

    model: StrictStr | None
    num: Annotated[tuple[NotNegative, ...], BeforeValidator(as_tuple)]
    controls: Annotated[tuple[Control, ...], BeforeValidator(as_tuple)]
    noise: Parts255
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    images: Positive
    categories: Positive | None
    selected: StrictBool
    trainable: Literal["last", "all"]
    head: Literal["random", "copied"]
    epochs: Annotated[StrictInt, Field(ge=1, le=_MAX_EPOCHS)]
    steps: Annotated[StrictInt, Field(ge=1, le=_MAX_STEPS)] | None
    learning_rate: Annotated[Real, Field(gt=0, le=1e38)]
    optimizer: Literal["sgd", "adam"]
    momentum: Annotated[Real, Field(ge=0, lt=1)]
    weight_decay: Annotated[Real, Field(ge=0, le=1000)]
    batch_size: Batch
    originals: StrictBool
    redraw: StrictBool
    batch_norm: Literal["eval", "train"]
    precision: Literal["fp32", "bf16"]
    boundaries: Positive | None
    measured: NotNegative
    save: Path | None


class SelectionSettings(Section):
    """Models that must all classify an image correctly for it to take part; None: the evaluated."""

    models: tuple[StrictStr, ...] | None


class GridDraws(Section):
    """What `draws` is taken from where an experiment has many cells."""

    grid_draws: Draws


EngineName = Literal["eager", "compile", "openvino"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]


class EngineSettings(Section):
    """What runs the forward passes (see `configs/engine`)."""

    name: EngineName | Literal["auto"]
    devices: (
        StrictStr
        | Annotated[StrictInt, Field(ge=1, le=_MAX_DEVICES)]
        | Annotated[tuple[StrictStr, ...], Field(min_length=1, max_length=_MAX_DEVICES)]
    )
    batch_size: Batch | None
    precision: Precision
    compared: NotNegative


# What W&B takes.
_Word = Annotated[StrictStr, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
_UrlPart = Annotated[StrictStr, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f/\\#?%:]+$")]


class TrackingSettings(Section):
    """How a run is logged in Weights & Biases (see `configs/tracking`)."""

    kind: Literal["wandb"]
    mode: Literal["offline", "online"]
    project: _UrlPart
    entity: _UrlPart | None
    group: _Word | None
    tags: Annotated[tuple[_Word, ...], BeforeValidator(as_tuple)]
    directory: Path
    examples: Annotated[StrictInt, Field(ge=0, le=_MAX_TRACKED_IMAGES)]
    timeout: Annotated[Real, Field(ge=1, le=_MAX_TIMEOUT)]


class PathSettings(Section):
    """Where things are read and written; all absolute."""

    root: Path
    results: Path
    cache: Path


class PixelIndexSettings(Section):
    """How the value range enters the Pixel-index."""

    amplitude_share: Literal["range", "half"]
