"""Sweeps whose jobs run beside each other: what Hydra's launchers lack, put around them.

A job that dies is a failed job, and its siblings go on; jobs on one machine have places of their own; and
who presses Ctrl-C ends what was started.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from experiments.job_places import Places, scheduled_cores, usable_cores, use_threads, visible_gpus
from experiments.submitting import submit
from experiments.sweep_folder import is_recorded
from pixelrobust.errors import InputError, first_line

Batch = Sequence[Sequence[str]]
Lost = Callable[[DictConfig, Path, str], None]
"""Told the config of a job that left no record, the job's folder, and why."""

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
"""Runs jobs one after the other."""

_OWN_DEVICES = ("auto", "cpu", "cuda")
"""Of `engine.devices`, what leaves it to the launcher which GPU a job takes."""


class OutlivingLauncher(Launcher):
    """Launches jobs by one of Hydra's launchers, and accounts for each."""

    plugin: ClassVar[str]
    lost: ClassVar[Lost]

    def __init__(self, **options: Any) -> None:
        module, _, name = self.plugin.rpartition(".")
        self._launcher: Any = getattr(importlib.import_module(module), name)(**options)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """See Hydra's `Launcher`."""
        self._launcher.setup(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._context, self._config, self._task = hydra_context, config, task_function
        self._sweep = Path(config.hydra.sweep.dir).resolve()

    def launch(self, job_overrides: Batch, initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs, and record for each that did not itself why."""
        reasons = self._launch(job_overrides, initial_job_idx)
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            if not self._is_recorded(number):
                loader = self._context.config_loader
                config = loader.load_sweep_config(self._config, list(overrides))
                why = reasons.get(number, "it never began")
                OutlivingLauncher.lost(config, self._sweep / str(number), why)
        return []

    def _launch(self, batch: Batch, first: int) -> dict[int, str]:
        """Run jobs; why those ended that left no record, by number."""
        raise NotImplementedError

    def _is_recorded(self, number: int) -> bool:
        return is_recorded(self._sweep / str(number))

    def _wrap(self, around: Callable[[TaskFunction, DictConfig], Any]) -> None:
        self._launcher.task_function = partial(around, self._task)

    def _share_machine(self, count: int) -> None:
        """Give each of so many jobs its place; a single one has the machine to itself."""
        if count > 1:
            places = Places(self._sweep, count, visible_gpus(), usable_cores())
            self._wrap(partial(_in_place, places))


class _PoolLauncher(OutlivingLauncher):
    """Jobs in a pool of processes: one that dies takes the others with it."""

    def _launch(self, batch: Batch, first: int) -> dict[int, str]:
        """Launch jobs until each is recorded or has died alone."""
        reasons: dict[int, str] = {}
        waiting = list(range(first, first + len(batch)))
        while waiting:
            error = self._try(waiting, batch, first)
            left = [number for number in waiting if not self._is_recorded(number)]
            begun = [number for number in left if (self._sweep / str(number)).is_dir()]
            if not begun:
                return reasons | dict.fromkeys(left, error)
            for number in begun:
                reasons[number] = self._try([number], batch, first)
            waiting = [number for number in left if number not in begun]
        return reasons

    def _try(self, numbers: Sequence[int], batch: Batch, first: int) -> str:
        """Launch some jobs; what became of it, if not all is well."""
        error = "it left no record; what it printed tells more"
        for group in _following(numbers):
            jobs = [batch[number - first] for number in group]
            try:
                self._launcher.launch(jobs, initial_job_idx=group[0])
            # Libraries have many kinds; whose job it was is seen by the records.
            except Exception as raised:
                error = f"its process ended ({first_line(raised)})"
        return error


class JoblibLauncher(_PoolLauncher):
    """Jobs beside each other on this machine."""

    plugin = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"

    def _launch(self, batch: Batch, first: int) -> dict[int, str]:
        options = self._launcher.joblib
        wanted = int(options.get("n_jobs") or 1)
        if wanted < 0:
            # As joblib counts: -1 is all, -2 all but one.
            wanted = max(1, (len(visible_gpus()) or usable_cores()) + 1 + wanted)
        options["n_jobs"] = min(wanted, len(batch))
        self._share_machine(options["n_jobs"])
        return super()._launch(batch, first)


class RayLauncher(_PoolLauncher):
    """Jobs as tasks of Ray, which gives each its GPUs and its threads."""

    plugin = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"

    def _launch(self, batch: Batch, first: int) -> dict[int, str]:
        _connect_ray(self._launcher.ray_cfg.init)
        return super()._launch(batch, first)


class LocalLauncher(OutlivingLauncher):
    """Jobs as processes of this machine, by submitit."""

    plugin = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"

    def _launch(self, batch: Batch, first: int) -> dict[int, str]:
        self._share_machine(len(batch))
        return submit(self._launcher, self._sweep, batch, first)


class SlurmLauncher(OutlivingLauncher):
    """Jobs of Slurm, by submitit."""

    plugin = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"

    def _launch(self, batch: Batch, first: int) -> dict[int, str]:
        self._wrap(_keep_to_task)
        return submit(self._launcher, self._sweep, batch, first)


def outlive_jobs(lost: Lost) -> None:
    """Make Hydra take the launchers of this module for those that they are around.

    Args:
        lost: told of each job whose process ended before it was recorded.
    """
    OutlivingLauncher.lost = staticmethod(lost)
    # Hydra makes plugins by their names, and of classes in its own packages only.
    known = Plugins.instance().class_name_to_class
    for launcher in (JoblibLauncher, LocalLauncher, RayLauncher, SlurmLauncher):
        if launcher.plugin in known:
            known[launcher.plugin] = launcher


def _connect_ray(options: DictConfig) -> None:
    """Connect to the cluster; Hydra's launcher would ask it for memory that only a new one can give."""
    # Ray would report to its maker.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Imported late, since it is optional.
    import ray

    if not ray.is_initialized():
        try:
            ray.init(**{str(key): value for key, value in options.items()})
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"Ray cannot be reached ({first_line(error)}); see RAY_ADDRESS, or unset it to start "
                "one on this machine."
            ) from error


def _in_place(places: Places, task: TaskFunction, config: DictConfig) -> Any:
    """What a job on a shared machine does."""
    places.take(config.engine.devices in _OWN_DEVICES)
    return task(config)


def _keep_to_task(task: TaskFunction, config: DictConfig) -> Any:
    """What a job under Slurm does."""
    cores = scheduled_cores()
    if cores is not None:
        use_threads(cores)
    return task(config)


def _following(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Numbers in groups that follow each other."""
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        yield [number for _, number in group]
