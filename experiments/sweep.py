"""Sweeps: what became of each job, and one table of all of them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from experiments.presentation import load_run, present, store_run
from pixelrobust.errors import InputError
from pixelrobust.files import write_text
from pixelrobust.manifest import merge_manifests
from pixelrobust.outcomes import concatenate

_RECORD = "job.json"


@dataclass(frozen=True)
class JobRecord:
    """What became of one job.

    Attributes:
        name: of its experiment; empty where its config could not be read.
        overrides: what distinguishes it from its siblings.
        directory: where its results lie; empty where it failed.
        error: why it failed; empty where it did not.
    """

    name: str
    overrides: tuple[str, ...]
    directory: str = ""
    error: str = ""

    def write(self, job_directory: Path) -> None:
        write_text(job_directory / _RECORD, json.dumps(asdict(self), indent=1) + "\n")


def read_jobs(sweep_directory: Path) -> list[JobRecord]:
    """The records of a sweep's jobs, in the order of their numbers."""
    paths = sorted(sweep_directory.glob(f"*/{_RECORD}"), key=lambda path: int(path.parent.name))
    return [JobRecord(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def merge(jobs: list[JobRecord], results: Path) -> tuple[Path, pd.DataFrame]:
    """Write one table and figure of all jobs that succeeded.

    Args:
        jobs: at least one that succeeded.
        results: the results folder; the merged results get a folder of their own below it.

    Returns:
        That folder, and the table for reading.

    Raises:
        InputError: the jobs saw different images, or are otherwise not comparable.
    """
    done = [job for job in jobs if not job.error]
    if len({job.name for job in done}) > 1:
        raise InputError("jobs of different experiments are not merged into one table.")
    runs = [load_run(Path(job.directory), job.name) for job in done]
    manifest = merge_manifests([manifest for manifest, _ in runs])
    outcomes = concatenate([outcomes for _, outcomes in runs])
    directory = results / f"{manifest.name}-sweep-{manifest.address()}"
    store_run(directory, manifest, outcomes)
    return directory, present(directory, manifest, outcomes)
