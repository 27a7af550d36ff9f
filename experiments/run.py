"""Run what is configured: `pixelrobust experiment=table6 profile=bundled`, or `python -m experiments.run …`."""

import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config import (
    Config,
    Job,
    SweepCallback,
    differing,
    job_record,
    launch,
    preset_settings,
    read_settings,
    usable_cores,
)
from experiments.exits import CONFIGS, EXIT_INPUT, Workshop, exit_code, show_anywhere
from experiments.manual import manual
from pixelrobust.errors import InputError, first_line, printable
from pixelrobust.settings import RunSettings

if TYPE_CHECKING:
    from experiments.writing import Presented

# Their jobs print where this process does.
_LAUNCHERS_HERE = ("BasicLauncher", "JoblibLauncher")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""

    def work() -> int:
        if {"--help", "-h"} & set(sys.argv[1:] if arguments is None else arguments):
            print(manual(CONFIGS))
            return 0
        # Jobs that one process does after each other share what they make.
        sweep = launch(partial(_job, Workshop()), arguments)
        return 0 if sweep is None else _finish_sweep(sweep)

    return exit_code(work)


def _job(workshop: Workshop, config: Config, job: Job | None) -> None:
    # Jobs may have processes of their own.
    show_anywhere()
    if job is None:
        _run(read_settings(config), workshop)
        return
    # One job's failure must not end its siblings: it is recorded, and reported at the end.
    settings, start = None, time.monotonic()
    try:
        settings = read_settings(config)
        group = f"sweep {job.directory.parent.name}"
        placed = _in_place(settings.in_group(group), job)
        # Only what tells experiments and profiles apart leaves each with a folder of its profile.
        is_single = job.swept <= {"experiment", "profile"}
        directory, _ = perform(placed, workshop, " ".join(job.overrides), is_single, is_job=True)
        record = job_record(settings, job.overrides, str(directory))
    except Exception as error:
        if isinstance(error, InputError):
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        record = job_record(settings, job.overrides, error=first_line(error) or repr(error))
        record.write_failure(job.directory, error)
    record = replace(record, seconds=round(time.monotonic() - start, 1))
    record.write(job.directory)
    from experiments.report import show_job

    show_job(record, job.swept)


def _in_place(settings: RunSettings, job: Job) -> RunSettings:
    """Keep a job to its share of a machine; return the settings, with a GPU of its own."""
    cores = usable_cores() // job.at_once
    if job.launcher == "SlurmLauncher":
        # Not every cluster keeps jobs to the cores that they are given.
        given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
        cores = int(given) if given.isdigit() else cores
    elif job.at_once == 1:
        return settings
    else:
        # Bars of several processes would draw over each other.
        os.environ["TTY_COMPATIBLE"] = "0"
    import torch

    # OpenVINO takes as many as PyTorch has.
    torch.set_num_threads(max(1, cores))
    gpus = torch.cuda.device_count()
    if job.at_once > 1 and gpus and settings.engine.devices == "auto":
        return settings.on_device(f"cuda:{job.number % gpus}")
    return settings


def _run(settings: RunSettings, workshop: Workshop) -> None:
    directory, presented = perform(settings, workshop)
    # Of several processes that torchrun started, the first one tells.
    if presented:
        from experiments.report import show

        show(presented, directory, settings.pictures > 0)


def perform(
    settings: RunSettings,
    workshop: Workshop,
    name: str = "",
    is_single: bool = True,
    is_job: bool = False,
) -> tuple[Path, "list[Presented]"]:
    """Do a run.

    Args:
        settings: of the run.
        workshop: what earlier runs of this process have made.
        name: what to call it where it is logged; "": as the settings say.
        is_single: whether it is the only one of its experiment and profile; of several, none lies in
            the profile's folder.
        is_job: whether it is a job of a sweep, which tells only what went wrong.

    Returns:
        The folder of its results, and its tables; none where another process has them.

    Raises:
        InputError: anything the user gave is wrong, or memory does not suffice.
    """
    # Imported late, since it loads torch: `--help` and wrong values answer at once.
    from experiments.pipeline import run
    from pixelrobust.distributed import device_names, is_first_process, start
    from pixelrobust.engine.devices import is_out_of_memory
    from pixelrobust.tracking import About, make_tracker

    preset = preset_settings(settings.name, settings.profile) if settings.profile else None
    is_preset = is_single and preset is not None and preset.identity() == settings.identity()
    devices = device_names(settings.engine.devices)
    config = settings.model_dump(mode="json", exclude={"tracking"})
    tracking = settings.tracking if is_first_process() else None
    tracker = make_tracker(tracking, About(name or settings.name, settings.name, config))
    try:
        # Opened here, and not where the work is done, since processes may be ended at any moment.
        with tracker:
            return start(run, devices, settings, is_preset, tracker, workshop, is_job)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"memory does not suffice ({first_line(error)}); give fewer draws, a smaller dataset.limit "
            "or engine.batch_size, or close other programs."
        ) from error


def _finish_sweep(sweep_directory: Path) -> int:
    """Print the merged tables, why some stand apart, and what failed; return the exit code."""
    from experiments.report import show, show_job
    from experiments.sweep import finish, read_jobs

    jobs = read_jobs(sweep_directory)
    # Jobs elsewhere have told nobody.
    if SweepCallback.launcher not in _LAUNCHERS_HERE:
        for job in jobs:
            show_job(job, differing(jobs[0].overrides, jobs[-1].overrides))
    failed = [job for job in jobs if job.error]
    finished = finish(jobs, sweep_directory.parent.parent, lambda line: print(printable(line)))
    if finished:
        directory, presented = finished
        show(presented, directory)
    print(f"{len(jobs) - len(failed)} of {len(jobs)} jobs finished")
    for job in failed:
        print(f"failed: {printable(' '.join(job.overrides))}: {job.error}", file=sys.stderr)
    if failed:
        print(f"tracebacks and settings lie in {sweep_directory}", file=sys.stderr)
    return EXIT_INPUT if failed else 0


if __name__ == "__main__":
    sys.exit(main())
