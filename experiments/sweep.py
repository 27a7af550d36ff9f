"""Sweeps: what became of each job, one table of all that belong together, and what follows of them."""

import json
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.config import RECORD, settings_of
from experiments.present import Run, derive, load_run, present, store_run, stored_runs
from experiments.writing import Presented
from pixelrobust.errors import InputError
from pixelrobust.files import write_text
from pixelrobust.outcomes.manifest import merge_manifests
from pixelrobust.outcomes.rows import concatenate
from pixelrobust.perturbation.grid import Cell
from pixelrobust.settings import RunSettings, fingerprint, model_label

FAILURE, SETTINGS = "failure.txt", "settings.json"
"""Of a job that failed, the files with its traceback and its settings, beside its record."""

_LOST = (
    "it left no record: its process has ended, or still runs; the same command goes on from there"
)


@dataclass(frozen=True)
class JobRecord:
    """What became of one job.

    Attributes:
        name: of its experiment; empty where its config could not be read.
        overrides: what distinguishes it from its siblings.
        directory: where its results lie; empty where it failed.
        measured: whether it has outcomes, rather than a description.
        error: why it failed; empty where it did not.
        settings: of the job, as plain data; None where its config could not be read.
        expected: models with the cells, (num, amplitude, area), that its table is to have.
    """

    name: str
    overrides: tuple[str, ...]
    directory: str = ""
    measured: bool = True
    error: str = ""
    settings: dict[str, Any] | None = None
    expected: tuple[tuple[str, tuple[int, int | None, int | None]], ...] = ()

    def missing(self) -> list[tuple[str, Cell]]:
        """What is not there because the job failed."""
        return [(model, Cell(*cell)) for model, cell in self.expected] if self.error else []

    def write(self, job_directory: Path) -> None:
        """Write it into the folder of the job."""
        write_text(job_directory / RECORD, json.dumps(asdict(self), indent=1) + "\n")

    def write_failure(self, job_directory: Path, error: BaseException) -> None:
        """Write what was raised, with its traceback, and the settings of the job."""
        raised = "".join(traceback.format_exception(error))
        write_text(job_directory / FAILURE, raised)
        write_text(job_directory / SETTINGS, json.dumps(self.settings, indent=1) + "\n")


def record_as_lost(sweep_directory: Path, jobs: Sequence[tuple[str, ...]]) -> None:
    """Write a record for each job of a sweep, given its overrides, that stands until it writes its own."""
    # Hydra makes the same folders, and says what is wrong with them.
    with suppress(InputError, OSError):
        for number, overrides in enumerate(jobs):
            (sweep_directory / str(number)).mkdir(parents=True)
            JobRecord("", overrides, error=_LOST).write(sweep_directory / str(number))


def read_jobs(sweep_directory: Path) -> list[JobRecord]:
    """Return the records of a sweep's jobs, in the order of their numbers.

    Of jobs that were lost, the settings are found by their overrides.
    """
    paths = sorted(sweep_directory.glob(f"*/{RECORD}"), key=lambda path: int(path.parent.name))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    jobs = [
        JobRecord(
            **record
            | {
                "overrides": tuple(record["overrides"]),
                "expected": tuple((model, tuple(cell)) for model, cell in record["expected"]),
            }
        )
        for record in records
    ]
    return [_with_settings(job) if job.error == _LOST else job for job in jobs]


def _with_settings(job: JobRecord) -> JobRecord:
    with suppress(InputError):
        return job_record(settings_of(*job.overrides), job.overrides, error=job.error)
    return job


def job_record(
    settings: RunSettings | None, overrides: tuple[str, ...], directory: str = "", error: str = ""
) -> JobRecord:
    """The record of a job with these settings, None where they could not be read."""
    if settings is None:
        return JobRecord("", overrides, directory, error=error)
    labels = [model_label(key, model) for key, model in settings.models.items()]
    cells = [(cell.num, cell.amplitude, cell.area) for cell in settings.perturbation.cells()]
    is_rates = settings.measure == "outcomes" and not settings.attack
    return JobRecord(
        settings.name,
        overrides,
        directory,
        settings.measure != "descriptions",
        error,
        settings.model_dump(mode="json"),
        tuple((label, cell) for label in labels for cell in cells) if is_rates else (),
    )


def finish(jobs: list[JobRecord], results: Path) -> tuple[Path, list[Presented]] | None:
    """Write tables and figures of each experiment of several jobs, and what follows of several.

    Args:
        jobs: all; what those that failed were to find is listed as missing.
        results: the results folder. Merged results get a folder of their own below it, unless the
            jobs are different experiments that share one.

    Returns:
        The folder, and the tables that were written; None where there was nothing to write. Where
        it is the results folder itself, merged results lie in folders of their own below it.

    Raises:
        InputError: jobs of one experiment saw different images, or are otherwise not comparable.
    """
    groups: dict[str, list[JobRecord]] = {}
    for job in jobs:
        if job.measured and not job.error:
            groups.setdefault(job.name, []).append(job)
    if len(groups) == 1:
        (group,) = groups.values()
        directory, run = _merge(group, results)
        return directory, present(directory, *run, _missing(jobs, group[0].name))
    runs, directories = {}, set()
    presented: list[Presented] = []
    for name, group in groups.items():
        if len(group) == 1:
            directory = Path(group[0].directory)
            runs[name] = load_run(directory, name)
        else:
            directory, runs[name] = _merge(group, results)
            presented += present(directory, *runs[name], _missing(jobs, name))
        directories.add(directory)
    if not runs:
        return None
    directory = directories.pop() if len(directories) == 1 else _common_directory(runs, results)
    # The folder of a profile may hold more than this sweep has run.
    derived = derive(directory, stored_runs(directory) | runs)
    if derived:
        return directory, presented + derived
    return (results, presented) if presented else None


def _missing(jobs: list[JobRecord], name: str) -> list[tuple[str, Cell]]:
    """What failed jobs of an experiment were to find."""
    return [lacking for job in jobs if job.name == name for lacking in job.missing()]


def _merge(jobs: list[JobRecord], results: Path) -> tuple[Path, Run]:
    """Store the outcomes of several jobs of one experiment as those of one run."""
    runs = [load_run(Path(job.directory), job.name) for job in jobs]
    manifest = merge_manifests([manifest for manifest, _ in runs])
    outcomes = concatenate([outcomes for _, outcomes in runs])
    directory = results / f"{manifest.name}-sweep-{manifest.address()}"
    store_run(directory, manifest, outcomes)
    return directory, (manifest, outcomes)


def _common_directory(runs: dict[str, Run], results: Path) -> Path:
    addresses = sorted(manifest.address() for manifest, _ in runs.values())
    return results / f"evaluation-{fingerprint(addresses)[:10]}"
