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
    r"^\s*(?P<name>pixelrobust\.(?P<module>\w+)\.(?P<function>\S+)__mutmut_\d+): (?P<status>.+)$"
)
_TITLE = """# Mutants

`make mutants` changes one place at a time in the modules below (an operator, a number, a text, an
argument) and runs their tests, of which at least one must fail. It takes about {minutes} minutes on one
core and writes this page. Only what functions do is changed, not constants and not decorated functions.
What tests cannot find, because it changes nothing that they could see, is explained in
`scripts/mutants.toml`; anything else that they do not find makes the command fail.

| module | mutants | found | explained |
|:--|--:|--:|--:|
"""


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        name: what mutmut calls it.
        function: module and function, such as store.AnswerStore.load.
        status: what became of it, in mutmut's words.
    """

    name: str
    function: str
    status: str

    @property
    def found(self) -> bool:
        """Whether a test failed, or did not end."""
        return self.status in _CAUGHT


@dataclass(frozen=True)
class Explanation:
    """Why no test can tell some mutants of a function from the original.

    Attributes:
        function: module and function.
        becomes: changed lines, each as it is in a mutant, without indentation.
        why: the reason.
    """

    function: str
    becomes: tuple[str, ...]
    why: str


def mutants(results: str) -> list[Mutant]:
    """All mutants that `mutmut results --all true` lists."""
    return [
        Mutant(
            match["name"],
            f"{match['module']}.{re.sub('^x[ǁ_]', '', match['function']).replace('ǁ', '.')}",
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
    """What the first line that a mutant changes becomes, without indentation."""
    added = [line for line in difference.splitlines() if re.match(r"\+(?!\+\+)", line)]
    return added[0][1:].strip()


def unexplained(left: set[tuple[str, str]], explained: Iterable[Explanation]) -> list[str]:
    """What is wrong with the explanations of what is left, as pairs of function and changed line."""
    known = {(one.function, line) for one in explained for line in one.becomes}
    return [
        *(f"tests do not find {': '.join(change)}" for change in sorted(left - known)),
        *(
            f"scripts/mutants.toml explains what tests find: {': '.join(change)}"
            for change in sorted(known - left)
        ),
    ]


def render(every: Iterable[Mutant], explained: Iterable[Explanation], minutes: int) -> str:
    """The page."""
    counts = Counter((mutant.function.partition(".")[0], mutant.found) for mutant in every)
    lines = [_TITLE.format(minutes=minutes).rstrip()]
    for module in sorted({module for module, _ in counts}):
        found, left = counts[module, True], counts[module, False]
        lines.append(f"| `pixelrobust/{module}.py` | {found + left} | {found} | {left} |")
    for one in explained:
        module, _, function = one.function.partition(".")
        lines += ["", f"`{function}` in {module}.py: {one.why}", "", "```", *one.becomes, "```"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The exit code. The argument is how many minutes mutmut took."""
    every = mutants(_mutmut("results", "--all", "true"))
    left = [mutant for mutant in every if not mutant.found]
    changes = {(mutant.function, changed_line(_mutmut("show", mutant.name))) for mutant in left}
    explained = explanations()
    faults = unexplained(changes, explained)
    if faults:
        print("\n".join(faults))
        return 1
    PAGE.write_text(render(every, explained, int(sys.argv[1])), encoding="utf-8")
    print(f"{len(every)} mutants, {len(left)} of them explained; written to docs/mutants.md")
    return 0


def _mutmut(*arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return ended.stdout


if __name__ == "__main__":
    sys.exit(main())
