"""What is installed is what is pinned, all the way down."""

import re
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LINES = (REPOSITORY / "constraints.txt").read_text().split()


def pins() -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (x.split("==") for x in LINES)}


def needed(
    requirements: list[str], extras: frozenset[str] = frozenset()
) -> set[tuple[str, frozenset[str]]]:
    """Names and extras of requirements that apply on this machine."""
    parsed = [Requirement(text) for text in requirements]
    return {
        (canonicalize_name(one.name), frozenset(one.extras))
        for one in parsed
        if one.marker is None
        or any(one.marker.evaluate({"extra": extra}) for extra in (extras or {""}))
    }


def closure() -> set[str]:
    """Everything that the project needs with all its extras, and what that needs, as installed."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    waiting = needed([text for group in groups for text in group])
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = one = waiting.pop()
        seen.add(one)
        waiting |= needed(metadata.requires(name) or [], extras) - seen
    return {name for name, _ in seen}


def test_every_pin_is_one_version_of_a_package_index() -> None:
    for line in LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line), line
    assert len(pins()) == len(LINES)


def test_everything_that_is_needed_is_pinned() -> None:
    every = closure()
    assert {"torch", "antlr4-python3-runtime", "markdown-it-py"} <= every
    assert every <= set(pins())


def test_what_is_installed_is_what_is_pinned() -> None:
    pinned = pins()
    different = {
        name: (metadata.version(name), pinned[name])
        for name in sorted(closure())
        if Version(metadata.version(name)).public != Version(pinned[name]).public
    }
    if different and len(different) > len(pinned) // 2:
        pytest.skip("this environment was not made by `make setup`")
    assert different == {}
