"""Runs logged in Weights & Biases, beside the results folder and without any say in it.

Nothing here decides a number or how a run ends: whatever goes wrong with W&B is one line of warning.
"""

import contextlib
import math
import netrc
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixelrobust.errors import InputError, first_line, printable
from pixelrobust.files import how_to_install
from pixelrobust.settings import TrackingSettings

Picture = Path | NDArray[np.uint8]
"""The file of an image, or its (H, W, 3) values."""

# What the package calls the folder in which it keeps runs.
_FOLDER = "wandb"
# Who somebody is, where the server is, and the way there. Settings decide everything else.
_HEEDED = (
    "WANDB_API_KEY",
    "WANDB_APP_URL",
    "WANDB_BASE_URL",
    "WANDB_CONFIG_DIR",
    "WANDB_CREDENTIALS_FILE",
    "WANDB_ENTITY",
    "WANDB_IDENTITY_TOKEN_FILE",
    "WANDB_INSECURE_DISABLE_SSL",
)
# By which processes that are started find the one of the package that all of them share.
_SERVICE = "WANDB_SERVICE"
# Else what a killed run has logged last is lost, and the terminal viewer lags behind.
_FLUSH_SECONDS = 2.0
_LONGEST_NAME = 128
# Servers that did not take a run: the next runs of this process do not wait for them again.
_REFUSING: set[str] = set()


@dataclass(frozen=True)
class About:
    """Description of a run, in W&B's words.

    Attributes:
        name: of the run.
        job_type: what kind of run it is.
        config: its settings, plain data.
    """

    name: str
    job_type: str
    config: Mapping[str, Any] = field(repr=False)


class Tracker:
    """Logs nothing. To be used in a `with` statement, whose end tells how the run ended.

    It may be handed to processes that are started inside the statement; one of them at most logs.
    """

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        """End the run, well if there is no exception."""

    def attempt(self, describe: Callable[..., None], *arguments: Any) -> None:
        """Call `describe(log, *arguments)` with a `RunLog`; not called where nothing is logged."""


NO_TRACKER = Tracker()
"""Logs nothing."""


class RunLog:
    """Writes into a run of Weights & Biases; whatever the package raises passes.

    Args:
        run: the package's own.
    """

    def __init__(self, run: Any) -> None:
        self._run = run

    def values(self, values: Mapping[str, float]) -> None:
        """Add a point to curves, by name, with what they are drawn over."""
        self._run.log(dict(values))

    def curves(self, over: str, *names: str) -> None:
        """Say that all curves called `<name>/…` are drawn over one of the values."""
        self._run.define_metric(over)
        for name in names:
            self._run.define_metric(f"{name}/*", step_metric=over)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Keep numbers and words of the run as a whole."""
        self._run.summary.update(dict(values))

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Log a table; missing values stay missing."""
        rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
        columns = [str(column) for column in table.columns]
        made = _wandb().Table(columns=columns, data=rows, allow_mixed_types=True)
        self._run.log({name: made})

    def pictures(self, name: str, pictures: Sequence[tuple[Picture, str]]) -> None:
        """Log images, each with its caption, side by side."""
        image = _wandb().Image
        made = [
            image(str(picture) if isinstance(picture, Path) else picture, caption=caption)
            for picture, caption in pictures
        ]
        self._run.log({name: made})

    def files(self, name: str, kind: str, paths: Sequence[Path]) -> None:
        """Log where files lie, with their digests; they are not copied."""
        artifact = _wandb().Artifact(name, kind)
        for path in paths:
            artifact.add_reference(path.resolve().as_uri(), name=path.name)
        self._run.log_artifact(artifact)


def make_tracker(settings: TrackingSettings | None, about: About) -> Tracker:
    """Return what logs a run as these settings want it.

    Raises:
        InputError: W&B is asked for, and is not installed.
    """
    if settings is None:
        return NO_TRACKER
    _wandb()
    return _WandbTracker(settings, about)


class _WandbTracker(Tracker):
    """Logs a run in Weights & Biases, until something goes wrong with that.

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
        self._environment = _set_environment(_run_environment(self._settings))
        try:
            self._run = _open_run(self._settings, self._about)
        except Exception as error:
            self._give_up(error)
        except BaseException:
            _set_environment(self._environment)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        try:
            self._safely(lambda: self._run.finish(exit_code=0 if kind is None else 1))
        finally:
            self._run = None
            _set_environment(self._environment)

    def __getstate__(self) -> dict[str, Any]:
        # Other processes, which may have been there before, find the way back by it.
        environment = _run_environment(self._settings) | {_SERVICE: os.environ.get(_SERVICE)}
        return self.__dict__ | {"_environment": environment}

    def __setstate__(self, state: dict[str, Any]) -> None:
        _set_environment(state["_environment"])
        self.__dict__.update(state | {"_environment": {}})

    def attempt(self, describe: Callable[..., None], *arguments: Any) -> None:
        self._safely(lambda: describe(RunLog(self._run), *arguments))

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
        _warn(f"W&B fails ({_words(error)}); the run goes on without it, and ends the same.")
        if run is not None:
            # It has been told that something is wrong.
            with contextlib.suppress(Exception):
                run.finish(exit_code=1)


def _run_environment(settings: TrackingSettings) -> dict[str, str | None]:
    """Return variables as W&B is to see them while a run is logged; None: not at all."""
    kept = (*_HEEDED, _SERVICE)
    others = [name for name in os.environ if name.startswith("WANDB") and name not in kept]
    hidden: dict[str, str | None] = dict.fromkeys(others)
    return hidden | {
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_HTTP_TIMEOUT": str(math.ceil(settings.timeout)),
        "WANDB_DIR": str(settings.directory),
        # What would otherwise lie in the user's home: logs, and tables until they are sent.
        "WANDB_CACHE_DIR": str(settings.directory),
        "WANDB_DATA_DIR": str(settings.directory / _FOLDER),
    }


def _set_environment(values: Mapping[str, str | None]) -> dict[str, str | None]:
    """Set variables, or remove them where the value is None; return what they were before."""
    before = {name: os.environ.get(name) for name in values}
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return before


def _wandb() -> Any:
    """Return the package wandb, imported when needed; InputError where it is not installed."""
    try:
        import wandb

        # A folder of this name beside the program can be imported too, but holds nothing.
        from wandb import init  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"tracking=wandb needs the package wandb, which cannot be imported ({first_line(error)}); "
            f"{how_to_install('tracking')}, or leave tracking=none."
        ) from error
    return wandb


def _open_run(settings: TrackingSettings, about: About) -> Any:
    """Open a run, online where that is asked for and possible; whatever the package raises passes."""
    if settings.mode == "offline":
        return _init(settings, about, "offline")
    server = str(_wandb().setup().settings.base_url)
    if server in _REFUSING:
        return _init(settings, about, "offline")
    if not _is_logged_in(server):
        fault = f"there is no key for {server}, which `wandb login` asks for"
    else:
        try:
            return _init(settings, about, "online")
        except Exception as error:
            fault = f"{server}: {_words(error)}"
    _REFUSING.add(server)
    _warn(
        f"W&B does not take runs ({fault}); they are kept in {settings.directory / _FOLDER}, and "
        "`wandb sync` sends them."
    )
    return _init(settings, about, "offline")


def _init(settings: TrackingSettings, about: About, mode: str) -> Any:
    wandb = _wandb()
    # Elsewhere the package would look for a folder of its own choice.
    settings.directory.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        id=uuid.uuid4().hex[:12],
        name=about.name[:_LONGEST_NAME],
        project=settings.project,
        entity=settings.entity,
        group=settings.group,
        job_type=about.job_type,
        tags=list(settings.tags),
        config=dict(about.config),
        dir=settings.directory,
        mode=mode,
        reinit="create_new",
        settings=wandb.Settings(
            init_timeout=settings.timeout,
            finish_timeout=settings.timeout,
            finish_timeout_raises=True,
            x_transaction_log_flush_interval=_FLUSH_SECONDS,
            silent=True,
            console="off",
            symlink=False,
            # Neither code, nor packages, nor who and where one is, is kept.
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_save_requirements=False,
            host="",
        ),
    )


def _is_logged_in(server: str) -> bool:
    """Tell whether there is a key for a server; the package itself would ask for one in a terminal."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    files = [Path(named)] if named else [Path.home() / name for name in (".netrc", "_netrc")]
    return any(_holds_key(file, urlsplit(server).netloc) for file in files)


def _holds_key(file: Path, host: str) -> bool:
    try:
        return bool(netrc.netrc(file).authenticators(host))
    except (OSError, netrc.NetrcParseError):
        return False


def _words(error: Exception) -> str:
    """Return what an error says, on one line and without a full stop."""
    return first_line(error).rstrip(".")


def _warn(sentence: str) -> None:
    """Tell of a fault that ends nothing."""
    print(f"warning: {printable(sentence)}", file=sys.stderr)
