"""Fixtures that several test files share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from experiments.run import main
from tests.fault_cases import network, saved, state
from tests.reliability import TRIED, Ended, PageWriter, committed, tried

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


Run = Callable[..., Ended]


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


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    cache: Path,
) -> Run:
    """The command line, with results below tmp_path / "results", unless they are given."""
    monkeypatch.setenv("PIXELROBUST_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "200")

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


# What tests of faults saw happen: see tests/reliability.py

DECLARED = pytest.StashKey[dict[tuple[str, str], str]]()
"""Of all tests that try something, before any is left out: the test's name, by kind and fault."""

Happened = Callable[[str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-reliability",
        action="store_true",
        help="write docs/reliability.md from what tests see, instead of comparing",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[DECLARED] = {}
    # Of several processes, the one that the others report to.
    if config.getoption("--write-reliability") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(PageWriter())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    declared = config.stash[DECLARED]
    for item in items:
        place = tried(item)
        if place is not None and declared.setdefault(place, item.nodeid) != item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} tries what {declared[place]} does: {place}")


@pytest.fixture
def happened(request: pytest.FixtureRequest) -> Iterator[Happened]:
    """Called once with what became of what the test tries."""
    place = tried(request.node)
    assert place is not None, "mark the test: pytest.mark.tries(kind, fault)"
    order = list(request.config.stash[DECLARED]).index(place)
    told: list[str] = []

    def note(text: str) -> None:
        told.append(text)
        request.node.user_properties.append((TRIED, [order, *place, text]))
        if not request.config.getoption("--write-reliability"):
            assert committed().get(place) == text, "run `make reliability`; look at what differs"

    yield note
    assert len(told) == 1, f"told {len(told)} times what happened"
