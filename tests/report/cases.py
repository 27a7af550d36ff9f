"""Folders of results that tests make pages of."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from pixelrobust.outcomes.manifest import read_manifest
from pixelrobust.outcomes.rows import concatenate, make_outcomes, write_outcomes
from pixelrobust.perturbation.grid import Cell
from pixelrobust.tables.rates import write_csv
from tests.conftest import REPOSITORY

BUNDLED = REPOSITORY / "results" / "bundled"

HOSTILE = (
    "<script>alert(1)</script>\"'&amp;<img src=x onerror=alert(1)></style></script>"
    '<a href="javascript:alert(1)">a</a><b>%{y}</b>{{ 1 }}$x$'
)
"""A name of a network, an image or a data set."""

_TABLES = ("table1", "table6", "pixels-to-flip", "breakdown", "claims", "retraining")
_SIZE = (8, 8)
_NUMS = (0, 4, 8, 64)


def some_of_bundled(folder: Path, *runs: str) -> Path:
    """A page's worth of the committed results, with the outcomes of some runs."""
    (folder / "outcomes").mkdir(parents=True)
    for stem in (*_TABLES, *runs):
        shutil.copy(BUNDLED / f"{stem}.csv", folder)
    for stem in runs:
        for suffix in ("json", "parquet"):
            shutil.copy(BUNDLED / "outcomes" / f"{stem}.{suffix}", folder / "outcomes")
    return folder


def hostile_folder(folder: Path) -> Path:
    """Results in which every name wants to be markup."""
    finding = {
        "claim": "more-pixels", "subject": HOSTILE, "condition": HOSTILE, "estimate": 1, "low": 0,
        "high": 2, "p": 0.01, "verdict": "holds", "images_needed": None, "unit": HOSTILE, "test": HOSTILE,
    }  # fmt: skip
    write_csv(pd.DataFrame([finding]), folder / "claims.csv")
    write_csv(pd.DataFrame({HOSTILE: [HOSTILE]}), folder / "own.csv")
    (folder / 'a "b" <i>.csv').write_text("x\n1\n")
    history = {"epoch": [0, 1], "loss": 1.0, "accuracy": 0.5, "training_seed": 0, "model": HOSTILE}
    write_csv(pd.DataFrame(history), folder / "retraining.csv")
    for name in ("table6", "table7", "table8"):
        _write_run(folder / "outcomes", name, _hostile_outcomes())
    return folder


def _hostile_outcomes() -> pd.DataFrame:
    """Two networks on four images; the first flips half of them at 8 pixels, the rest at 64."""
    keys = [f"{HOSTILE}/{index}.png" for index in range(4)]
    labels = np.zeros(4, dtype=np.int64)
    wrong = {0: [0, 0, 0, 0], 4: [0, 0, 0, 0], 8: [1, 1, 0, 0], 64: [1, 1, 1, 1]}
    fragile = {Cell(num): np.array(wrong[num], dtype=np.int64)[:, None] for num in _NUMS}
    firm = {Cell(num): labels[:, None] for num in _NUMS}
    return concatenate(
        [make_outcomes(HOSTILE, keys, labels, fragile), make_outcomes("other", keys, labels, firm)]
    )


def _write_run(folder: Path, name: str, outcomes: pd.DataFrame) -> None:
    write_outcomes(outcomes, folder / f"{name}.parquet")
    known = asdict(read_manifest(BUNDLED / "outcomes" / "table6.json"))
    hostile = {
        "name": name, "description": HOSTILE, "caveat": HOSTILE, "image_size": _SIZE, "draws": 1,
        "images": 4, "candidates": 8, "rejected": {HOSTILE: 4, "other": 4},
        "weights_sha256": {HOSTILE: HOSTILE, "other": ""}, "engines": {HOSTILE: {"name": HOSTILE}},
        "software": {"commit": HOSTILE}, "hardware": {"gpu": HOSTILE},
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(known | hostile))
