"""Folders of results that tests make pages of."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from pixelrobust.grid import Cell
from pixelrobust.manifest import read_manifest
from pixelrobust.outcomes import concatenate, make_outcomes, write_outcomes
from pixelrobust.ranking import pixel_indices, rank_models
from pixelrobust.survival_tables import survival_for_reading, tabulate_survival
from pixelrobust.tables import for_reading, summarize, write_csv, write_markdown
from tests.conftest import REPOSITORY

BUNDLED = REPOSITORY / "results" / "bundled"

HOSTILE = (
    "<script>alert(1)</script>\"'&amp;<img src=x onerror=alert(1)></style></script>"
    '<a href="javascript:alert(1)">a</a><b>%{y}</b>{{ 1 }}$x$'
)
"""A name of a network, an image or a data set."""

_SOME = ("table1", "table5", "table6", "pixels-to-flip", "breakdown", "claims")
_SIZE = (8, 8)
_NUMS = (0, 4, 8, 64)


def some_of_bundled(folder: Path) -> Path:
    """A page's worth of the committed results, with the outcomes of two runs."""
    (folder / "outcomes").mkdir(parents=True)
    for path in BUNDLED.iterdir():
        if path.suffix in (".md", ".csv") and path.stem.startswith(_SOME):
            shutil.copy(path, folder)
    for stem in ("table6", "breakdown"):
        for suffix in ("json", "parquet"):
            shutil.copy(BUNDLED / "outcomes" / f"{stem}.{suffix}", folder / "outcomes")
    return folder


def hostile_folder(folder: Path) -> Path:
    """Results in which every name wants to be markup."""
    outcomes = _hostile_outcomes()
    summary = summarize(outcomes, _SIZE)
    note = [f"A note: {HOSTILE}"]
    write_csv(summary, folder / "table6.csv")
    write_markdown(for_reading(summary, _SIZE), f"Table 6: {HOSTILE}", note, folder / "table6.md")
    flips = tabulate_survival(outcomes)
    write_csv(flips, folder / "pixels-to-flip.csv")
    write_markdown(survival_for_reading(flips), "Flips", note, folder / "pixels-to-flip.md")
    indices = pixel_indices([summary], _SIZE)
    write_csv(indices, folder / "table5.csv")
    write_markdown(for_reading(summary, _SIZE), "Table 5", note, folder / "table5.md")
    ranking = rank_models(indices, dict.fromkeys((HOSTILE, "other"), 0.5))
    write_csv(ranking, folder / "table5-ranking.csv")
    finding = {
        "claim": "more-pixels", "subject": HOSTILE, "condition": HOSTILE, "estimate": 1, "low": 0,
        "high": 2, "p": 0.01, "verdict": "holds", "unit": HOSTILE, "test": HOSTILE,
    }  # fmt: skip
    write_csv(pd.DataFrame([finding]), folder / "claims.csv")
    (folder / 'a "b" <i>.md').write_text("# A name of a file\n")
    (folder / "own.md").write_text(
        f"# {HOSTILE}\n\n{HOSTILE}\n\n[link](javascript:alert(1)) ![picture](http://stranger/x.png)\n\n"
        f"<div onclick=alert(1)>\n<script>alert(1)</script>\n</div>\n\n| {HOSTILE} |\n|:--|\n| {HOSTILE} |\n"
    )
    _write_run(folder / "outcomes", outcomes)
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


def _write_run(folder: Path, outcomes: pd.DataFrame) -> None:
    write_outcomes(outcomes, folder / "table6.parquet")
    known = asdict(read_manifest(BUNDLED / "outcomes" / "table6.json"))
    hostile = {
        "name": "table6", "description": HOSTILE, "caveat": HOSTILE, "image_size": _SIZE, "draws": 1,
        "images": 4, "candidates": 8, "rejected": {HOSTILE: 4, "other": 4},
        "weights_sha256": {HOSTILE: HOSTILE, "other": ""}, "engines": {HOSTILE: {"name": HOSTILE}},
        "software": {"commit": HOSTILE}, "hardware": {"gpu": HOSTILE},
    }  # fmt: skip
    (folder / "table6.json").write_text(json.dumps(known | hostile))
