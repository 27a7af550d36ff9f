"""A run logged in Weights & Biases, until something goes wrong with that."""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pixelrobust.settings import TrackingSettings
from pixelrobust.tracking.environment import SERVICE, run_environment, set_environment
from pixelrobust.tracking.opening import open_run, wandb_package, warn, words
from pixelrobust.tracking.tracker import About, Picture, Tracker


class WandbTracker(Tracker):
    """See `Tracker`.

    Args:
        settings: where to, and whether it is sent.
        about: the run.
    """

    def __init__(self, settings: TrackingSettings, about: About) -> None:
        self._settings, self._about = settings, about
        # The package's own, which finds its way back to it from other processes too.
        self._run: Any = None
        self._environment: dict[str, str | None] = {}

    def __enter__(self) -> "Tracker":
        self._environment = set_environment(self._surroundings())
        try:
            self._run = open_run(self._settings, self._about)
        except Exception as error:
            self._give_up(error)
        except BaseException:
            set_environment(self._environment)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        try:
            self._safely(lambda: self._run.finish(exit_code=0 if kind is None else 1))
        finally:
            self._run = None
            set_environment(self._environment)

    def __getstate__(self) -> dict[str, Any]:
        # Other processes, which may have been there before, find the way back by it.
        environment = self._surroundings() | {SERVICE: os.environ.get(SERVICE)}
        return self.__dict__ | {"_environment": environment}

    def __setstate__(self, state: dict[str, Any]) -> None:
        set_environment(state["_environment"])
        self.__dict__.update(state | {"_environment": {}})

    def attempt(self, describe: Callable[..., None], *arguments: Any) -> None:
        self._safely(lambda: describe(self, *arguments))

    def log(self, values: Mapping[str, float]) -> None:
        self._safely(lambda: self._run.log(dict(values)))

    def curves(self, over: str, *names: str) -> None:
        def define() -> None:
            self._run.define_metric(over)
            for name in names:
                self._run.define_metric(f"{name}/*", step_metric=over)

        self._safely(define)

    def summarize(self, values: Mapping[str, Any]) -> None:
        self._safely(lambda: self._run.summary.update(dict(values)))

    def table(self, name: str, table: pd.DataFrame) -> None:
        def log() -> None:
            rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
            columns = [str(column) for column in table.columns]
            made = wandb_package().Table(columns=columns, data=rows, allow_mixed_types=True)
            self._run.log({name: made})

        self._safely(log)

    def pictures(self, name: str, pictures: Sequence[tuple[Picture, str]]) -> None:
        def log() -> None:
            image = wandb_package().Image
            made = [
                image(str(picture) if isinstance(picture, Path) else picture, caption=caption)
                for picture, caption in pictures
            ]
            self._run.log({name: made})

        self._safely(log)

    def files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        def log() -> None:
            artifact = wandb_package().Artifact(name, kind)
            for path in paths:
                artifact.add_reference(path.resolve().as_uri(), name=path.name)
            self._run.log_artifact(artifact)

        self._safely(log)

    def _surroundings(self) -> dict[str, str | None]:
        return run_environment(self._settings.directory, self._settings.timeout)

    def _safely(self, work: Callable[[], object]) -> None:
        """Do something with the package's run, if there is one still."""
        if self._run is None:
            return
        try:
            work()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Tell of a fault, and log nothing more."""
        run, self._run = self._run, None
        warn(f"W&B fails ({words(error)}); the run goes on without it, and ends the same.")
        if run is not None:
            # It has been told that something is wrong.
            with contextlib.suppress(Exception):
                run.finish(exit_code=1)
