"""Where a job runs that has others beside it on its machine: on a GPU of its own, and its share of the
cores.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

_FOLDER = ".places"
# Until a process that has ended is gone.
_PATIENCE, _PAUSE = 60.0, 0.1
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Places:
    """What jobs that run at once on one machine share.

    Attributes:
        folder: of the sweep.
        count: how many jobs run at once, at least 1.
        gpus: names of the GPUs, as CUDA_VISIBLE_DEVICES lists them.
        cores: how many there are for all jobs.
    """

    folder: Path
    count: int
    gpus: tuple[str, ...]
    cores: int

    def take(self, choose_gpu: bool) -> None:
        """Keep this process, for as long as it lives, to a place that no other process has.

        Args:
            choose_gpu: let it see one GPU only, of those that there are, if any; to be called before
                CUDA is used.
        """
        place = _place(self.folder, self.count)
        if choose_gpu and self.gpus:
            os.environ[_VISIBLE] = self.gpus[place % len(self.gpus)]
        # Bars of several processes would draw over each other.
        os.environ["TTY_COMPATIBLE"] = "0"
        use_threads(max(1, self.cores // self.count))


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, without using one."""
    named = os.environ.get(_VISIBLE)
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip())
    import torch

    return tuple(str(index) for index in range(torch.cuda.device_count()))


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def scheduled_cores() -> int | None:
    """How many cores Slurm gave this task; None outside a task of Slurm.

    Not every cluster keeps tasks to theirs, and who takes more disturbs others.
    """
    cores = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    return int(cores) if cores and cores.isdigit() else None


def use_threads(count: int) -> None:
    """Compute with so many threads; OpenVINO takes as many as PyTorch has."""
    # For libraries that are loaded later.
    os.environ["OMP_NUM_THREADS"] = str(count)
    import torch

    torch.set_num_threads(count)


_TAKEN: dict[Path, tuple[int, FileLock]] = {}


def _place(folder: Path, count: int) -> int:
    """The number of a free place: its lock is released when the process ends, however it does."""
    if folder in _TAKEN:
        return _TAKEN[folder][0]
    deadline = time.monotonic() + _PATIENCE
    (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    while time.monotonic() < deadline:
        for place in range(count):
            lock = FileLock(folder / _FOLDER / f"{place}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _TAKEN[folder] = place, lock
            return place
        time.sleep(_PAUSE)
    raise TimeoutError(f"none of {count} places in {folder / _FOLDER} is free")
