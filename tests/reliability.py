"""What tests of faults and bad input saw happen, and the page that lists it: docs/reliability.md.

A test that tries something is marked `tries(kind, fault)`; where it is parametrised, the fault may be
left out and is the parameter's id. It takes the fixture `happened` (see tests/conftest.py) and calls it
once with what it saw, in words that it has checked or made from what came out. They must be those on
the page. `make reliability` runs all such tests and writes the page anew.
"""

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pixelrobust.errors import InputError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"

KINDS = {
    "Image files": "Each beside two sound images, on the command line; with `dataset.unreadable=stop`, the "
    "default, and with `skip`. Sentences go on with what to do.",
    "Folders of images": "On the command line.",
    "Data sets of other kinds": "On the command line: CSV files, NumPy archives, data sets of torchvision and "
    "of Hugging Face, WebDataset shards; and given to `pixelrobust.collect`.",
    "Models": "On the command line, and given to `pixelrobust.evaluate`.",
    "Arguments": "Of `pixelrobust.evaluate`.",
    "Numbers in the configuration": "Every numeric key, each at 0, -1, 10^30, nan and a word.",
    "Configuration": "On the command line.",
    "The machine": "On the command line.",
    "Tracking": "By `tracking=wandb`, on the command line.",
    "Crashes": "Runs and retrainings of small networks, stored in many parts.",
    "Verification": "Of stored outcomes, by `python -m experiments.verify`.",
}
"""Sections of the page, in order, with what is to be said of each."""

_TITLE = """# Reliability

Faults and bad input that tests try, and what happened. `make reliability` writes this page from what the
tests see, and they fail where it says something else. Exit code 2 comes with one sentence and without a
traceback; paths are left out.
"""
_ROW = re.compile(r"\| (?P<fault>.*?) \| (?P<text>.*) \|")


TRIED = "tried"
"""Under which a test's report carries what it saw: its place among all such tests, and its row."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Row:
    """One line of the page.

    Attributes:
        kind: the section.
        fault: what was tried.
        text: what happened.
    """

    kind: str
    fault: str
    text: str


def render(rows: Iterable[Row]) -> str:
    """The page."""
    lines = [_TITLE]
    every = list(rows)
    for kind, about in KINDS.items():
        own = [row for row in every if row.kind == kind]
        if own:
            lines += [f"## {kind}", "", about, "", "| tried | what happened |", "|:--|:--|"]
            lines += [f"| {_escaped(row.fault)} | {_escaped(row.text)} |" for row in own]
            lines.append("")
    return "\n".join(lines)


def parse(page: str) -> list[Row]:
    """The rows of a page."""
    rows, kind = [], ""
    for line in page.splitlines():
        if line.startswith("## "):
            kind = line[3:]
        found = _ROW.fullmatch(line)
        if found and found["fault"] != "tried":
            rows.append(Row(kind, _plain(found["fault"]), _plain(found["text"])))
    return rows


@functools.cache
def committed() -> dict[tuple[str, str], str]:
    """What the page says happened, by kind and fault."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    return {(row.kind, row.fault): row.text for row in parse(text)}


def tried(item: pytest.Item) -> tuple[str, str] | None:
    """Kind and fault that a test is marked with."""
    mark = item.get_closest_marker("tries")
    if mark is None:
        return None
    kind, *fault = mark.args
    assert kind in KINDS, f"{kind!r} is not among the kinds of tests/reliability.py"
    return kind, fault[0] if fault else item.callspec.id


def sentence(ended: Ended, *folders: Path) -> str:
    """What a command was refused with, after checking that it is one sentence and exit code 2.

    Args:
        ended: how it ended.
        folders: left out of the sentence.
    """
    assert ended.code == 2, ended
    assert "Traceback" not in ended.out + ended.err
    assert ended.err.startswith("error: "), ended.err
    assert ended.err.count("\n") == 1, ended.err
    text = ended.err.removeprefix("error: ").strip()
    assert text.endswith("."), text
    return f"exit code 2: {_without(text, folders)}"


def refusal(call: Callable[[], object], *folders: Path) -> str:
    """What a call is refused with, an InputError of one sentence."""
    with pytest.raises(InputError) as refused:
        call()
    text = str(refused.value)
    assert "\n" not in text, text
    assert text.endswith("."), text
    return f"InputError: {_without(text, folders)}"


def without_advice(text: str) -> str:
    """A sentence up to what it says is to be done."""
    complaint, semicolon, _ = text.rpartition("; ")
    assert semicolon, text
    return f"{complaint}."


class PageWriter:
    """A plugin of pytest that writes the page from what tests report."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, Row]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            rows = [value for key, value in report.user_properties if key == TRIED]
            self._seen += [(order, Row(*row)) for order, *row in rows]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        skipped = session.config.pluginmanager.get_plugin("terminalreporter").stats.get("skipped")
        if exitstatus or skipped:
            print(f"\n{PAGE.name} is not written: a test failed, or was skipped")
            session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED
            return
        rows = [row for _, row in sorted(self._seen, key=lambda seen: seen[0])]
        PAGE.write_text(render(rows), encoding="utf-8")
        print(f"\n{len(rows)} rows written to {PAGE.name}")


def _without(text: str, folders: Iterable[Path]) -> str:
    # The longest first, since one may lie in another.
    for folder in sorted(map(str, folders), key=len, reverse=True):
        text = text.replace(folder, "…")
    return text


def _escaped(text: str) -> str:
    assert "\n" not in text, text
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<")


def _plain(text: str) -> str:
    return re.sub(r"\\([\\|<])", r"\1", text)
