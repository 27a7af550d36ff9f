"""Published weights on disk: downloaded once, checked at every load, and read without running code.

torchvision and PyTorch check a file while they download it, and never again; and they would run code
that it holds. So what lies in their cache is checked here.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch

from pixelrobust.errors import InputError
from pixelrobust.files import file_sha256

# PyTorch publishes weights under names that end in the first digits of their SHA-256.
_DIGEST = re.compile(r"-([0-9a-f]{8,})\.[a-z]+$")
_CODE_REFUSED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def cached_file(url: str) -> Path:
    """Where torchvision keeps what it downloads from here."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def download(url: str, path: Path) -> None:
    """Download published weights, unless they are there."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(path), _digest(path))


def check_published(path: Path) -> None:
    """Raise InputError unless a file is what its name says.

    Args:
        path: of weights under their published name, which holds the beginning of their SHA-256.
    """
    expected = _digest(path)
    found = file_sha256(path)
    if expected is None or not found.startswith(expected):
        raise InputError(
            f"weights file {path} is not what was published under this name: its SHA-256 begins with "
            f"{found[:8]}; delete it, and it is downloaded again."
        )


def has_digest(path: Path) -> bool:
    """Whether a file's name says what its SHA-256 is."""
    return _digest(path) is not None


@contextmanager
def weights_only() -> Iterator[None]:
    """Within it torch.load refuses pickles that hold code, whatever its caller asks for."""
    before = os.environ.get(_CODE_REFUSED)
    os.environ[_CODE_REFUSED] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CODE_REFUSED]
        else:
            os.environ[_CODE_REFUSED] = before


def _digest(path: Path) -> str | None:
    """The digits at the end of a published file's name."""
    found = _DIGEST.search(path.name)
    return found[1] if found else None
