"""Files written so that nobody ever sees half of one, their digests, and installed packages."""

import contextlib
import hashlib
import importlib.util
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from pixelrobust.errors import InputError

# Nobody takes so long to write a file.
_LEFT_SECONDS = 3600
_TEMPORARY = re.compile(r"^\..*\.[0-9a-f]{32}\.\w+$")


def user_cache() -> Path:
    """Return the folder that PIXELROBUST_CACHE names, else the user's cache folder."""
    return Path(os.environ.get("PIXELROBUST_CACHE") or platformdirs.user_cache_dir("pixelrobust"))


def check_writable(folder: Path, key: str) -> None:
    """Raise InputError, naming the key, unless files can be made in the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{key}={folder} cannot be written to ({error.strerror or error}); give another folder."
        ) from error


def check_inside(path: Path, folder: Path) -> None:
    """Raise InputError where links on the way to a path below a folder lead out of the folder."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{path} leads out of {folder} by a link; remove the link, or give paths.results."
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place if the block succeeds.

    Raises:
        InputError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        reason = str(error.strerror or error).rstrip(".")
        raise InputError(
            f"{path} cannot be written ({reason}); make room, or give another folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal; OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what `replacing` left where a process was killed meanwhile, long ago."""
    for path in folder.glob(".*"):
        with contextlib.suppress(FileNotFoundError):
            if _TEMPORARY.match(path.name) and time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                path.unlink()


def _flush_folder(folder: Path) -> None:
    """Make sure that a renamed file is found after a crash of the system, where it can do that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def how_to_install(extra: str) -> str:
    """Say what to do where a package of one of the optional groups of dependencies is missing."""
    target = "setup-dev" if extra in ("clusters", "huggingface") else "setup"
    # In quotes, since some shells take brackets for patterns.
    return f"run `make {target}`, or `pip install 'pixelrobust[{extra}]'`"


def package_folder(module: str) -> Path | None:
    """Find an installed package's folder without importing it; None where it is not installed."""
    # To find a package within another one, Python would import the other.
    if not module.isidentifier():
        return None
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # It is no package, but the program itself, for example.
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])
