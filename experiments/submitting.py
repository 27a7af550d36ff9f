"""Jobs as submitit runs them: processes of this machine, or jobs of Slurm; and waiting for their records."""

import getpass
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton

from experiments.sweep_folder import is_recorded
from pixelrobust.errors import InputError, first_line
from pixelrobust.escaping import printable

# Of submitit's parameters, those that all clusters share; it wants the others to begin with a name.
_SHARED = {
    "cpus_per_task", "gpus_per_node", "mem_gb", "name", "nodes", "stderr_to_stdout",
    "tasks_per_node", "timeout_min",
}  # fmt: skip
_STDERR = 2
_NAMES = {"local": "this machine", "slurm": "Slurm"}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
# Until a record shows that was written elsewhere.
_GRACE = {"local": 0.0, "slurm": 10.0}


def submit(
    launcher: Any, sweep: Path, batch: Sequence[Sequence[str]], first: int
) -> dict[int, str]:
    """Run jobs, and wait until each is recorded or has ended.

    Args:
        launcher: Hydra's, which is what a job runs.
        sweep: folder of the sweep.
        batch: each job's overrides.
        first: number of the first job.

    Returns:
        Why jobs ended that have no record, by number.

    Raises:
        InputError: they could not be submitted.
    """
    cluster = launcher._EXECUTOR
    jobs = dict(enumerate(_start(launcher, cluster, sweep, batch, first), first))
    ids = ", ".join(sorted({job.job_id.partition("_")[0] for job in jobs.values()}))
    print(f"{len(jobs)} jobs on {_NAMES[cluster]}: {ids}; what they print is in {sweep}/.submitit")
    try:
        return _await(cluster, sweep, jobs)
    except KeyboardInterrupt:
        for number, job in jobs.items():
            if not is_recorded(sweep / str(number)):
                job.cancel(check=False)
        raise


def _start(
    launcher: Any, cluster: str, sweep: Path, batch: Sequence[Sequence[str]], first: int
) -> list[Any]:
    # Imported late, since it is optional.
    import submitit

    options = {key: value for key, value in launcher.params.items() if value is not None}
    folder, retries = options.pop("submitit_folder"), options.pop("max_num_timeout", 0)
    named = {key if key in _SHARED else f"{cluster}_{key}": value for key, value in options.items()}
    arguments = [
        (list(overrides), "hydra.sweep.dir", number, str(number), Singleton.get_state())
        for number, overrides in enumerate(batch, first)
    ]
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster, slurm_max_num_timeout=retries)
        executor.update_parameters(**named)
        with _inherited_errors(sweep / ".submitit" / "controllers.log", cluster == "local"):
            return list(executor.map_array(launcher, *zip(*arguments, strict=True)))
    # submitit has many kinds.
    except Exception as error:
        said = [line for line in str(error).splitlines() if line.startswith("sbatch: ")]
        why = said[-1] if said else first_line(error)
        raise InputError(
            f"{_NAMES[cluster]} does not take the jobs ({why.rstrip('.')}); see the keys of "
            "hydra.launcher, or give hydra/launcher=local."
        ) from error


@contextmanager
def _inherited_errors(path: Path, is_wanted: bool) -> Iterator[None]:
    """Let processes that are started here write errors to a file.

    Those that submitit starts to watch over its own show a traceback when they are interrupted.
    """
    if not is_wanted:
        yield
        return
    sys.stderr.flush()
    own = os.dup(_STDERR)
    with path.open("ab") as file:
        os.dup2(file.fileno(), _STDERR)
    try:
        yield
    finally:
        os.dup2(own, _STDERR)
        os.close(own)


def _await(cluster: str, sweep: Path, jobs: Mapping[int, Any]) -> dict[int, str]:
    """Wait until each job is recorded or has ended; why, of those that are not recorded."""
    reasons: dict[int, str] = {}
    ended: dict[int, float] = {}
    waiting, pause = dict(jobs), _FIRST_PAUSE
    while waiting:
        # Seen before the records, or one could be written in between.
        active = _active(cluster, waiting)
        for number, job in list(waiting.items()):
            if is_recorded(sweep / str(number)):
                del waiting[number]
                done = len(jobs) - len(waiting)
                print(f"job {number} is done: {done} of {len(jobs)}", flush=True)
            elif number in active:
                ended.pop(number, None)
            elif time.monotonic() - ended.setdefault(number, time.monotonic()) >= _GRACE[cluster]:
                del waiting[number]
                reasons[number] = _reason(cluster, job)
        if waiting:
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
    return reasons


def _active(cluster: str, jobs: Mapping[int, Any]) -> set[int]:
    """Of these jobs, those that have not ended, or of which nobody knows."""
    if cluster == "local":
        return {number for number, job in jobs.items() if not job.done()}
    # Accounting, which submitit would ask, is not on every cluster.
    listed = _run(
        "squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"
    )  # fmt: skip
    if listed is None:
        return set(jobs)
    return {number for number, job in jobs.items() if job.job_id in listed.split()}


def _reason(cluster: str, job: Any) -> str:
    """Why a job ended, as far as anybody knows."""
    how = f"job {job.job_id} of {_NAMES[cluster]} ended before it was done"
    if cluster == "slurm":
        shown = _run("scontrol", "show", "job", "--oneliner", job.job_id) or ""
        found = re.search(r"JobState=(\S+)", shown)
        how += f" ({found[1]})" if found else ""
    path = job.paths.stderr
    text = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
    last = printable(text.splitlines()[-1].strip()) if text else "it printed no error"
    return f"{how}; {last} ({path})"


def _run(*command: str) -> str | None:
    """What a command prints; None where it fails."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout if ended.returncode == 0 else None
