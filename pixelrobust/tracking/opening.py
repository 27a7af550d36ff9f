"""Opening a run of Weights & Biases: online where that is asked for and possible, else offline.

The package is imported here, and only when a run is to be logged.
"""

import netrc
import os
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pixelrobust.errors import InputError, first_line
from pixelrobust.escaping import printable
from pixelrobust.packages import how_to_install
from pixelrobust.settings import TrackingSettings
from pixelrobust.tracking.environment import FOLDER
from pixelrobust.tracking.tracker import About

# Else what a killed run has logged last is lost, and the terminal viewer lags behind.
_FLUSH_SECONDS = 2.0
_LONGEST_NAME = 128

_REFUSING: set[str] = set()
"""Servers that did not take a run: the next runs of this process do not wait for them again."""


def wandb_package() -> Any:
    """The package wandb; InputError where it is not installed."""
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


def open_run(settings: TrackingSettings, about: About) -> Any:
    """The package's object of a new run. Whatever the package raises may be raised."""
    wandb = wandb_package()
    if settings.mode == "offline":
        return _init(wandb, settings, about, "offline")
    server = str(wandb.setup().settings.base_url)
    if server in _REFUSING:
        return _init(wandb, settings, about, "offline")
    if not is_logged_in(server):
        fault = f"there is no key for {server}, which `wandb login` asks for"
    else:
        try:
            return _init(wandb, settings, about, "online")
        except Exception as error:
            fault = f"{server}: {words(error)}"
    _REFUSING.add(server)
    warn(
        f"W&B does not take runs ({fault}); they are kept in {settings.directory / FOLDER}, and "
        "`wandb sync` sends them."
    )
    return _init(wandb, settings, about, "offline")


def words(error: Exception) -> str:
    """What an error says, on one line."""
    return first_line(error).rstrip(".")


def warn(sentence: str) -> None:
    """Tell of a fault that ends nothing."""
    print(f"warning: {printable(sentence)}", file=sys.stderr)


def _init(wandb: Any, settings: TrackingSettings, about: About, mode: str) -> Any:
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


def is_logged_in(server: str) -> bool:
    """Whether there is a key for a server; the package itself would ask for one in a terminal."""
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
