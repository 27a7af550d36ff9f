"""Whether runs can be logged in Weights & Biases."""

import netrc
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

from experiments.doctor.findings import Finding
from pixelrobust.packages import package_folder

_SERVER = "https://api.wandb.ai"


def look_at_tracking() -> Iterator[Finding]:
    """Whether there is a login; nothing is sent, and no key is read further than to see it."""
    name = "tracking"
    if package_folder("wandb") is None:
        yield Finding(name, "ok", "wandb is not installed, for those who want it")
    elif os.environ.get("WANDB_API_KEY") or _is_known():
        yield Finding(name, "ok", "there is a login; whether it is valid shows in use")
    else:
        yield Finding(
            name, "ok", "nobody is logged in to W&B, so tracking=wandb keeps runs on this machine",
            "To send them: wandb login.",
        )  # fmt: skip


def _is_known() -> bool:
    """Whether the user's netrc file has an entry for the server."""
    server = urlparse(os.environ.get("WANDB_BASE_URL") or _SERVER).hostname
    home = Path.home()
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [home / ".netrc", home / "_netrc"]:
        try:
            if server and netrc.netrc(path).authenticators(server):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
