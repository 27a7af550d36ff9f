"""How a classifier is retrained, apart from the images and their changes."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from pixelrobust.augmentations import TRAINING_DRAWS
from pixelrobust.errors import InputError
from pixelrobust.heads import HeadInit

Trainable = Literal["last", "all"]
OptimizerName = Literal["sgd", "adam"]
BatchNorm = Literal["eval", "train"]
Precision = Literal["fp32", "bf16"]

_CHOICES = {
    "trainable": get_args(Trainable),
    "head": get_args(HeadInit),
    "optimizer": get_args(OptimizerName),
    "batch_norm": get_args(BatchNorm),
    "precision": get_args(Precision),
}


@dataclass(frozen=True)
class Recipe:
    """How to retrain. Defaults are the paper's where it gives a value: 20 epochs, step 0.001.

    Args:
        trainable: "all" parameters, or the "last" layer's only.
        head: the new last layer's first values, see `pixelrobust.heads.replace_head`.
        epochs: 1 or more passes over the images.
        learning_rate: above 0, the same throughout.
        optimizer: "sgd", or "adam" (Kingma & Ba 2015), as torch has them.
        momentum: of SGD, at least 0 and below 1; Adam has its own.
        weight_decay: 0 or more.
        batch_size: images a step, over all devices.
        originals: train on the unchanged images too, as samples of their own beside the changed.
        redraw: change images anew in every epoch; else as in epoch 0, over and over.
        batch_norm: "eval": batch normalisation goes by its running statistics, and these stay as
            they were. "train": it goes by each batch, and the statistics follow.
        precision: "bf16": autocast, on GPUs; weights stay in float32.
        seed: of the new layer, order, changes and dropout, an integer of 0 or more.

    Raises:
        InputError: a value is out of its range; one sentence for each.
    """

    trainable: Trainable = "all"
    head: HeadInit = "random"
    epochs: int = 20
    learning_rate: float = 0.001
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 32
    originals: bool = False
    redraw: bool = False
    batch_norm: BatchNorm = "eval"
    precision: Precision = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        values = asdict(self)
        faults = [_fault(key, value) for key, value in values.items()]
        sentences = [
            f"retrain.{key}={value!r} is wrong; give {fault}."
            for (key, value), fault in zip(values.items(), faults, strict=True)
            if fault
        ]
        if sentences:
            raise InputError(*sentences)


def _fault(key: str, value: Any) -> str | None:
    """What should be given instead of the value; None where it is right."""
    if key in _CHOICES:
        return None if value in _CHOICES[key] else " or ".join(_CHOICES[key])
    if key in ("originals", "redraw"):
        return None if isinstance(value, bool) else "true or false"
    if key in ("epochs", "batch_size", "seed"):
        least, most = (0, math.inf) if key == "seed" else (1, TRAINING_DRAWS)
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if fits else f"an integer of {least} or more" + (least * f", at most {most}")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key == "learning_rate":
        return None if number and 0 < value < math.inf else "a number above 0"
    if key == "momentum":
        return None if number and 0 <= value < 1 else "a number of at least 0 and below 1"
    return None if number and 0 <= value < math.inf else "a number of 0 or more"
