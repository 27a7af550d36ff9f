"""Tables 1 to 4 of the paper, from what is installed and configured.

The paper's own tables were images of which only the captions survive: which columns they had is
not known.
"""

import inspect
import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
import torchvision
from torchvision.transforms import v2

from experiments.config import compose, options, plain
from pixelrobust.attacks import find_attack
from pixelrobust.errors import InputError
from pixelrobust.models.architectures import find_architecture
from pixelrobust.perturbation.grid import as_tuple, pixel_index
from pixelrobust.perturbation.transforms import RandomPixelChange
from pixelrobust.settings import ModelSettings

_NO_ATTACKS = ("none", "base")

# The paper's three kinds (Table 3). Only AutoAugment's policies are learned; networks that make
# images, which the paper counts here too, are no part of torchvision.
_AUGMENTATIONS = {
    "geometric": (
        "RandomHorizontalFlip", "RandomVerticalFlip", "RandomRotation", "RandomAffine",
        "RandomPerspective", "RandomResizedCrop", "ElasticTransform",
    ),
    "colour": (
        "ColorJitter", "RandomGrayscale", "RandomInvert", "RandomPosterize", "RandomSolarize",
        "RandomEqualize", "RandomAutocontrast", "GaussianBlur", "GaussianNoise", "RandomErasing",
    ),
    "learned": ("AutoAugment",),
}  # fmt: skip

# The inputs of the paper's worked example, Eq. 8 to 11: w, num, the side of the area, and the size.
_EXAMPLE_WRONG_RATE, _EXAMPLE_NUM, _EXAMPLE_AREA, _EXAMPLE_SIZE = 0.1, 64, 200, (224, 224)


def describe(name: str, models: Mapping[str, ModelSettings]) -> pd.DataFrame:
    """Return the table of this name, table1 to table4.

    Args:
        name: of the table.
        models: networks that Table 1 describes besides the paper's.

    Raises:
        InputError: there is no such table, or a config is wrong.
    """
    tables = {
        "table1": lambda: table1(models),
        "table2": table2,
        "table3": table3,
        "table4": table4,
    }
    if name not in tables:
        raise InputError(
            f"name={name} with measure=descriptions is no table that describes; "
            f"take experiment={', '.join(tables)}."
        )
    return tables[name]()


def table1(models: Mapping[str, ModelSettings]) -> pd.DataFrame:
    """Describe the paper's networks, and others (the paper's Table 1).

    Args:
        models: the others, by their keys.

    Returns:
        Columns model (its key), library, name, weights, parameters (count), and top1 and top5: the
        library's own accuracies on ImageNet, in 0..1, missing where it states none.

    Raises:
        InputError: a config names an unknown network.
    """
    papers = plain(compose("profile=paper").models)
    networks = {key: ModelSettings.model_validate(model) for key, model in papers.items()}
    rows = [_network(key, model) for key, model in (networks | dict(models)).items()]
    return pd.DataFrame(rows).astype({"top1": float, "top5": float})


def table2() -> pd.DataFrame:
    """Describe the attacks of `configs/attack` (the paper's Table 2).

    Returns:
        One row for each config file; none where there are none. Columns attack (the file),
        foolbox_class, description and reference (from the class's documentation, "" where it gives
        none), norm ("L2", "Linf", … or ""), epsilon (as configured: in 1/255, or minimal).

    Raises:
        InputError: foolbox is not installed, or has no such attack.
    """
    names = [name for name in options("attack") if name not in _NO_ATTACKS]
    columns = ["attack", "foolbox_class", "description", "reference", "norm", "epsilon"]
    return pd.DataFrame([_attack(name) for name in names], columns=columns)


def table3() -> pd.DataFrame:
    """Describe the augmentations that the installed torchvision has (Table 3), and the paper's own.

    Returns:
        Columns kind ("geometric", "colour", "learned", "pixel change"), transform, description.
    """
    classes = [
        (kind, getattr(v2, name), f"torchvision.transforms.v2.{name}")
        for kind, names in _AUGMENTATIONS.items()
        for name in names
        # GaussianNoise, for one, is younger than the oldest torchvision that will do.
        if hasattr(v2, name)
    ]
    classes.append(("pixel change", RandomPixelChange, "pixelrobust.RandomPixelChange"))
    rows = [(kind, path, _first_sentence(transform)) for kind, transform, path in classes]
    return pd.DataFrame(rows, columns=["kind", "transform", "description"])


def table4() -> pd.DataFrame:
    """Describe the parameters of the Pixel-index (Table 4), with the worked example (Eq. 8-12).

    Returns:
        Columns symbol, meaning, formula, key (of the config; "" for what is measured), range, and
        example: a number, as `pixelrobust.perturbation.grid` has it. The paper prints 98.30 for Pi,
        because it rounds p and a first.
    """
    w, num, side, size = _EXAMPLE_WRONG_RATE, _EXAMPLE_NUM, _EXAMPLE_AREA, _EXAMPLE_SIZE
    p, a = num / math.prod(size), side**2 / math.prod(size)
    pi = pixel_index(w, num, area=side, image_size=size)
    positive = "above 0, to 1"
    value_range = "2k / 255, at most 1 (range), or k / 255 (half); any value: 1"
    rows = [
        ("w", "share of wrong predictions", "wrong / outcomes", "", "0 to 1", w),
        ("p", "share of changed pixels", "num / (H W)", "perturbation.num", positive, p),
        (
            "r",
            "share of the value range that a change spans",
            value_range,
            "perturbation.amplitude, pixel_index.amplitude_share",
            positive,
            1.0,
        ),
        (
            "a",
            "share of the image that positions are drawn from",
            "side^2 / (H W); whole image: 1",
            "perturbation.area",
            positive,
            a,
        ),
        ("Pi", "Pixel-index; smaller is more robust", "w / (p r a)", "", "0 or more", pi),
    ]
    return pd.DataFrame(rows, columns=["symbol", "meaning", "formula", "key", "range", "example"])


def _network(key: str, settings: ModelSettings) -> dict[str, object]:
    """Return the row of one model."""
    row = {
        "model": key,
        "library": settings.source,
        "name": settings.name,
        # Where a file lies is the reader's own affair.
        "weights": settings.weights.rpartition("/")[2],
    }
    architecture, published = find_architecture(settings), None
    if settings.source == "torchvision":
        members = torchvision.models.get_model_weights(settings.name).__members__
        published = members.get(settings.weights)
    if published is not None:
        accuracies = published.meta["_metrics"]["ImageNet-1K"]
        return row | {
            "parameters": int(published.meta["num_params"]),
            # Rounded to undo the division's own digits: the library states three decimals.
            "top1": round(accuracies["acc@1"] / 100, 5),
            "top5": round(accuracies["acc@5"] / 100, 5),
        }
    # On this device tensors have shapes only, so that no network takes time or memory.
    with torch.device("meta"):
        network = architecture.build(None)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return row | {"parameters": parameters, "top1": math.nan, "top5": math.nan}


def _attack(name: str) -> tuple[str, str, str, str, str, str]:
    """Return the row of one attack config."""
    config = plain(compose(f"attack={name}").attack)
    class_name = str(config.get("name") or "")
    try:
        attack = find_attack(class_name)
    except InputError as error:
        raise InputError(
            f"configs/attack/{name}.yaml: name={class_name!r} is not an attack that can be used; "
            "run `make setup`, or name a class of foolbox.attacks that takes an epsilon or "
            "minimises it."
        ) from error
    epsilons = as_tuple(config.get("epsilon"))
    return (
        name,
        attack.__name__,
        _first_sentence(attack),
        _reference(attack),
        _norm(attack),
        ", ".join("" if epsilon is None else str(epsilon) for epsilon in epsilons),
    )


def _norm(attack: Any) -> str:
    """Return the norm that an attack class of foolbox keeps small, "" where it names none."""
    order = getattr(getattr(attack, "distance", None), "p", None)
    if order is None:
        return ""
    return "Linf" if math.isinf(order) else f"L{order:g}"


def _first_sentence(documented: Any) -> str:
    """Return the first sentence of a class's documentation, without reStructuredText's marks."""
    text = " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())
    text = re.sub(r"\s*\[#\w+\]_", "", text)
    text = re.sub(r":\w+:`~?([^`]+)`", r"\1", text)
    text = re.sub(r"`+([^`<]*?)(?:\s*<[^>]*>)?`+_*", r"\1", text)
    return re.split(r"(?<=[.!?])\s", text)[0].removesuffix(".")


def _reference(documented: Any) -> str:
    """Return the first footnote or link target of a class's documentation."""
    found = re.search(
        r"^\s*\.\. (?:\[#\w+\]|_\w+:)\s+(.+?)(?=\n\s*\n|\n\s*\.\. |\Z)",
        inspect.getdoc(documented) or "",
        flags=re.DOTALL | re.MULTILINE,
    )
    return " ".join(found[1].split()) if found else ""
