"""Sweeps whose jobs run beside each other: what Hydra's launchers lack, put around them.

A job that dies is a failed job, and its siblings go on; jobs on one machine have places of their own; and
who presses Ctrl-C ends what was started.
"""

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

from experiments.places import Places, scheduled_cores, usable_cores, use_threads, visible_gpus
from experiments.sweep_folder import is_recorded
from pixelrobust.errors import InputError, first_line

Batch = Sequence[Sequence[str]]
Lost = Callable[[DictConfig, Path, str], None]
"""Told the config of a job that left no record, the job's folder, and why."""

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
"""Runs jobs one after the other."""

_OWN_DEVICES = ("auto", "cpu", "cuda")
"""Of `engine.devices`, what leaves it to the launcher which GPU a job takes."""


def outlive_jobs(lost: Lost) -> None:
    """Make Hydra put what is here around its launchers, but for the one that runs jobs itself.

    Args:
        lost: told of each job whose process ended before it was recorded.
    """
    _OutlivingLauncher.lost = staticmethod(lost)
    known = Plugins.instance().class_name_to_class
    for name, plugin in list(known.items()):
        # Hydra makes plugins by their names, of nothing but classes in its own packages.
        if isinstance(plugin, type) and issubclass(plugin, Launcher) and name != BASIC_LAUNCHER:
            known[name] = partial(_OutlivingLauncher, plugin)  # type: ignore[assignment]


class _OutlivingLauncher(Launcher):
    """Launches jobs by one of Hydra's launchers, and accounts for each."""

    lost: ClassVar[Lost]

    def __init__(self, plugin: Callable[..., Any], **options: Any) -> None:
        self._launcher = plugin(**options)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """See Hydra's `Launcher`."""
        self._launcher.setup(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._context, self._config = hydra_context, config
        self._sweep = Path(config.hydra.sweep.dir).resolve()

    def launch(self, job_overrides: Batch, initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs, and record for each that did not itself why."""
        kind = type(self._launcher).__name__
        if kind in ("LocalLauncher", "SlurmLauncher"):
            from experiments.submitting import submit

            if kind == "LocalLauncher":
                self._share_machine(len(job_overrides))
            else:
                self._wrap(_keep_to_task)
            reasons = submit(self._launcher, self._sweep, job_overrides, initial_job_idx)
        else:
            if kind == "JoblibLauncher":
                self._share_machine(self._count_jobs(len(job_overrides)))
            elif kind == "RayLauncher":
                _connect_ray(self._launcher.ray_cfg.init)
            reasons = self._launch_again(job_overrides, initial_job_idx)
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            if not is_recorded(self._sweep / str(number)):
                loader = self._context.config_loader
                config = loader.load_sweep_config(self._config, list(overrides))
                why = reasons.get(number, "it never began")
                _OutlivingLauncher.lost(config, self._sweep / str(number), why)
        return []

    def _count_jobs(self, jobs: int) -> int:
        """How many run at once; joblib is told too."""
        options = self._launcher.joblib
        wanted = int(options.get("n_jobs") or 1)
        if wanted < 0:
            wanted = max(1, (len(visible_gpus()) or usable_cores()) + 1 + wanted)
        options["n_jobs"] = min(wanted, jobs)
        return min(wanted, jobs)

    def _share_machine(self, count: int) -> None:
        """Give each of so many jobs its place; a single one has the machine to itself."""
        if count > 1:
            places = Places(self._sweep, count, visible_gpus(), usable_cores())
            self._wrap(partial(_in_place, places))

    def _wrap(self, around: Callable[[TaskFunction, DictConfig], Any]) -> None:
        self._launcher.task_function = partial(around, self._launcher.task_function)

    def _launch_again(self, batch: Batch, first: int) -> dict[int, str]:
        """Launch jobs until each is recorded or has died alone; why those did.

        A process that dies takes the others of its pool with it.
        """
        reasons: dict[int, str] = {}
        waiting = list(range(first, first + len(batch)))
        while waiting:
            error = self._launch(waiting, batch, first)
            left = [number for number in waiting if not is_recorded(self._sweep / str(number))]
            begun = [number for number in left if (self._sweep / str(number)).is_dir()]
            if not begun:
                return reasons | dict.fromkeys(left, error)
            for number in begun:
                reasons[number] = self._launch([number], batch, first)
            waiting = [number for number in left if number not in begun]
        return reasons

    def _launch(self, numbers: Sequence[int], batch: Batch, first: int) -> str:
        """Launch some jobs; what became of it, if not all is well."""
        error = "it left no record; what it printed tells more"
        for group in _following(numbers):
            jobs = [batch[number - first] for number in group]
            try:
                self._launcher.launch(jobs, initial_job_idx=group[0])
            # Libraries have many kinds; whose job it was is seen by the records.
            except Exception as raised:
                error = first_line(raised) or repr(raised)
        return error


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
