"""Where numbers come from: versions, code and machine."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pixelrobust.perturbation import PROTOCOL_VERSION

# What runs write is no change of the code.
_NOT_RESULTS = ("--", ".", ":(exclude)results")
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pandas",
    "pillow",
    "hydra-core",
    "foolbox",
    "openvino",
)


def describe_software(root: Path | None) -> dict[str, Any]:
    """Versions, and the git commit of the repository at root (None outside one).

    Args:
        root: of this software itself: git runs what a repository's own settings say; None where it
            was installed, perhaps within a repository of something else.
    """
    return {
        "pixelrobust": _version("pixelrobust"),
        "protocol": PROTOCOL_VERSION,
        "commit": _git(root, "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git(root, "status", "--porcelain", "-uno", *_NOT_RESULTS)),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
    }


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """The machine's kind; nothing that identifies it."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path | None, *arguments: str) -> str | None:
    if root is None:
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
