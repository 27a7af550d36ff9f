"""Sweeps: what became of each job, one table of all that belong together, and what follows of them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.derived import derive
from experiments.presentation import Run, load_run, present, store_run, stored_runs
from experiments.writing import Presented
from pixelrobust.files import write_text
from pixelrobust.manifest import merge_manifests
from pixelrobust.outcomes import concatenate
from pixelrobust.settings import fingerprint

_RECORD = "job.json"


@dataclass(frozen=True)
class JobRecord:
    """What became of one job.

    Attributes:
        name: of its experiment; empty where its config could not be read.
        overrides: what distinguishes it from its siblings.
        directory: where its results lie; empty where it failed.
        measured: whether it has outcomes, rather than a description.
        error: why it failed; empty where it did not.
    """

    name: str
    overrides: tuple[str, ...]
    directory: str = ""
    measured: bool = True
    error: str = ""

    def write(self, job_directory: Path) -> None:
        write_text(job_directory / _RECORD, json.dumps(asdict(self), indent=1) + "\n")


def read_jobs(sweep_directory: Path) -> list[JobRecord]:
    """The records of a sweep's jobs, in the order of their numbers."""
    paths = sorted(sweep_directory.glob(f"*/{_RECORD}"), key=lambda path: int(path.parent.name))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [JobRecord(**record | {"overrides": tuple(record["overrides"])}) for record in records]


def finish(jobs: list[JobRecord], results: Path) -> tuple[Path, list[Presented]] | None:
    """Write tables and figures of each experiment of several jobs, and what follows of several.

    Args:
        jobs: those that succeeded.
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
        if job.measured:
            groups.setdefault(job.name, []).append(job)
    if len(groups) == 1:
        (group,) = groups.values()
        directory, run = _merge(group, results)
        return directory, present(directory, *run)
    runs, directories = {}, set()
    presented: list[Presented] = []
    for name, group in groups.items():
        if len(group) == 1:
            directory = Path(group[0].directory)
            runs[name] = load_run(directory, name)
        else:
            directory, runs[name] = _merge(group, results)
            presented += present(directory, *runs[name])
        directories.add(directory)
    if not runs:
        return None
    directory = directories.pop() if len(directories) == 1 else _common_directory(runs, results)
    # The folder of a profile may hold more than this sweep has run.
    derived = derive(directory, stored_runs(directory) | runs)
    if derived:
        return directory, presented + derived
    return (results, presented) if presented else None


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
