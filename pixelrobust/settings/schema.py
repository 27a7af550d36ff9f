"""Kinds of values that several sections of the config have."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from pixelrobust.errors import InputError
from pixelrobust.perturbation.grid import (
    Cell,
    as_tuple,
    build_grid,
    check_amplitude,
    check_area,
    check_num,
)

# Upper bounds keep what no computer could finish, or hold in memory, from being tried.
_LARGEST_COUNT = 10**9
_MAX_DRAWS = 10**6
_MAX_SIDE = 4096
_MAX_BATCH = 65_536
# Seeds are kept in 64-bit columns.
_MAX_SEED = 2**63 - 1

Positive = Annotated[StrictInt, Field(ge=1, le=_LARGEST_COUNT)]
NotNegative = Annotated[StrictInt, Field(ge=0, le=_LARGEST_COUNT)]
Seed = Annotated[StrictInt, Field(ge=0, le=_MAX_SEED)]
Draws = Annotated[StrictInt, Field(ge=1, le=_MAX_DRAWS)]
Side = Annotated[StrictInt, Field(ge=1, le=_MAX_SIDE)]
Batch = Annotated[StrictInt, Field(ge=1, le=_MAX_BATCH)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Parts255 = Annotated[Real, Field(gt=0, le=255)]


def checked(check: Any) -> Any:
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


# Images as a section of the config: which, with which labels, how they are cropped.

FROM_MODELS = ("auto", "models")
"""What a key of `dataset.preprocessing` says where it is the models' own: where they agree, or in any
case."""


class PreprocessingSettings(Section):
    """From an image file to the uint8 crop that pixels are changed on."""

    resize: Side
    crop: Side
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"]

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop > self.resize:
            raise ValueError(
                f"crop={self.crop} is larger than resize={self.resize}; make resize at least {self.crop}."
            )
        return self


DatasetKind = Literal["foolbox", "imagefolder", "imagenet", "imagenette", "csv", "torchvision"]

OWN_CLASSES = ("folders", "own")
"""What `classes` says where a data set's classes are no network's, so that it needs a new last layer."""

CLASSES = (*OWN_CLASSES, "imagenet")
"""What `classes` says instead of the name of a file."""

# The kinds that have a use for a key.
_KINDS_OF_KEY: dict[str, tuple[DatasetKind, ...]] = {
    "file": ("csv",),
    "train_file": ("csv",),
    "train_root": ("foolbox", "imagefolder", "imagenet", "imagenette", "csv"),
    "name": ("torchvision",),
    "split": ("torchvision",),
    "train_split": ("torchvision",),
    "download": ("torchvision",),
    "image_column": ("csv",),
    "label_column": ("csv",),
}


class DatasetSettings(Section):
    """Which images, with which labels."""

    kind: DatasetKind
    root: Path | None
    train_root: Path | None = None
    file: Path | None = None
    train_file: Path | None = None
    name: StrictStr | None = None
    split: StrictStr | None = None
    train_split: StrictStr | None = None
    image_column: StrictStr | None = None
    label_column: StrictStr | None = None
    download: StrictBool = False
    labels: Path | None
    classes: Path | Literal["folders", "own", "imagenet"] | None
    candidates: Positive | None
    limit: Positive | None
    unreadable: Literal["stop", "skip"] = "stop"
    preprocessing: PreprocessingSettings
    description: StrictStr
    caveat: StrictStr

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> Self:
        for key, kinds in _KINDS_OF_KEY.items():
            if getattr(self, key) and self.kind not in kinds:
                raise InputError(
                    f"dataset.{key} means nothing to dataset.kind={self.kind}; remove it: it is for "
                    f"{', '.join(kinds)}."
                )
        return self

    @property
    def has_own_classes(self) -> bool:
        """Whether its classes are no network's, so that only retraining has a use for them."""
        return self.classes in OWN_CLASSES


# A network as a section of the config, and what it is called.

PACKAGE_PREFIX = "package:"
"""What `weights` begins with where an installed package carries the file."""

_LONGEST_NAME = 100
# Upper bounds keep what no computer could finish, or hold in memory, from being tried.
_MAX_CLASSES = 100_000


def _of_each_channel(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) not in (1, 3):
        raise ValueError("give one number for all channels, or three: red, green, blue.")
    return values


_CHANNELS = BeforeValidator(as_tuple), AfterValidator(_of_each_channel)


class ModelSettings(Section):
    """A network, its weights, and what it expects of its input."""

    source: Literal["torchvision", "timm", "checkpoint", "huggingface"]
    name: StrictStr
    path: Path | None = None
    weights: StrictStr
    match: Literal["names", "order"]
    classes: Annotated[StrictInt, Field(ge=1, le=_MAX_CLASSES)]
    mean: Annotated[tuple[Annotated[Real, Field(ge=0, le=1)], ...], *_CHANNELS] | None
    std: Annotated[tuple[Annotated[Real, Field(gt=0, le=1)], ...], *_CHANNELS] | None
    labels: Path | Literal["order"] | None = None
    label: StrictStr | None = None


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


# The other sections of the config as typed values.

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
    """The grid: every combination of num, amplitude and area (see `pixelrobust.perturbation.grid.Cell`)."""

    num: Annotated[tuple[StrictInt, ...], checked(check_num), Field(min_length=1)]
    amplitude: Annotated[
        tuple[StrictInt | None, ...], checked(check_amplitude), Field(min_length=1)
    ]
    area: Annotated[tuple[StrictInt | None, ...], checked(check_area), Field(min_length=1)]

    def cells(self) -> list[Cell]:
        return build_grid(self.num, self.amplitude, self.area)


class AttackSettings(Section):
    """How images are attacked before their pixels are changed (see `pixelrobust.evaluation.adversarial`)."""

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


class Recipe(Section):
    """How a network is retrained. Defaults are the paper's where it gives a value: 20 epochs, step 0.001.

    Attributes:
        trainable: "all" parameters, or the "last" layer's only.
        head: the new last layer's first values, see `pixelrobust.models.heads.replace_head`.
        epochs: passes over the images.
        learning_rate: the same throughout.
        optimizer: "sgd", or "adam" (Kingma & Ba 2015), as torch has them.
        momentum: of SGD; Adam has its own.
        weight_decay: 0 or more.
        batch_size: images a step, over all devices.
        originals: train on the unchanged images too, as samples of their own beside the changed.
        redraw: change images anew in every epoch; else as in epoch 0, over and over.
        batch_norm: "eval": batch normalisation goes by its running statistics, and these stay as
            they were. "train": it goes by each batch, and the statistics follow.
        precision: "bf16": autocast, on GPUs; weights stay in float32.
    """

    trainable: Literal["last", "all"] = "all"
    head: Literal["random", "copied"] = "random"
    epochs: Annotated[StrictInt, Field(ge=1, le=_MAX_EPOCHS)] = 20
    learning_rate: Annotated[Real, Field(gt=0, le=1e38)] = 0.001
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: Annotated[Real, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[Real, Field(ge=0, le=1000)] = 0.0
    batch_size: Batch = 32
    originals: StrictBool = False
    redraw: StrictBool = False
    batch_norm: Literal["eval", "train"] = "eval"
    precision: Literal["fp32", "bf16"] = "fp32"

    def with_seed(self, seed: int) -> dict[str, Any]:
        """Return the values of the recipe, and a seed, as digests and saved networks hold them."""
        return self.model_dump(include=set(Recipe.model_fields)) | {"seed": seed}


class RetrainSettings(Recipe):
    """How networks are retrained, and with what they are compared (see `configs/retrain`)."""

    model: StrictStr | None
    num: Annotated[tuple[NotNegative, ...], BeforeValidator(as_tuple)]
    controls: Annotated[tuple[Control, ...], BeforeValidator(as_tuple)]
    noise: Parts255
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    images: Positive
    categories: Positive | None
    selected: StrictBool
    steps: Annotated[StrictInt, Field(ge=1, le=_MAX_STEPS)] | None
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


# Everything that one run needs to know, and what of it determines the numbers.

RETRAINED = ("retraining", "transfer", "distances")
"""What `measure` says where networks are retrained."""

ATTACK_PREFIX = "foolbox.attacks."
"""The module of all attacks, which the identity of a run names too."""

# Of a data set: where it is, and which part of it is meant.
_PLACES = {"root", "train_root", "file", "train_file"}
_PARTS = ("name", "split", "train_split", "image_column", "label_column")

# What a network does to images and outputs is in the digest of its weights.
_NOT_OF_A_MODEL = {"label", "path", "labels"}
# In one figure.
_MAX_PICTURES = 100


class RunSettings(Section):
    """Everything that one run needs to know."""

    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    profile: StrictStr | None
    seed: Seed
    draws: Draws
    measure: Literal[
        "outcomes", "activations", "descriptions", "retraining", "transfer", "distances"
    ]
    pictures: Annotated[StrictInt, Field(ge=0, le=_MAX_PICTURES)]
    models: dict[str, ModelSettings]
    selection_models: dict[str, ModelSettings]
    perturbation: PerturbationSettings
    dataset: DatasetSettings
    attack: AttackSettings | None
    retrain: RetrainSettings
    engine: EngineSettings
    pixel_index: PixelIndexSettings
    tracking: TrackingSettings | None
    paths: PathSettings
    recompute: StrictBool

    @model_validator(mode="after")
    def _grid_fits(self) -> Self:
        side = self.dataset.preprocessing.crop
        for cell in self.perturbation.cells():
            cell.check_fits((side, side))
        labels = [model_label(key, model) for key, model in self.models.items()]
        for name in (*labels, *self.models, *self.selection_models):
            if not is_plain_name(name):
                raise ValueError(
                    f"models.<name>.label={name!r} cannot be shown in tables and name folders: give at "
                    "most 100 characters, a letter or digit first, without slashes."
                )
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

    @property
    def takes_gradients(self) -> bool:
        """Whether what is measured goes through a network backwards, or into it."""
        return bool(self.attack) or self.measure in ("activations", "transfer", "distances")

    def on_device(self, device: str) -> Self:
        """The same run on one device."""
        engine = self.engine.model_copy(update={"devices": device})
        return self.model_copy(update={"engine": engine})

    def in_group(self, group: str) -> Self:
        """The same run, logged with the others of a group unless it has one of its own."""
        if self.tracking is None or self.tracking.group is not None:
            return self
        tracking = self.tracking.model_copy(update={"group": group})
        return self.model_copy(update={"tracking": tracking})

    def identity(self) -> dict[str, Any]:
        """What determines the numbers, as plain data.

        Left out: words, pictures, where the run is logged, and where files lie; their contents are hashed elsewhere.
        """
        data = self.model_dump(
            mode="json",
            exclude={
                "paths": True,
                "profile": True,
                "pictures": True,
                "recompute": True,
                "tracking": True,
                "engine": {"name", "devices", "batch_size", "compared"},
                "dataset": _PLACES | {"labels", "classes", "description", "caveat", "download"},
                "models": {"__all__": _NOT_OF_A_MODEL},
                "selection_models": {"__all__": _NOT_OF_A_MODEL},
            },
        )
        # What a run does not use is no part of it.
        if data["attack"] is None:
            del data["attack"]
        else:
            kind, name = data["attack"].pop("kind"), data["attack"].pop("name")
            data["attack"] = {"kind": kind, "target": ATTACK_PREFIX + name, **data["attack"]}
        if data["measure"] == "outcomes":
            del data["measure"]
        if self.dataset.unreadable == "stop":
            del data["dataset"]["unreadable"]
        for key in _PARTS:
            if data["dataset"][key] is None:
                del data["dataset"][key]
        if self.measure in RETRAINED:
            del data["retrain"]["save"]
        else:
            del data["retrain"]
        for group in ("models", "selection_models"):
            for model in data[group].values():
                if is_weights_file(model["weights"]):
                    model["weights"] = Path(model["weights"]).name
        return data


def fingerprint(*parts: Any) -> str:
    """A hexadecimal SHA-256 over plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
