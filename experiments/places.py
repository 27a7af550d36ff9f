"""Where this software's files lie: in a repository, or as a wheel installs them."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# setup.py puts the configs here; in a repository they lie beside the packages.
_INSTALLED = _PACKAGE / "configs"

REPOSITORY = None if _INSTALLED.is_dir() else _PACKAGE.parent
"""The checkout; None where this software was installed from a wheel."""

CONFIGS = _INSTALLED if REPOSITORY is None else REPOSITORY / "configs"

RESULTS = "pixelrobust-results" if REPOSITORY is None else "results"
"""What the folder of results is called, unless `paths.results` says otherwise."""


def root() -> Path:
    """What relative paths are taken from: the repository; without one, the current folder."""
    return REPOSITORY or Path.cwd()


def default_results() -> Path:
    """Where results go and are looked for, unless a folder is given."""
    return root() / RESULTS


def short(path: Path) -> str:
    """A path as it is shown: relative where that is shorter."""
    return str(path.relative_to(root()) if path.is_relative_to(root()) else path)
