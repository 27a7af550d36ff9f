"""Everything that one run needs to know, and what of it determines the numbers."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from pixelrobust.settings.fields import (
    Draws,
    Section,
    Seed,
)
from pixelrobust.settings.images import DatasetSettings
from pixelrobust.settings.networks import (
    ModelSettings,
    is_plain_name,
    is_weights_file,
    model_label,
)
from pixelrobust.settings.sections import (
    AttackSettings,
    EngineSettings,
    PathSettings,
    PerturbationSettings,
    PixelIndexSettings,
    RetrainSettings,
    TrackingSettings,
)

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
