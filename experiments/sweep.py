"""Sweeps: what became of each job, one table of all that belong together, and what follows of them."""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from experiments.config import LOST, RECORD, JobRecord, differing, job_record, settings_of
from experiments.present import derive, networks_of, present, tables_of, worst_case_summary
from experiments.stored import Run, load_manifest, load_run, store_run, stored_runs
from experiments.writing import Presented, write_presented
from pixelrobust.errors import InputError
from pixelrobust.outcomes.kinds import WORST_CASE, kind_of
from pixelrobust.outcomes.manifest import Manifest, merge_manifests, why_apart
from pixelrobust.outcomes.rows import concatenate
from pixelrobust.perturbation.grid import Cell
from pixelrobust.settings import fingerprint


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
    return [_with_settings(job) if job.error == LOST else job for job in jobs]


def _with_settings(job: JobRecord) -> JobRecord:
    with suppress(InputError):
        return job_record(settings_of(*job.overrides), job.overrides, error=job.error)
    return job


def finish(
    jobs: list[JobRecord], results: Path, tell: Callable[[str], None]
) -> tuple[Path, list[Presented]] | None:
    """Write tables and figures of each experiment of several jobs, and what follows of several.

    Jobs of one experiment whose rows do not belong into one table, such as those of different seeds or
    data sets, keep tables of their own.

    Args:
        jobs: all; what those that failed were to find is listed as missing.
        results: the results folder. Merged results get a folder of their own below it, unless the
            jobs are different experiments that share one.
        tell: told in a sentence why tables stand apart.

    Returns:
        The folder, and the tables that were written; None where there was nothing to write. Where
        it is the results folder itself, merged results lie in folders of their own below it.
    """
    groups: dict[str, list[JobRecord]] = {}
    for job in jobs:
        if job.measured and not job.error:
            groups.setdefault(job.name, []).append(job)
    parts = {name: _parts(group, tell) for name, group in groups.items()}
    if [len(own) for own in parts.values()] == [1]:
        ((name, (group,)),) = parts.items()
        directory, run = _merge(group, results)
        return directory, present(directory, *run, _missing(jobs, name))
    runs, directories = {}, set()
    presented: list[Presented] = []
    # Of networks that have images of their own, one table beside another says little.
    apart: list[Run] = []
    for name, own in parts.items():
        # What a failed job was to find would belong to one of several tables.
        missing = _missing(jobs, name) if len(own) == 1 else []
        for group in own:
            if len(group) == 1:
                (job,) = group
                directory = Path(job.directory)
                run = load_run(directory, name)
                if len(own) > 1:
                    title = job.own(differing(jobs[0].overrides, jobs[-1].overrides))
                    presented += [
                        replace(each, title=f"{each.title} ({title})") for each in tables_of(*run)
                    ]
            else:
                directory, run = _merge(group, results)
                presented += present(directory, *run, missing)
            if len(own) == 1:
                runs[name] = run
                directories.add(directory)
            elif kind_of(run[0].config) is WORST_CASE:
                apart.append(run)
    if apart:
        networks = networks_of([(run[0], worst_case_summary(*run)) for run in apart])
        write_presented(_common_directory(apart, results), networks)
        presented += networks
    if not runs:
        return (results, presented) if presented else None
    directory = (
        directories.pop() if len(directories) == 1 else _common_directory(runs.values(), results)
    )
    # The folder of a profile may hold more than this sweep has run.
    derived = derive(directory, stored_runs(directory) | runs)
    if derived:
        return directory, presented + derived
    return (results, presented) if presented else None


def _parts(jobs: list[JobRecord], tell: Callable[[str], None]) -> list[list[JobRecord]]:
    """Divide the jobs of one experiment into those whose rows belong into one table each."""
    parts: list[tuple[Manifest, list[JobRecord]]] = []
    reasons: list[str] = []
    for job in jobs:
        manifest = load_manifest(Path(job.directory), job.name)
        apart = [why_apart(first, manifest) for first, _ in parts]
        if "" in apart:
            parts[apart.index("")][1].append(job)
        else:
            reasons += apart[:1]
            parts.append((manifest, [job]))
    for reason in dict.fromkeys(reasons):
        tell(f"tables of {jobs[0].name} stand apart: {reason}")
    return [part for _, part in parts]


def _missing(jobs: list[JobRecord], name: str) -> list[tuple[str, Cell]]:
    """Return what failed jobs of an experiment were to find."""
    return [lacking for job in jobs if job.name == name for lacking in job.missing()]


def _merge(jobs: list[JobRecord], results: Path) -> tuple[Path, Run]:
    """Store the outcomes of several jobs of one experiment as those of one run."""
    runs = [load_run(Path(job.directory), job.name) for job in jobs]
    manifest = merge_manifests([manifest for manifest, _ in runs])
    outcomes = concatenate([outcomes for _, outcomes in runs])
    directory = results / f"{manifest.name}-sweep-{manifest.address()}"
    store_run(directory, manifest, outcomes)
    return directory, (manifest, outcomes)


def _common_directory(runs: Iterable[Run], results: Path) -> Path:
    addresses = sorted(manifest.address() for manifest, _ in runs)
    return results / f"evaluation-{fingerprint(addresses)[:10]}"
