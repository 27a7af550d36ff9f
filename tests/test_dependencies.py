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
RAY_LINES = (REPOSITORY / "constraints-ray.txt").read_text().split()


def pins(lines: list[str] = LINES) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}


def needed(
    requirements: list[str], extras: frozenset[str] = frozenset()
) -> set[tuple[str, frozenset[str]]]:
    """Return names and extras of requirements that apply on this machine."""
    parsed = [Requirement(text) for text in requirements]
    return {
        (canonicalize_name(one.name), frozenset(one.extras))
        for one in parsed
        if one.marker is None
        or any(one.marker.evaluate({"extra": extra}) for extra in (extras or {""}))
    }


def closure() -> set[str]:
    """Return everything that the project needs with all its extras, and what that needs, as installed.

    But for Ray, which has an environment of its own.
    """
    extras = PROJECT["optional-dependencies"]
    groups = [PROJECT["dependencies"], *(extras[name] for name in extras if name != "ray")]
    waiting = needed([text for group in groups for text in group])
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = one = waiting.pop()
        seen.add(one)
        waiting |= needed(metadata.requires(name) or [], extras) - seen
    return {name for name, _ in seen}


def test_every_pin_is_one_version_of_a_package_index() -> None:
    for line in LINES + RAY_LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line), line
    assert len(pins()) == len(LINES)
    assert len(pins(RAY_LINES)) == len(RAY_LINES)


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


def test_rays_environment_differs_only_where_it_must() -> None:
    """Else the same run could have other results there."""
    own, rays = pins(), pins(RAY_LINES)
    different = {name for name in own.keys() & rays.keys() if own[name] != rays[name]}
    assert different == {"cloudpickle", "python-dateutil"}
    asked = [
        PROJECT["dependencies"],
        *(PROJECT["optional-dependencies"][name] for name in ("bundled", "openvino", "ray")),
    ]
    assert {name for name, _ in needed([text for group in asked for text in group])} <= set(rays)
    # What Ray's launcher cannot have newer, and joblib not older: so there are two environments.
    assert Version(rays["cloudpickle"]) < Version("3") <= Version(own["cloudpickle"])
