"""Images as a section of the config: which, with which labels, how they are cropped."""

from pathlib import Path
from typing import Literal, Self

from pydantic import StrictBool, StrictStr, model_validator

from pixelrobust.errors import InputError
from pixelrobust.settings.fields import Positive, Section, Side

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
