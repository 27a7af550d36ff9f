"""docs/reliability.md lists what tests try and see, and nothing else."""

import re
from pathlib import Path

import pytest

from tests.conftest import DECLARED
from tests.reliability import PAGE, Row, parse, render

ROWS = [
    Row("Image files", "zero bytes", "exit code 2: a | b \\ <c>."),
    Row("Image files", "one pixel", "decoded"),
    Row("The machine", "no space", "exit code 2: no."),
]


def test_what_is_written_is_read_back() -> None:
    assert parse(render(ROWS)) == ROWS
    assert "exit code 2: a \\| b" in render(ROWS)


def test_sections_have_an_order_of_their_own() -> None:
    page = render(reversed(ROWS))
    assert page.index("## Image files") < page.index("## The machine")
    assert page.index("one pixel") < page.index("zero bytes")


def test_the_page_is_as_it_was_generated() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert render(parse(text)) == text


def test_the_page_lists_what_tests_try_and_nothing_else(request: pytest.FixtureRequest) -> None:
    """What happened is compared by each of these tests itself."""
    trying = {
        path.name
        for path in Path(__file__).parent.glob("test_*.py")
        if re.search(r"^@pytest\.mark\.tries\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    declared = request.config.stash[DECLARED]
    collected = {test.partition("::")[0].rpartition("/")[2] for test in declared.values()}
    if collected != trying or any("::" in argument for argument in request.config.args):
        pytest.skip("some of the tests that try something are left out of this run")
    page = [(row.kind, row.fault) for row in parse(PAGE.read_text(encoding="utf-8"))]
    assert sorted(page) == sorted(declared)
