"""A folder of results verified, and the report."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from experiments.exits import REPOSITORY
from experiments.present import Run, outcomes_file, stored_runs
from experiments.session import Progress, RunRecord, Session, image_set
from experiments.verification.attacked import verify_attacked
from experiments.verification.comparing import BORDERLINE, FAULTS
from experiments.verification.layers import verify_activations
from experiments.verification.plain import verify_outcomes
from experiments.verification.retrained import (
    NotKeptError,
    verify_distances,
    verify_retraining,
    verify_transfer,
)
from experiments.verification.stored import StoredRun
from pixelrobust.distributed import Context
from pixelrobust.engine import find_device
from pixelrobust.errors import InputError, escape_markdown
from pixelrobust.files import file_sha256, write_text
from pixelrobust.outcomes.kinds import (
    ACTIVATIONS,
    ADVERSARIAL,
    DISTANCES,
    RETRAINING,
    TRANSFER,
    kind_of,
)
from pixelrobust.outcomes.manifest import describe_hardware, describe_software
from pixelrobust.settings import RunSettings
from pixelrobust.tables.rates import markdown_table

REPORT = "verification.md"


@dataclass(frozen=True)
class Verification:
    """What came out.

    Attributes:
        checked: outcomes that were recomputed.
        borderline: rows that differ where two logits are all but equal.
        contradicted: rows that differ otherwise.
        text: the report.
    """

    checked: int
    borderline: int
    contradicted: int
    text: str


def verify_folder(
    folder: Path,
    wanted: Sequence[str],
    settings: RunSettings,
    share: float,
    seed: int,
    train: bool = False,
) -> Verification:
    """Recompute a random share of what runs found, and write the report.

    Args:
        folder: of results.
        wanted: names of runs; none: all.
        settings: where images, weights and the cache are, on which device to run.
        share: of the outcomes of each model and cell, or of the images of each model, at least one
            of each.
        seed: decides which.
        train: whether to retrain networks that are not kept; else their runs are left out.

    Raises:
        InputError: there is nothing to verify, or images or weights are not those of the run.
    """
    runs = {
        name: run
        for name, run in stored_runs(folder).items()
        if (not wanted or name in wanted) and len(run[1])
    }
    if not runs:
        raise InputError(
            f"{folder} holds no outcomes{' of ' + ', '.join(wanted) if wanted else ''}; give a folder "
            "that a run has written into, such as results/bundled."
        )
    given = settings.engine.devices
    # What is recomputed is too little to be shared by several.
    settings = settings.on_device(given if isinstance(given, str) else "auto")
    session = _session(settings)
    parts: list[pd.DataFrame] = []
    left_out: dict[str, str] = {}
    for name, (manifest, outcomes) in runs.items():
        rng = np.random.default_rng(seed)
        run = StoredRun(manifest, outcomes, session, share, rng)
        try:
            found = list(_verify(run, runs, train))
        except NotKeptError as error:
            session.progress.say(str(error))
            left_out[name] = str(error)
        else:
            parts += [part.assign(run=name) for part in found]
    if len(left_out) == len(runs):
        raise InputError(*left_out.values())
    everything = pd.concat([part for part in parts if len(part)], ignore_index=True)
    report = _report(folder, runs, left_out, everything, settings, share, seed)
    write_text(folder / REPORT, report.text)
    return report


def _session(settings: RunSettings) -> Session:
    progress = Progress(Console())
    record = RunRecord(settings, False, progress.say)
    context = Context(device=find_device(str(settings.engine.devices)))
    return Session(settings, progress, record, context)


def _verify(run: StoredRun, runs: Mapping[str, Run], train: bool) -> Iterator[pd.DataFrame]:
    """A share of the rows of a run, found again, by their kind."""
    kind = kind_of(run.manifest.config)
    if kind is TRANSFER:
        return verify_transfer(run, train)
    if kind is DISTANCES:
        return verify_distances(run, train)
    if kind is RETRAINING:
        return verify_retraining(run, train)
    images = image_set(run.session)
    if kind is ADVERSARIAL:
        return verify_attacked(run, images, runs)
    if kind is ACTIVATIONS:
        return verify_activations(run, images)
    return verify_outcomes(run, images)


def _report(
    folder: Path,
    runs: Mapping[str, Run],
    left_out: Mapping[str, str],
    found: pd.DataFrame,
    settings: RunSettings,
    share: float,
    seed: int,
) -> Verification:
    verified = {name: run for name, run in runs.items() if name not in left_out}
    faulty = found[found["fault"] != ""]
    borderline = int((faulty["fault"] == "borderline").sum())
    contradicted, checked = len(faulty) - borderline, int(found["outcomes"].sum())
    verdict = (
        "No outcome is contradicted." if not contradicted else f"{contradicted:,} are contradicted."
    )
    lines = [
        "# Verification",
        f"Of {sum(len(outcomes) for _, outcomes in verified.values()):,} stored outcomes of "
        f"{', '.join(verified)}, {checked:,} were recomputed ({100 * share:g} % of each cell, at least "
        f"one; of attacked images, layers and distances, {100 * share:g} % of the images; seed {seed}). "
        f"{borderline:,} differ where two logits are within {BORDERLINE:g} of each other, as another "
        f"order of sums can make them. {verdict}",
        *(f"Left out: {escape_markdown(why)}" for why in left_out.values()),
    ]
    if len(faulty):
        lines.append(markdown_table(_readable(faulty)))
        lines.append(
            "; ".join(
                f"{fault}: {FAULTS[fault]}" for fault in FAULTS if fault in set(faulty["fault"])
            )
            + "."
        )
    lines.append(escape_markdown(_provenance(folder, verified, settings)))
    body = "\n\n".join(lines)
    signature = hashlib.sha256(body.encode()).hexdigest()
    text = f"{body}\n\nSHA-256 of all above: {signature}\n"
    return Verification(checked, borderline, contradicted, text)


def _readable(faulty: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Run": faulty["run"],
            "Model": faulty["model"],
            "Image": faulty["image"],
            "Outcome": faulty["which"],
            "Stored": faulty["stored"],
            "Recomputed": faulty["again"],
            "Logits apart": ["" if pd.isna(gap) else f"{gap:.3g}" for gap in faulty["gap"]],
            "What": faulty["fault"],
        }
    )


def _provenance(folder: Path, runs: Mapping[str, Run], settings: RunSettings) -> str:
    """Who verified what, where."""
    files = [f"{name} {file_sha256(outcomes_file(folder, name))[:16]}" for name in runs]
    software = describe_software(REPOSITORY)
    hardware = describe_hardware(find_device(str(settings.engine.devices)))
    versions = [
        f"{key} {software[key]}" for key in ("python", "torch", "openvino") if software[key]
    ]
    return (
        f"Outcomes (SHA-256): {', '.join(files)}. Verified {datetime.now(UTC):%Y-%m-%d} by commit "
        f"{software['commit']}, {', '.join(versions)}, on {hardware['gpu'] or hardware['device']}."
    )
