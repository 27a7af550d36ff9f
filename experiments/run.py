"""The one runner: `python -m experiments.run experiment=table6 profile=bundled`."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.configuration import REPOSITORY, Job, launch, preset_settings
from pixelrobust.errors import InputError
from pixelrobust.settings import RunSettings

if TYPE_CHECKING:
    import pandas as pd

EXIT_INPUT = 2
EXIT_INTERRUPTED = 130


def main() -> int:
    """Run what the command line asks for; the exit code."""
    try:
        sweep = launch(_job)
        return 0 if sweep is None else _finish_sweep(sweep)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _job(read_settings: Callable[[], RunSettings], job: Job | None) -> None:
    if job is None:
        _run(read_settings())
        return
    # One job's failure must not end its siblings: it is recorded, and reported at the end.
    from experiments.sweep import JobRecord

    print(f"\njob: {' '.join(job.overrides)}")
    settings = None
    try:
        settings = read_settings()
        directory = _run(settings)
        record = JobRecord(settings.name, job.overrides, directory=str(directory))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        record = JobRecord(settings.name if settings else "", job.overrides, error=str(error))
    except Exception as error:
        traceback.print_exc()
        record = JobRecord(settings.name if settings else "", job.overrides, error=repr(error))
    record.write(job.directory)


def _run(settings: RunSettings) -> Path:
    from rich.console import Console

    # Imported late, since it loads torch: `--help` and wrong values answer at once.
    from experiments.pipeline import run
    from experiments.progress import Progress

    preset = preset_settings(settings.name, settings.profile) if settings.profile else None
    is_preset = preset is not None and preset.identity() == settings.identity()
    console = Console()
    directory, table = run(settings, is_preset, Progress(console))
    _show(table, directory)
    return directory


def _finish_sweep(sweep_directory: Path) -> int:
    """Print the merged table and what failed; the exit code."""
    from experiments.sweep import merge, read_jobs

    jobs = read_jobs(sweep_directory)
    failed = [job for job in jobs if job.error]
    print(f"\n{len(jobs) - len(failed)} of {len(jobs)} jobs finished")
    for job in failed:
        print(f"failed: {' '.join(job.overrides)}: {job.error}", file=sys.stderr)
    if len(failed) < len(jobs):
        directory, table = merge(jobs, sweep_directory.parent.parent)
        _show(table, directory)
    return EXIT_INPUT if failed else 0


def _show(table: "pd.DataFrame", directory: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(*table.columns, box=box.SIMPLE)
    for row in table.itertuples(index=False):
        shown.add_row(*map(str, row))
    console = Console()
    console.print(shown)
    relative = (
        directory.relative_to(REPOSITORY) if directory.is_relative_to(REPOSITORY) else directory
    )
    console.print(f"written to {relative}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
