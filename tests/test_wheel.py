"""A wheel works alone: in an environment of its own, in a folder that has nothing of the repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import REPOSITORY
from tests.fault_cases import CLASSES, SIDE, folder_of, saved, state

pytestmark = pytest.mark.slow
Installed = Callable[..., subprocess.CompletedProcess[str]]


def call(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        list(map(str, words)), cwd=cwd, env=own | {"COLUMNS": "200"} | environment,
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, as package indexes get it."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    tracked = call(
        "git", "ls-files", "-co", "--exclude-standard", cwd=REPOSITORY
    ).stdout.splitlines()
    for name in tracked:
        if not name.startswith(("results/", "docs/", "tests/")) and (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, source / name)
    ended = call(
        sys.executable, "-m", "build", "--no-isolation", "--outdir", built, source, cwd=source
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    (path,) = built.glob("*.whl")
    assert path.name == "pixelrobust-0.1.0-py3-none-any.whl"
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with the wheel, and the packages that it needs; within somebody else's repository."""
    folder = tmp_path_factory.mktemp("environment")
    call("git", "init", cwd=folder)
    named = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    call("git", *named, "commit", "--allow-empty", "-m", "not pixelrobust", cwd=folder)
    call(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    ended = call(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index",
        "--disable-pip-version-check", wheel, cwd=folder,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    # Only the folder: what makes this checkout importable in it is not looked at.
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def installed(environment: Path, tmp_path: Path, cache: Path) -> Installed:
    """Runs a program of that environment in an empty folder."""
    return lambda program, *words: call(
        environment / "venv" / "bin" / program, *words, cwd=tmp_path,
        PIXELROBUST_CACHE=str(cache), OMP_NUM_THREADS="1",
    )  # fmt: skip


def test_the_repository_is_not_there_but_its_configs_are(
    installed: Installed, environment: Path
) -> None:
    code = (
        "import importlib.util, json, pixelrobust, experiments.exits as places\n"
        "print(json.dumps([pixelrobust.__file__, str(places.CONFIGS), str(places.REPOSITORY),"
        " importlib.util.find_spec('scripts') is None]))"
    )  # fmt: skip
    ended = installed("python", "-I", "-c", code)
    assert ended.returncode == 0, ended.stderr
    package, configs, repository, no_scripts = json.loads(ended.stdout)
    assert Path(package).is_relative_to(environment)
    assert (repository, no_scripts) == ("None", True)
    ours = {path.relative_to(configs): path.read_bytes() for path in Path(configs).rglob("*.yaml")}
    theirs = REPOSITORY / "configs"
    assert ours == {path.relative_to(theirs): path.read_bytes() for path in theirs.rglob("*.yaml")}


def test_only_the_two_packages_are_installed(environment: Path) -> None:
    (site,) = (environment / "venv").glob("lib/python*/site-packages")
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"pixelrobust", "experiments", "needed.pth"}


def test_a_run_works_in_any_folder(installed: Installed, tmp_path: Path) -> None:
    """With paths from there, and results below it; no commit is taken for this software's."""
    (tmp_path / "names.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    folder_of(tmp_path / "images", "cat/0.png", "cat/1.png")
    saved(state(), tmp_path / "w.safetensors")
    subject = (
        "model=torchvision", "models.torchvision.name=squeezenet1_1", "models.torchvision.classes=2",
        "models.torchvision.weights=w.safetensors", "dataset=imagefolder", "dataset.root=images",
        "dataset.classes=names.txt", f"dataset.preprocessing.resize={SIDE}",
        f"dataset.preprocessing.crop={SIDE}",
    )  # fmt: skip
    ended = installed("pixelrobust", *subject, "perturbation.num=[4,16]")
    assert ended.returncode == 0, ended.stderr
    (folder,) = tmp_path.glob("pixelrobust-results/run-*")
    assert pd.read_csv(folder / "table.csv")["num"].tolist() == [0, 4, 16]
    manifest = json.loads((folder / "outcomes" / "table.json").read_text())
    assert manifest["software"]["pixelrobust"] == "0.1.0"
    assert manifest["software"]["commit"] is None
    report = installed("python", "-m", "experiments.report")
    assert "pixelrobust-results" in report.stdout
    assert "done" in installed("python", "-m", "experiments.status").stdout
    ended = installed(
        "python", "-m", "experiments.report", str(folder), "--html", "--images", *subject
    )
    assert ended.returncode == 0, ended.stderr
    assert (folder / "report.html").is_file()
    ended = installed("python", "-m", "experiments.verify", str(folder), *subject, "--share", "1")
    assert ended.returncode == 0, ended.stderr
    assert "KEYS" in installed("pixelrobust", "--help").stdout


def test_the_papers_experiments_come_along(installed: Installed, tmp_path: Path) -> None:
    ended = installed("python", "-m", "experiments.run", "experiment=table4", "profile=bundled")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "pixelrobust-results" / "bundled" / "table4.csv").is_file()
