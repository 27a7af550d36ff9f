"""Write docs/mutants.md from what `mutmut run` found, with an explanation for every survivor.

Explanations lie in scripts/mutants.toml: the function, what lines of it become, and why no test can
tell the difference. Survivors without one, and explanations without a survivor, are told, and the exit
code is 1.
"""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "mutants.md"
EXPLANATIONS = REPOSITORY / "scripts" / "mutants.toml"

_CAUGHT = ("killed", "timeout", "segfault")
_RESULT = re.compile(
    r"^\s*pixelrobust\.(?P<module>\w+)\.(?P<function>\S+)__mutmut_\d+: (?P<status>.+)$"
)
_TITLE = """# Mutants

`make mutants` changes one place at a time in the modules below (an operator, a number, a text, an
argument) and runs their tests, of which at least one must fail. It takes about {minutes} minutes on one
core and writes this page. Survivors that change nothing that could be seen are explained in
`scripts/mutants.toml`; any other makes the command fail.
"""


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        name: what mutmut calls it.
        module: such as store.
        function: such as AnswerStore.load.
        status: what became of it, in mutmut's words.
    """

    name: str
    module: str
    function: str
    status: str


@dataclass(frozen=True)
class Explanation:
    """Why no test can tell some mutants of a function from the original.

    Attributes:
        function: module and function, such as store.AnswerStore.load.
        becomes: changed lines, each as it is in one of the mutants, without indentation.
        why: the reason.
    """

    function: str
    becomes: tuple[str, ...]
    why: str


def mutants(results: str) -> list[Mutant]:
    """All mutants that `mutmut results --all true` lists."""
    return [
        Mutant(
            line.split(": ")[0].strip(),
            match["module"],
            match["function"].removeprefix("x_").removeprefix("xǁ").replace("ǁ", "."),
            match["status"],
        )
        for line in results.splitlines()
        if (match := _RESULT.match(line))
    ]


def explanations() -> list[Explanation]:
    """Those of scripts/mutants.toml."""
    entries = tomllib.loads(EXPLANATIONS.read_text(encoding="utf-8"))["equivalent"]
    return [
        Explanation(entry["function"], tuple(entry["becomes"]), entry["why"]) for entry in entries
    ]


def changed_line(difference: str) -> str:
    """What a mutant's first changed line becomes, without indentation."""
    added = [line for line in difference.splitlines() if re.match(r"\+(?!\+\+)", line)]
    return added[0][1:].strip()


def render(found: Iterable[Mutant], explained: Iterable[Explanation], minutes: int) -> str:
    """The page."""
    counts = Counter((mutant.module, mutant.status in _CAUGHT) for mutant in found)
    lines = [_TITLE.format(minutes=minutes)]
    lines += ["| module | mutants | found by tests | explained |", "|:--|--:|--:|--:|"]
    for module in sorted({module for module, _ in counts}):
        caught, left = counts[module, True], counts[module, False]
        lines.append(f"| `pixelrobust/{module}.py` | {caught + left} | {caught} | {left} |")
    lines += ["", "## Explained", ""]
    for explanation in explained:
        lines += [f"`{explanation.function}`: {explanation.why}", "", "```python"]
        lines += [*explanation.becomes, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _mutmut(*arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return ended.stdout


def main() -> int:
    """The exit code."""
    found = mutants(_mutmut("results", "--all", "true"))
    left = [mutant for mutant in found if mutant.status not in _CAUGHT]
    becomes = {
        mutant.name: (
            f"{mutant.module}.{mutant.function}",
            changed_line(_mutmut("show", mutant.name)),
        )
        for mutant in left
    }
    explained = explanations()
    known = {(one.function, line) for one in explained for line in one.becomes}
    unexplained = {name: change for name, change in becomes.items() if change not in known}
    for name, change in unexplained.items():
        print(f"{name} is not found by tests: {': '.join(change)}")
    for change in sorted(known - set(becomes.values())):
        print(f"scripts/mutants.toml explains what did not survive: {': '.join(change)}")
    if unexplained or known - set(becomes.values()):
        return 1
    PAGE.write_text(render(found, explained, int(sys.argv[1])), encoding="utf-8")
    print(f"{len(found)} mutants, {len(left)} of them explained; written to docs/mutants.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
