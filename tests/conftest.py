"""Fixtures that several test files share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.run import main

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for all tests, apart from the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    cache: Path,
) -> Run:
    """The command line, with results below tmp_path / "results"."""
    monkeypatch.setenv("PIXELROBUST_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Ended:
        own = [f"paths.results={tmp_path / 'results'}"]
        monkeypatch.setattr("sys.argv", ["experiments.run", *arguments, *own])
        try:
            code = main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call
