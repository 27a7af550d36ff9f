"""What Weights & Biases finds in the environment while a run is logged."""

import math
import os
from collections.abc import Mapping
from pathlib import Path

FOLDER = "wandb"
"""What the package calls the folder in which it keeps runs."""

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
SERVICE = "WANDB_SERVICE"
"""By which processes that are started find the one of the package that all of them share."""


def run_environment(directory: Path, timeout: float) -> dict[str, str | None]:
    """Variables as W&B is to see them; None: not at all.

    Args:
        directory: what its folder is to lie in.
        timeout: seconds that an answer of the server may take.
    """
    kept = (*_HEEDED, SERVICE)
    others = [name for name in os.environ if name.startswith("WANDB") and name not in kept]
    hidden: dict[str, str | None] = dict.fromkeys(others)
    return hidden | {
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_HTTP_TIMEOUT": str(math.ceil(timeout)),
        "WANDB_DIR": str(directory),
        # What would otherwise lie in the user's home: logs, and tables until they are sent.
        "WANDB_CACHE_DIR": str(directory),
        "WANDB_DATA_DIR": str(directory / FOLDER),
    }


def set_environment(values: Mapping[str, str | None]) -> dict[str, str | None]:
    """Set variables, or remove them where the value is None; what they were before."""
    before = {name: os.environ.get(name) for name in values}
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return before
