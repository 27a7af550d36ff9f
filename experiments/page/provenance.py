"""Where the numbers of a table come from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.page.folder import Stored
from experiments.paper import (
    CLAIM_SOURCES,
    CLAIMS,
    DESCRIPTIONS,
    TABLE_5,
    TABLE_5_SOURCES,
    experiment_called,
)
from pixelrobust.files import file_sha256
from pixelrobust.manifest import Manifest
from pixelrobust.report import (
    Block,
    Column,
    Entry,
    Facts,
    Grid,
    Line,
    Part,
    Section,
    TableBlock,
    anchor_of,
)

_DESCRIBES = "This describes what is configured and installed; no run is behind it."
_UNKNOWN = "No record of a run lies beside it."


def runs_behind(stored: Stored, stem: str) -> list[str]:
    """Stems of the outcomes that a table was made of."""
    if stem == TABLE_5.table:
        sources = [experiment_called(name).table for name in TABLE_5_SOURCES]
    elif stem == CLAIMS:
        sources = [experiment_called(name).table for name in CLAIM_SOURCES]
    else:
        sources = [
            run
            for run, manifest in stored.manifests.items()
            if stem in _stems_of(manifest, run, stored)
        ]
    return [run for run in sources if run in stored.manifests]


def source_lines(stored: Stored, stem: str) -> list[Block]:
    """Of a table: its file, and the runs behind it."""
    files = [
        f"{stem}{suffix}"
        for suffix, held in ((".md", stored.documents), (".csv", stored.tables))
        if stem in held
    ]
    from_files = f"From {' and '.join(files)}."
    runs = runs_behind(stored, stem)
    if stem in DESCRIPTIONS or not runs:
        return [Line(f"{from_files} {_DESCRIBES if stem in DESCRIPTIONS else _UNKNOWN}")]
    lines: list[Block] = [Line(from_files)] if len(runs) > 1 else []
    begin = "" if lines else f"{from_files} "
    return lines + [
        Line(begin + provenance(stored.manifests[run]), anchor_of("run", run), "full record")
        for run in runs
    ]


def provenance(manifest: Manifest) -> str:
    """A run in one line."""
    software, hardware = manifest.software, manifest.hardware
    commit = str(software.get("commit") or "unknown")[:10]
    changes = " with uncommitted changes" if software.get("uncommitted_changes") else ""
    machine = hardware.get("gpu") or f"{hardware.get('cores')} cores, {hardware.get('system')}"
    return (
        f"{manifest.name}: seed {manifest.config.get('seed', 'of each')}, draws {manifest.draws}, "
        f"torch {software.get('torch')}, commit {commit}{changes}, {machine}, "
        f"{sum(manifest.seconds.values()):.0f} s; images {manifest.image_list_sha256[:10]}"
    )


def provenance_section(stored: Stored) -> Section:
    """The records of all runs."""
    parts = [
        Part(
            anchor_of("run", run),
            f"Run {manifest.name}",
            [Facts(_facts(stored.folder, run, manifest))],
        )
        for run, manifest in stored.manifests.items()
    ]
    blocks = [TableBlock(_overview(stored.manifests), "All runs")] if parts else []
    return Section("provenance", "Where the numbers come from", blocks, parts)


def _stems_of(manifest: Manifest, run: str, stored: Stored) -> list[str]:
    """Of the tables that one run alone gave."""
    experiment = experiment_called(manifest.name)
    stems = [run, *([experiment.flips] if experiment.flips else [])]
    # Losses are of the network that was retrained in the very run.
    if run.startswith("table10"):
        stems.append(experiment.histories)
    return [stem for stem in stems if stem in stored.documents or stem in stored.tables]


def _overview(manifests: Mapping[str, Manifest]) -> Grid:
    titles = ("Run", "Images", "Draws", "Seed", "Seconds", "Images' hash", "Commit", "Machine")
    numeric = (False, True, True, True, True, False, False, False)
    rows = []
    for manifest in manifests.values():
        seconds = f"{sum(manifest.seconds.values()):.0f}"
        hardware = manifest.hardware
        values = (
            manifest.name, str(manifest.images), str(manifest.draws),
            str(manifest.config.get("seed", "")), seconds, manifest.image_list_sha256[:10],
            str(manifest.software.get("commit") or "unknown")[:10],
            str(hardware.get("gpu") or hardware.get("device") or ""),
        )  # fmt: skip
        rows.append([Entry(value, key=value) for value in values])
    return Grid([Column(*pair) for pair in zip(titles, numeric, strict=True)], rows)


def _facts(folder: Path, run: str, manifest: Manifest) -> list[tuple[str, str]]:
    outcomes = folder / "outcomes" / f"{run}.parquet"
    height, width = manifest.image_size
    facts = [
        ("Record", f"outcomes/{run}.json"),
        ("Outcomes", f"outcomes/{run}.parquet, SHA-256 {_digest(outcomes)}"),
        ("Images", f"{manifest.images:,} of {manifest.candidates:,}, {height} × {width} pixels"),
        ("Data set", manifest.description),
        ("List of images, SHA-256", manifest.image_list_sha256),
        ("Seed, draws", f"{manifest.config.get('seed', 'of each')}, {manifest.draws}"),
        ("Wrong before any change", _pairs(manifest.rejected)),
    ]
    facts += [(f"Weights of {key}, SHA-256", str(v)) for key, v in manifest.weights_sha256.items()]
    facts += [
        (f"Engine of {model}", _pairs(engine) if isinstance(engine, dict) else str(engine))
        for model, engine in manifest.engines.items()
    ]
    facts += [
        ("Software", _pairs(manifest.software)),
        ("Machine", _pairs(manifest.hardware)),
        ("Seconds", _pairs(manifest.seconds)),
    ]
    return [(name, value) for name, value in facts if value]


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def _digest(path: Path) -> str:
    return file_sha256(path) if path.is_file() else "missing"
