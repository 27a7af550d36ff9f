"""The sections of the configuration as typed values, and what of them determines the numbers of a run."""

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

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
    AmplitudeShare,
    Cell,
    Channels,
    Manner,
    Values,
    as_plain,
    as_tuple,
    build_grid,
    check_amplitude,
    check_area,
    check_num,
)

PACKAGE_PREFIX = "package:"
"""What `weights` begins with where an installed package carries the file."""

ATTACK_PREFIX = "foolbox.attacks."
"""The module of all attacks, which the identity of a run names too."""

MINIMAL = "minimal"
"""The epsilon that asks for the smallest change that fools the network."""

ATTACKS_BEFORE = {"refine": False, "sample": False}
"""Keys of `attack` that manifests lack where they were not there yet, with what was done then."""

FROM_MODELS = ("auto", "models")
"""What a key of `dataset.preprocessing` says where it is the models' own: where they agree, or in any
case."""

OWN_CLASSES = ("folders", "own")
"""What `classes` says where a data set's classes are no network's, so that it needs a new last layer."""

CLASSES = (*OWN_CLASSES, "imagenet")
"""What `classes` says instead of the name of a file."""

RETRAINED = ("retraining", "transfer", "distances")
"""What `measure` says where networks are retrained."""

DatasetKind = Literal[
    "foolbox", "imagefolder", "imagenet", "imagenette", "csv", "torchvision", "cifar_c"
]
Control = Literal["unchanged", "noise", "erasing", "trivial_augment", "auto_augment", "augmix"]
EngineName = Literal["eager", "compile", "openvino"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
SCREENED: Final = "screened"
"""What `engine.precision` says where predictions are fp32's, most of them found in a faster arithmetic."""

# Upper bounds keep what no computer could finish, or hold in memory, from being tried.
_LARGEST_COUNT = 10**9
_MAX_DRAWS = 10**6
_MAX_QUERIES = 10**6
_MAX_SIDE = 4096
_MAX_BATCH = 65_536
_MAX_CLASSES = 100_000
_MAX_DEVICES = 64
_MAX_EPOCHS = 100_000
_LARGEST_MULTIPLE = 1000
_MAX_STEPS = 10**7
_MAX_SEARCH = 10_000
_MAX_ARGUMENT = 10**6
_MAX_OVERSHOOT = 1000
_MAX_PICTURES = 100
_MAX_TIMEOUT = 3600
# Seeds are kept in 64-bit columns.
_MAX_SEED = 2**63 - 1
_LONGEST_NAME = 100

Positive = Annotated[StrictInt, Field(ge=1, le=_LARGEST_COUNT)]
NotNegative = Annotated[StrictInt, Field(ge=0, le=_LARGEST_COUNT)]
Seed = Annotated[StrictInt, Field(ge=0, le=_MAX_SEED)]
Draws = Annotated[StrictInt, Field(ge=1, le=_MAX_DRAWS)]
Queries = Annotated[StrictInt, Field(ge=1, le=_MAX_QUERIES)]
Side = Annotated[StrictInt, Field(ge=1, le=_MAX_SIDE)]
Batch = Annotated[StrictInt, Field(ge=1, le=_MAX_BATCH)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Parts255 = Annotated[Real, Field(gt=0, le=255)]


# Several values, of which a single one may be given as it is.
_SEVERAL = BeforeValidator(as_tuple)
# What W&B takes.
_Word = Annotated[StrictStr, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
_UrlPart = Annotated[StrictStr, Field(max_length=128, pattern=r"^[^\x00-\x1f\x7f/\\#?%:]+$")]


def _several(check: Any) -> Any:
    """Return a validator of several values, each of which passes the check."""

    def convert(value: Any) -> tuple[Any, ...]:
        items = as_tuple(value)
        for item in items:
            check(item)
        return items

    return BeforeValidator(convert)


_Nums = Annotated[tuple[StrictInt, ...], _several(check_num)]
_Pictures = Annotated[StrictInt, Field(ge=0, le=_MAX_PICTURES)]


def _of_each_channel(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) not in (1, 3):
        raise ValueError("give one number for all channels, or three: red, green, blue.")
    return values


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, and nothing can be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _takes_numbers_of_any_library(cls, data: Any) -> Any:
        return as_plain(data)


class PreprocessingSettings(Section):
    """Steps from an image file to the uint8 crop that pixels are changed on."""

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
    "corruption": ("cifar_c",),
    "severity": ("cifar_c",),
}


class DatasetSettings(Section):
    """Images, with their labels (see `configs/dataset`)."""

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
    corruption: StrictStr | None = None
    severity: Annotated[StrictInt, Field(ge=1, le=5)] | Literal["all"] | None = None
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
        """Tell whether its classes are no network's, so that only retraining has a use for them."""
        return self.classes in OWN_CLASSES


_CHANNELS = _SEVERAL, AfterValidator(_of_each_channel)


class ModelSettings(Section):
    """Network, its weights, and what it expects of its input (see `configs/model`)."""

    source: Literal["torchvision", "timm", "checkpoint", "huggingface"]
    name: StrictStr
    path: Path | None = None
    weights: StrictStr
    match: Literal["names", "order", "caffe"]
    classes: Annotated[StrictInt, Field(ge=1, le=_MAX_CLASSES)]
    mean: Annotated[tuple[Annotated[Real, Field(ge=0, le=1)], ...], *_CHANNELS] | None
    std: Annotated[tuple[Annotated[Real, Field(gt=0, le=1)], ...], *_CHANNELS] | None
    labels: Path | Literal["order"] | None = None
    label: StrictStr | None = None

    @property
    def is_named(self) -> bool:
        """Tell whether its outputs find a data set's classes by names, or in spite of a background."""
        is_placed = self.source == "huggingface" or self.labels is not None
        return is_placed or self.classes == _WITH_BACKGROUND


# Of ImageNet's 1,000 classes; TensorFlow's networks have one for the background in front.
_WITH_BACKGROUND = 1001
# .tar is what .pth.tar ends in.
_WEIGHTS_FILES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt", ".th", ".pkl")


def model_label(key: str, model: ModelSettings) -> str:
    """Return what tables call a model: its label where it has one, else its key under `models`."""
    return model.label or key


def is_plain_name(name: str) -> bool:
    """Tell whether a name can stand in tables, figures and paths, and is no spreadsheet's formula."""
    begins_well = name[:1].isalnum() and len(name) <= _LONGEST_NAME
    return begins_well and name.isprintable() and not set(name) & set("/\\")


def is_weights_file(weights: Any) -> bool:
    """Tell whether `weights` names a file, rather than published weights or a package's file."""
    if not isinstance(weights, str) or weights.startswith(PACKAGE_PREFIX):
        return False
    return weights.lower().endswith(_WEIGHTS_FILES)


class PerturbationSettings(Section):
    """Grid of every combination of num, amplitude and area (see `configs/perturbation`)."""

    num: Annotated[_Nums, Field(min_length=1)]
    amplitude: Annotated[
        tuple[StrictInt | None, ...], _several(check_amplitude), Field(min_length=1)
    ]
    area: Annotated[tuple[StrictInt | None, ...], _several(check_area), Field(min_length=1)]
    channels: Channels = "apart"
    repetition: StrictBool = False
    values: Values = "uniform"

    @property
    def manner(self) -> Manner:
        """Return how pixels are drawn and changed."""
        return Manner(self.channels, self.repetition, self.values)

    def cells(self) -> list[Cell]:
        """Return all cells, led by the unchanged images."""
        return build_grid(self.num, self.amplitude, self.area)


def overshoot_of(epsilon: float | str) -> float | None:
    """Return k of an epsilon "kx", k times the smallest that fools; None of any other epsilon."""
    written = isinstance(epsilon, str) and re.fullmatch(r"([0-9]{1,4}(?:\.[0-9]{1,4})?)x", epsilon)
    return float(written[1]) if written else None


def as_epsilon(value: Any) -> float | str:
    """Return an epsilon as attacks take it: "minimal", such as "1.5x", or a number of 255ths.

    Raises:
        InputError: it is none of them.
    """
    value = as_plain(value)
    overshoot = overshoot_of(value)
    if overshoot is not None and 1 <= overshoot <= _MAX_OVERSHOOT:
        return f"{overshoot:.8g}x"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 < value <= 255:  # NaN is refused too
        return float(value)
    if isinstance(value, str) and value == MINIMAL:
        return MINIMAL
    raise InputError(
        f"attack.epsilon={value!r:.80} is wrong; give a number of 255ths above 0 and at most 255; minimal, "
        f"the smallest that fools; or a multiple of it from 1x to {_MAX_OVERSHOOT}x, such as 1.5x."
    )


class AttackSettings(Section):
    """Attack on images before their pixels are changed (see `configs/attack`)."""

    kind: Literal["adversarial"] = "adversarial"
    name: StrictStr
    arguments: dict[StrictStr, Any] = {}
    epsilon: Annotated[
        tuple[Annotated[float | str, BeforeValidator(as_epsilon)], ...],
        _SEVERAL,
        Field(min_length=1),
    ] = (MINIMAL,)
    step: Parts255 = 0.255
    refine: StrictBool = False
    max_epsilon: Parts255 = 32
    round: StrictBool = True
    wanted: Positive = 10_000
    sample: StrictBool = True

    @model_validator(mode="after")
    def _is_within_bounds(self) -> Self:
        if self.step > self.max_epsilon:
            raise InputError(
                f"attack.step={self.step} is larger than attack.max_epsilon={self.max_epsilon}; make "
                "it smaller."
            )
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


class Recipe(Section):
    """Say how a network is retrained. Defaults are the paper's where it gives a value: 20 epochs, step 0.001.

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
    """Say how networks are retrained, and with what they are compared (see `configs/retrain`)."""

    model: StrictStr | None
    num: Annotated[tuple[NotNegative, ...], _SEVERAL]
    controls: Annotated[tuple[Control, ...], _SEVERAL]
    noise: Parts255
    seeds: Annotated[tuple[Seed, ...], _SEVERAL, Field(min_length=1)]
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


class ProfileSettings(Section):
    """Values of a profile that some experiments take: `draws` of those with many cells, and others."""

    grid_draws: Draws = 1
    worst_case_draws: Draws = 100
    table6_num: Annotated[
        tuple[StrictInt, ...], _several(functools.partial(check_num, key="table6_num"))
    ] = ()
    table6_pictures: _Pictures = 0


class ScreeningSettings(Section):
    """Say how a fast arithmetic screens changed images for fp32 (see `configs/engine`)."""

    fast: Literal["tf32", "bf16", "fp16"] | None = None
    multiple: Annotated[Real, Field(gt=0, le=_LARGEST_MULTIPLE)] = 2
    checked: Annotated[Real, Field(ge=0, le=1)] = 0.01


class EngineSettings(Section):
    """Engine that runs the forward passes (see `configs/engine`)."""

    name: EngineName | Literal["auto"]
    devices: (
        StrictStr
        | Annotated[StrictInt, Field(ge=1, le=_MAX_DEVICES)]
        | Annotated[tuple[StrictStr, ...], Field(min_length=1, max_length=_MAX_DEVICES)]
    )
    batch_size: Batch | None
    precision: Precision | Literal["screened"]
    compared: NotNegative
    screening: ScreeningSettings = ScreeningSettings()


class TrackingSettings(Section):
    """Logging of a run in Weights & Biases (see `configs/tracking`)."""

    kind: Literal["wandb"]
    mode: Literal["offline", "online"]
    project: _UrlPart
    entity: _UrlPart | None
    group: _Word | None
    tags: Annotated[tuple[_Word, ...], _SEVERAL]
    directory: Path
    examples: Annotated[StrictInt, Field(ge=0, le=_MAX_PICTURES)]
    timeout: Annotated[Real, Field(ge=1, le=_MAX_TIMEOUT)]


class PathSettings(Section):
    """Folders in which things are read and written; all absolute."""

    root: Path
    results: Path
    cache: Path


class PixelIndexSettings(Section):
    """Share of the value range that enters the Pixel-index."""

    amplitude_share: AmplitudeShare


# Of a data set: where it is, and which part of it is meant.
_PLACES = {"root", "train_root", "file", "train_file"}
_PARTS = (
    "name", "split", "train_split", "image_column", "label_column", "corruption", "severity",
)  # fmt: skip
# What a network does to images and outputs is in the digest of its weights.
_NOT_OF_A_MODEL = {"label", "path", "labels"}


class RunSettings(Section):
    """Settings of one run: everything that it needs to know."""

    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    profile: StrictStr | None
    seed: Seed
    draws: Draws
    measure: Literal[
        "outcomes",
        "activations",
        "descriptions",
        "retraining",
        "transfer",
        "distances",
        "worst_case",
    ]
    queries: Queries = 500
    augmentations: Annotated[tuple[Control, ...], _SEVERAL] = ()
    pictures: _Pictures
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
        limits = {(cell.amplitude, cell.area) for cell in self.perturbation.cells() if cell.num}
        if self.pictures and len(limits) > 1:
            raise ValueError(
                "pictures show changes of one amplitude and area, and these are of several; set pictures=0."
            )
        if self.augmentations and self.measure != "activations":
            raise ValueError(
                "augmentations are compared by measure=activations; set augmentations=[]."
            )
        if "unchanged" in self.augmentations:
            raise ValueError("augmentations=unchanged changes nothing; leave it out.")
        is_changed = any(cell.num for cell in self.perturbation.cells())
        if self.measure == "worst_case" and (
            not is_changed or self.perturbation.manner != Manner()
        ):
            raise ValueError(
                "measure=worst_case changes num pixels, 1 or more, by random values or by extreme ones; leave "
                "perturbation.channels, repetition and values as they are."
            )
        if self.measure == "activations" and self.draws > 1:
            raise ValueError("activations are measured under one change an image; set draws=1.")
        return self

    @property
    def takes_gradients(self) -> bool:
        """Tell whether what is measured goes through a network backwards, or into it."""
        return bool(self.attack) or self.measure in ("activations", "transfer", "distances")

    def on_device(self, device: str) -> Self:
        """Return the same run on one device."""
        engine = self.engine.model_copy(update={"devices": device})
        return self.model_copy(update={"engine": engine})

    def in_group(self, group: str) -> Self:
        """Return the same run, logged with a group unless it names one of its own."""
        if self.tracking is None or self.tracking.group is not None:
            return self
        tracking = self.tracking.model_copy(update={"group": group})
        return self.model_copy(update={"tracking": tracking})

    def identity(self) -> dict[str, Any]:
        """Return what determines the numbers, as plain data.

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
                "engine": {"name", "devices", "batch_size", "compared"}
                | ({"screening"} if self.engine.precision != SCREENED else set()),
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
            # What attacks did before they had these keys has no trace in the address of a run.
            for key, value in ATTACKS_BEFORE.items():
                if data["attack"][key] == value:
                    del data["attack"][key]
        if data["measure"] == "outcomes":
            del data["measure"]
        if self.measure != "worst_case":
            del data["queries"]
        # Runs from before these could be chosen are the same runs.
        if not self.augmentations:
            del data["augmentations"]
        for key, value in Manner()._asdict().items():
            if data["perturbation"][key] == value:
                del data["perturbation"][key]
        if self.dataset.unreadable == "stop":
            del data["dataset"]["unreadable"]
        for key in _PARTS:
            if data["dataset"][key] is None:
                del data["dataset"][key]
        if self.measure in RETRAINED:
            del data["retrain"]["save"]
        elif "noise" in self.augmentations:
            data["retrain"] = {"noise": self.retrain.noise}
        else:
            del data["retrain"]
        for group in ("models", "selection_models"):
            for model in data[group].values():
                if is_weights_file(model["weights"]):
                    model["weights"] = Path(model["weights"]).name
        return data


def fingerprint(*parts: Any) -> str:
    """Return a hexadecimal SHA-256 over plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
