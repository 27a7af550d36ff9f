"""Outcomes, manifests and measured changes that the tests of claims and of what is derived share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.claims import Claim, decide_claims
from experiments.claims.findings import Verdict
from experiments.stored import Run
from pixelrobust.outcomes.kinds import ACTIVATIONS, ADVERSARIAL
from pixelrobust.outcomes.manifest import Manifest
from pixelrobust.outcomes.rows import concatenate, make_outcomes
from pixelrobust.perturbation.grid import Cell

HOLDS: Verdict = "holds"
FAILS: Verdict = "does not hold"
OPEN: Verdict = "not decided"

FIVE = ["resnet101", "densenet121", "vgg16", "alexnet", "squeezenet1_1"]
NUMS = [4, 8, 16, 32, 64]
AMPLITUDES = [10, 40, 70, 100, 127]
AREAS = [140, 160, 180, 200, 220]


def claims(**tables: pd.DataFrame | Run) -> dict[str, Claim]:
    """Every claim by its key, from outcomes, or whole runs, of these experiments."""
    runs = {
        name: table if isinstance(table, tuple) else (manifest(name=name), table)
        for name, table in tables.items()
    }
    decided = {claim.key: claim for claim in decide_claims(runs)}
    assert len(decided) == 31
    return decided


def verdicts(claim: Claim) -> list[Verdict]:
    return [finding.verdict for finding in claim.findings]


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "name": "table6", "config": {"seed": 0}, "draws": 1, "image_size": (224, 224),
        "amplitude_share": "range", "description": "made up", "caveat": "", "candidates": 1000,
        "survivors": 600, "images": 500, "rejected": {"net": 300}, "image_list_sha256": "a",
        "weights_sha256": {"net": "w"},
    }  # fmt: skip
    return Manifest(**(values | changes))


def of_the_paper(**changes: Any) -> Manifest:
    """A run of the paper's networks on ImageNet images that all five are right about."""
    models = {name: {"weights": "IMAGENET1K_V1"} for name in FIVE}
    config = {"models": models, "dataset": {"kind": "imagenet"}}
    return manifest(**({"config": config, "rejected": dict.fromkeys(FIVE, 300)} | changes))


def wrong_first(count: int, images: int, start: int = 0) -> np.ndarray:
    """(images, 1) where `count` images from `start` on are wrong, the others right."""
    wrong = np.zeros((images, 1), dtype=np.int64)
    wrong[start : start + count] = 1
    return wrong


def outcomes(models: Mapping[str, Mapping[Cell, np.ndarray]]) -> pd.DataFrame:
    """Outcomes of each model and cell from (images, draws) tables of 0, right, and 1, wrong."""
    parts = []
    for model, cells in models.items():
        images = len(next(iter(cells.values())))
        keys = [f"{index:05}.png" for index in range(images)]
        control = {Cell(0): np.zeros((images, 1), dtype=np.int64)}
        parts.append(
            make_outcomes(model, keys, np.zeros(images, dtype=np.int64), control | dict(cells))
        )
    return concatenate(parts)


def with_beyond(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, and those of as many images all wrong at 16,384 pixels, far beyond the paper's 64."""
    beyond = rows[rows["num"] == 64].assign(num=np.int32(16_384), wrong=True, prediction=5)
    assert len(beyond)
    return concatenate([rows, beyond])


def by_num(images: int, wrong: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """Table 6: for each model, how many images are wrong at each of `NUMS`; they are nested."""
    return outcomes(
        {
            model: {
                Cell(n): wrong_first(count, images) for n, count in zip(NUMS, counts, strict=False)
            }
            for model, counts in wrong.items()
        }
    )


def by_amplitude(
    images: int, counts: Sequence[int], nums: Sequence[int] = (64,), model: str = "net"
) -> pd.DataFrame:
    """Table 7: how many images are wrong at each of `AMPLITUDES`, alike for every num."""
    cells = {
        Cell(n, k): wrong_first(count, images)
        for n in nums
        for k, count in zip(AMPLITUDES, counts, strict=True)
    }
    return outcomes({model: cells})


def by_area(
    images: int, counts: Mapping[int, Sequence[int]], model: str = "net", start: int = 0
) -> pd.DataFrame:
    """Table 8: for each num, how many images are wrong in each of `AREAS`."""
    cells = {
        Cell(n, area=side): wrong_first(count, images, start)
        for n, of_num in counts.items()
        for side, count in zip(AREAS, of_num, strict=True)
    }
    return outcomes({model: cells})


def adversarial(
    images: int,
    returned: Mapping[tuple[str, bool, int], int],
    models: Sequence[str] = ("net",),
    draws: int = 1,
) -> pd.DataFrame:
    """Table 9: for each epsilon, kind (rounded or not) and num, how many images return."""
    rows = [
        {
            "model": model, "num": num, "amplitude": pd.NA, "area": pd.NA,
            "image": f"{image:05}.png", "draw": draw, "label": 0,
            "prediction": 0 if image < count else 5, "wrong": image >= count,
            "epsilon": epsilon, "size": 1.0, "rounded": rounded, "adversarial": 5,
        }
        for model in models
        for (epsilon, rounded, num), count in returned.items()
        for image in range(images)
        for draw in range(draws if num else 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)[ADVERSARIAL.columns]


def activations(
    pixels: Sequence[float], noise: Sequence[float], model: str = "net", num: int = 64
) -> pd.DataFrame:
    """How many times changes of pixels, and noise, grow from input to logits; an entry an image."""
    rows = [
        {
            "model": model, "num": num, "amplitude": pd.NA, "area": pd.NA,
            "image": f"{image:05}.png", "change": change, "layer": layer, "depth": depth,
            "relative_change": 0.1 * factor, "norm_mismatch": 0.0, "matched": True,
        }
        for change, factors in (("pixels", pixels), ("noise", noise))
        for image, reached in enumerate(factors)
        for layer, depth, factor in (("input", 0, 1.0), ("logits", 1, reached))
    ]  # fmt: skip
    table = pd.DataFrame(rows)[ACTIVATIONS.columns]
    return table.astype({"amplitude": "Int16", "area": "Int32", "num": "int32"})
