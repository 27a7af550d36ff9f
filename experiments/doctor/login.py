"""Whether runs can be logged in Weights & Biases."""

import os
from collections.abc import Iterator

from experiments.doctor.findings import Finding
from pixelrobust.packages import package_folder
from pixelrobust.tracking.opening import is_logged_in

_SERVER = "https://api.wandb.ai"


def look_at_tracking() -> Iterator[Finding]:
    """Whether there is a login; nothing is sent, and no key is read further than to see it."""
    name = "tracking"
    if package_folder("wandb") is None:
        yield Finding(name, "ok", "wandb is not installed, for those who want it")
    elif is_logged_in(os.environ.get("WANDB_BASE_URL") or _SERVER):
        yield Finding(name, "ok", "there is a login; whether it is valid shows in use")
    else:
        yield Finding(
            name, "ok", "nobody is logged in to W&B, so tracking=wandb keeps runs on this machine",
            "To send them: wandb login.",
        )  # fmt: skip
