"""What contributors are given works: commit hooks, citation, changelog."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, from_setup_dev

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with modules, and this environment as its .venv."""
    copy = tmp_path / "checkout"
    for name in ("notebooks", "scripts", "pixelrobust", "experiments"):
        shutil.copytree(
            REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, copy)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=copy, check=True)
    (copy / ".venv").symlink_to(sys.prefix)
    return copy


def commit_hooks(checkout: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Types are left out: `make lint` checks them, and they take a minute without a cache."""
    from_setup_dev("pre_commit")
    own = {"SKIP": "types", "PRE_COMMIT_HOME": str(tmp_path / "pre-commit"), "PYTHONPATH": ""}
    # Nothing can be downloaded.
    own |= dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, "-m", "pre_commit", "run", "--all-files"],
        cwd=checkout,
        env=os.environ | own,
        capture_output=True,
        text=True,
    )


def test_commit_hooks_pass(checkout: Path, tmp_path: Path) -> None:
    ended = commit_hooks(checkout, tmp_path)
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.count("Passed") == 2
    assert re.search(r"mypy\.*Skipped", ended.stdout)


def test_commit_hooks_find_what_is_wrong(checkout: Path, tmp_path: Path) -> None:
    (checkout / "pixelrobust" / "new.py").write_text('"""A module."""\nimport os\n')
    subprocess.run(["git", "add", "--all"], cwd=checkout, check=True)
    ended = commit_hooks(checkout, tmp_path)
    assert ended.returncode == 1
    failed = re.findall(r"^(.*?)\.+Failed$", ended.stdout, re.MULTILINE)
    assert "ruff check" in failed


def test_every_hook_is_local_and_of_this_environment() -> None:
    from_setup_dev("pre_commit")
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    for repository in config["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            assert (Path(sys.prefix) / hook["entry"].split()[0].removeprefix(".venv/")).exists()


def test_the_citation_names_software_and_paper() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    for key in ("version", "license"):
        assert str(citation[key]) == PROJECT[key]
    assert citation["title"] == PROJECT["name"]
    owner = re.findall(r"Copyright \(c\) \d+ (.+)", (REPOSITORY / "LICENSE").read_text())
    assert [author["name"] for author in citation["authors"]] == owner
    (paper,) = citation["references"]
    readme = " ".join((REPOSITORY / "README.md").read_text(encoding="utf-8").split())
    assert f"[{paper['title']}](https://doi.org/{paper['doi']})" in readme
    assert [author["family-names"] for author in paper["authors"]] == ["Zhang", "Cai"]
    assert paper["year"] == 2021


def test_the_changelog_begins_with_this_version() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\S+?),? (?:unreleased|\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)
    assert versions[0] == PROJECT["version"]
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    # Every version's kinds are there once and hold something.
    assert kinds
    assert not re.search(r"^### .+\n+(?=#|\Z)", text, re.MULTILINE)
