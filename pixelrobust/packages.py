"""Packages that may be installed, and those that carry data."""

import importlib.util
from pathlib import Path


def how_to_install(extra: str) -> str:
    """What to do where a package of one of the optional groups of dependencies is missing."""
    # In quotes, since some shells take brackets for patterns.
    return f"run `make setup`, or `pip install 'pixelrobust[{extra}]'`"


def package_folder(module: str) -> Path | None:
    """Where an installed package lies, without importing it; None where it is not installed."""
    # To find a package within another one, Python would import the other.
    if not module.isidentifier():
        return None
    try:
        spec = importlib.util.find_spec(module)
    # Of what is no package, such as the program itself.
    except ValueError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])
