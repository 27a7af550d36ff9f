"""Fixtures that several test files share."""

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Test workers are as many as cores. Torch reads this when it is imported, so all its imports are below.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests mean the CPU, but for those of a GPU, which `make test-gpu` runs alone. Processes that tests start
# see none either.
if "PIXELROBUST_TEST_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch

from experiments.run import main
from tests.fault_cases import Ended, network, saved, state

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


Run = Callable[..., Ended]


def from_setup_dev(module: str) -> Any:
    """Import a module that `make setup-dev` installs; without it, skip the test or the file.

    Where all tests are to run, as in .ci/run, nothing is skipped for that.
    """
    if os.environ.get("PIXELROBUST_SETUP_DEV"):
        return importlib.import_module(module)
    reason = f"needs {module}, which `make setup-dev` installs"
    return pytest.importorskip(module, reason=reason, exc_type=ImportError)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU that torch can use, and `make test-gpu`")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads gain nothing on networks this small, and test workers at once would fight for cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments that name a network which takes everything for the first of two classes."""
    return network(saved(state(), tmp_path_factory.mktemp("weights") / "w.safetensors"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for all tests, apart from the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in folders and a small network that tells their classes apart."""
    # Imported late, since timm takes long to import.
    from tests.retraining.world import make_world

    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    cache: Path,
) -> Run:
    """The command line, with results below tmp_path / "results", unless they are given."""
    monkeypatch.setenv("PIXELROBUST_CACHE", str(cache))
    # Sentences stand on one line, whatever paths they name.
    monkeypatch.setenv("COLUMNS", "1000")

    def call(*arguments: str, results: Path = tmp_path / "results") -> Ended:
        own = [f"paths.results={results}"]
        monkeypatch.setattr("sys.argv", ["experiments.run", *arguments, *own])
        try:
            code = main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def words(request: pytest.FixtureRequest) -> str:
    """What must be said about this case of a test, from SAID in its module."""
    return str(request.module.SAID[request.node.callspec.id])
