"""Stored outcomes beside recomputed ones."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console

from experiments.places import REPOSITORY
from experiments.presentation import Run, stored_runs
from experiments.progress import Progress
from experiments.recomputing import (
    BORDERLINE,
    Recompute,
    Shown,
    count_outcomes,
    recomputed_counts,
    recomputed_outcomes,
)
from experiments.records import RunRecord
from experiments.resources import Session, get_classifier, image_set
from pixelrobust.datasets.cache import ImageSet, PixelRows
from pixelrobust.engine import Engine, find_device, make_engine
from pixelrobust.errors import InputError
from pixelrobust.escaping import escape_markdown
from pixelrobust.files import file_sha256, write_text
from pixelrobust.manifest import Manifest
from pixelrobust.outcomes import ALLOTTED_COLUMNS, CELL_COLUMNS, COLUMNS
from pixelrobust.provenance import describe_hardware, describe_software
from pixelrobust.selection import image_list_digest
from pixelrobust.settings import RunSettings, model_label
from pixelrobust.tables import markdown_table

REPORT = "verification.md"


@dataclass(frozen=True)
class Verification:
    """What came out.

    Attributes:
        checked: outcomes that were recomputed.
        borderline: of these, predictions that differ where two logits are all but equal.
        contradicted: those that differ otherwise.
        text: the report.
    """

    checked: int
    borderline: int
    contradicted: int
    text: str


def verify_folder(
    folder: Path, wanted: Sequence[str], settings: RunSettings, share: float, seed: int
) -> Verification:
    """Recompute a random share of the outcomes of plain images, and write the report.

    Of adaptive evaluations, which keep how many draws of an image were wrong, these numbers are.

    Args:
        folder: of results.
        wanted: names of runs; none: all.
        settings: where images, weights and the cache are, on which device to run.
        share: of the outcomes of each model and cell, at least one of each.
        seed: decides which.

    Raises:
        InputError: there is nothing to verify, or images or weights are not those of the run.
    """
    runs = {
        name: run
        for name, run in stored_runs(folder).items()
        if list(run[1].columns) in (COLUMNS, ALLOTTED_COLUMNS) and (not wanted or name in wanted)
    }
    if not runs:
        raise InputError(
            f"{folder} holds no outcomes of plain images{' of ' + ', '.join(wanted) if wanted else ''}; "
            "those of attacked images, activations and retrained networks cannot be recomputed one by one."
        )
    progress = Progress(Console())
    session = Session(
        settings.on_device("auto"), progress, RunRecord(settings, False, progress.say)
    )
    images = image_set(session)
    found = pd.concat(
        [_verify_run(session, images, name, run, share, seed) for name, run in runs.items()],
        ignore_index=True,
    )
    report = _report(folder, runs, found, settings, share, seed)
    write_text(folder / REPORT, report.text)
    return report


def _verify_run(
    session: Session, images: ImageSet, name: str, run: Run, share: float, seed: int
) -> pd.DataFrame:
    """The outcomes that were recomputed; columns as `Recompute` says, and run."""
    manifest, outcomes = run
    rows = rows_of(images, manifest, outcomes)
    recompute: Recompute = recomputed_outcomes
    if list(outcomes.columns) == ALLOTTED_COLUMNS:
        recompute, outcomes = recomputed_counts, outcomes[outcomes["draws"] > 0]
    parts = []
    for model, own in outcomes.groupby("model", observed=True):
        engine = _engine(session, manifest, str(model), images)
        sample = _sample(own, share, seed)
        with session.progress.task(f"{name}: {model}", count_outcomes(sample)) as advance:
            shown = Shown(
                engine, PixelRows(images.pixels, rows), [images.keys[row] for row in rows],
                images.labels[rows], int(manifest.config["seed"]), manifest.draws, advance,
            )  # fmt: skip
            parts += [
                recompute(shown, cell_rows)
                for _, cell_rows in sample.groupby(CELL_COLUMNS, dropna=False)
            ]
    return pd.concat(parts, ignore_index=True).assign(run=name)


def rows_of(images: ImageSet, manifest: Manifest, outcomes: pd.DataFrame) -> NDArray[np.int64]:
    """Where the images of a run are in the data set.

    Raises:
        InputError: they are not in it, or their pixels, labels or order differ.
    """
    position = {key: row for row, key in enumerate(images.keys)}
    keys = [str(key) for key in outcomes["image"].cat.categories]
    unknown = [key for key in keys if key not in position]
    if unknown:
        raise InputError(
            f"{len(unknown)} images of {manifest.name} are not in the data set, {unknown[0]!r} for "
            "example; give the one that it ran on (dataset=…, dataset.root=…)."
        )
    rows = np.array([position[key] for key in keys], dtype=np.int64)
    if image_list_digest(images, rows.tolist()) != manifest.image_list_sha256:
        raise InputError(
            f"the images of {manifest.name} are called as those of this data set, but their pixels, "
            "labels or order differ; give the data set, and the preprocessing, that it ran on."
        )
    return rows


def _engine(session: Session, manifest: Manifest, model: str, images: ImageSet) -> Engine:
    """What ran a model, with the weights that it had; as far as this machine has it."""
    classifier = None
    for key, settings in session.settings.models.items():
        if model_label(key, settings) == model:
            classifier = get_classifier(session.settings, key)
    if classifier is None:
        raise InputError(
            f"model {model} of {manifest.name} is not among the models "
            f"({', '.join(session.settings.models)}); name it: model={model}."
        )
    if classifier.weights_sha256 != manifest.weights_sha256.get(model):
        raise InputError(
            f"the weights of {model} are not those that {manifest.name} ran with; give them "
            f"(models.{model}.weights)."
        )
    used = manifest.engines.get(model, {})
    own: dict[str, Any] = {
        key: used[key] for key in ("name", "precision", "batch_size") if key in used
    }
    engine = session.settings.engine
    if find_device(str(engine.devices)).type == "cuda":
        own.pop("name", None)
    some = torch.tensor(np.asarray(images.pixels[:4]))
    return make_engine(classifier.module, engine.model_copy(update=own), some, len(images))


def _sample(outcomes: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """A share of the outcomes of each cell, drawn by chance, at least one."""
    rng = np.random.default_rng(seed)
    parts = []
    for _, own in outcomes.groupby(CELL_COLUMNS, dropna=False, sort=False):
        count = max(1, round(share * len(own)))
        parts.append(own.iloc[np.sort(rng.choice(len(own), count, replace=False))])
    return pd.concat(parts)


def _report(
    folder: Path,
    runs: Mapping[str, Run],
    found: pd.DataFrame,
    settings: RunSettings,
    share: float,
    seed: int,
) -> Verification:
    faulty = found[found["fault"] != ""]
    borderline = int((faulty["fault"] == "borderline").sum())
    contradicted, checked = len(faulty) - borderline, int(found["outcomes"].sum())
    verdict = (
        "No outcome is contradicted." if not contradicted else f"{contradicted:,} are contradicted."
    )
    lines = [
        "# Verification",
        f"Of {sum(count_outcomes(outcomes) for _, outcomes in runs.values()):,} stored outcomes of "
        f"{', '.join(runs)}, {checked:,} were recomputed ({100 * share:g} % of each cell, at least "
        f"one; seed {seed}). {borderline:,} predictions differ where two logits are within "
        f"{BORDERLINE:g} of each other, as another order of sums can make them. {verdict}",
    ]
    if len(faulty):
        lines.append(markdown_table(_readable(faulty)))
    lines.append(escape_markdown(_provenance(folder, runs, settings)))
    body = "\n\n".join(lines)
    signature = hashlib.sha256(body.encode()).hexdigest()
    text = f"{body}\n\nSHA-256 of all above: {signature}\n"
    return Verification(checked, borderline, contradicted, text)


def _readable(faulty: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Run": faulty["run"],
            "Model": faulty["model"],
            "Num": faulty["num"].astype(str),
            "Image": faulty["image"],
            "Draw": faulty["draw"],
            "Label": faulty["label"].astype(str),
            "Stored": faulty["stored"],
            "Recomputed": faulty["again"],
            "Logits apart": ["" if pd.isna(gap) else f"{gap:.3g}" for gap in faulty["gap"]],
            "What": faulty["fault"],
        }
    )


def _provenance(folder: Path, runs: Mapping[str, Run], settings: RunSettings) -> str:
    """Who verified what, where."""
    files = [
        f"{name} {file_sha256(folder / 'outcomes' / f'{name}.parquet')[:16]}"
        for name in runs
        if (folder / "outcomes" / f"{name}.parquet").is_file()
    ]
    software = describe_software(REPOSITORY)
    hardware = describe_hardware(find_device(str(settings.engine.devices)))
    versions = [
        f"{key} {software[key]}" for key in ("python", "torch", "openvino") if software[key]
    ]
    return (
        f"Outcomes (SHA-256): {', '.join(files)}. Verified {datetime.now(UTC):%Y-%m-%d} by commit "
        f"{software['commit']}, {', '.join(versions)}, on {hardware['gpu'] or hardware['device']}."
    )
