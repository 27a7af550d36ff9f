"""What is installed is what is pinned, all the way down; `make setup` suffices without `make setup-dev`."""

import os
import re
import subprocess
import tomllib
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pixelrobust.files import how_to_install
from tests.conftest import REPOSITORY, from_setup_dev

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


# Ray has an environment of its own.
EXTRAS = PROJECT["optional-dependencies"].keys() - {"ray"}


def closure(extras: Iterable[str]) -> set[str]:
    """Return everything that the project needs with these extras, and what that needs, as installed."""
    groups = [
        PROJECT["dependencies"],
        *(PROJECT["optional-dependencies"][name] for name in extras),
    ]
    waiting = needed([text for group in groups for text in group])
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = one = waiting.pop()
        seen.add(one)
        waiting |= needed(metadata.requires(name) or [], extras) - seen
    return {name for name, _ in seen}


def installed_by(target: str) -> set[str]:
    """Return the extras that a target of the Makefile has pip install."""
    command = ["make", "--dry-run", target]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    (extras,) = re.findall(r"--editable '\.\[(.*)\]'", said.stdout)
    return set(extras.split(","))


def test_every_pin_is_one_version_of_a_package_index() -> None:
    for line in LINES + RAY_LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line), line
    assert len(pins()) == len(LINES)
    assert len(pins(RAY_LINES)) == len(RAY_LINES)


def test_everything_that_is_needed_is_pinned() -> None:
    from_setup_dev("mkdocs")
    every = closure(EXTRAS)
    assert {"torch", "antlr4-python3-runtime", "markdown-it-py"} <= every
    assert every <= set(pins())


def test_what_is_installed_is_what_is_pinned() -> None:
    from_setup_dev("mkdocs")
    pinned = pins()
    different = {
        name: (metadata.version(name), pinned[name])
        for name in sorted(closure(EXTRAS))
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


def test_every_group_is_installed_by_a_target_and_messages_name_it() -> None:
    plain, every = installed_by("setup"), installed_by("setup-dev")
    assert plain < every
    assert every == EXTRAS
    for extra in every - {"dev", "docs", "test"}:
        target = "setup" if extra in plain else "setup-dev"
        assert how_to_install(extra).startswith(f"run `make {target}`,")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment as `make setup` makes it, of links to what is installed here."""
    folder = tmp_path_factory.mktemp("plain")
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in {*closure(installed_by("setup")), "pip"}:
        for file in metadata.files(name) or []:
            # Programs lie elsewhere; tests start modules.
            if ".." not in file.parts and not (site / file).exists():
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).symlink_to(Path(str(file.locate())))
    (site / "pixelrobust.pth").write_text(f"{REPOSITORY}\n")
    return folder / "bin" / "python"


def collected(python: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Have pytest import all tests, and skip what it must."""
    own = {key: value for key, value in os.environ.items() if key != "PIXELROBUST_SETUP_DEV"}
    return subprocess.run(
        [python, "-m", "pytest", "--collect-only", "-rs", "--color=no", "-p", "no:cacheprovider"],
        cwd=REPOSITORY,
        env=own | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_without_setup_dev_tests_are_skipped_for_a_reason(plain: Path) -> None:
    ended = collected(plain)
    assert ended.returncode == 0, ended.stdout[-3000:]
    skipped = re.findall(r"^SKIPPED .*", ended.stdout, re.MULTILINE)
    assert any("needs transformers" in line for line in skipped)
    assert all("which `make setup-dev` installs" in line for line in skipped)


@pytest.mark.slow
def test_where_all_tests_are_to_run_none_is_skipped(plain: Path) -> None:
    """As .ci/run has it."""
    assert "PIXELROBUST_SETUP_DEV=1" in (REPOSITORY / ".ci" / "run").read_text()
    ended = collected(plain, PIXELROBUST_SETUP_DEV="1")
    assert ended.returncode != 0
    assert "No module named 'transformers'" in ended.stdout
    assert "SKIPPED" not in ended.stdout
