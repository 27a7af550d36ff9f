"""Say where this software's files lie, turn trouble into exit codes, and hold what runs share."""

import codecs
import io
import shutil
import sys
import textwrap
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar, cast

from pixelrobust.errors import InputError

_T = TypeVar("_T")

EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

_PACKAGE = Path(__file__).resolve().parent
# setup.py puts the configs here; in a repository they lie beside the packages.
_INSTALLED = _PACKAGE / "configs"

REPOSITORY = None if _INSTALLED.is_dir() else _PACKAGE.parent
"""The checkout; None where this software was installed from a wheel."""

CONFIGS = _INSTALLED if REPOSITORY is None else REPOSITORY / "configs"

_ERRORS = "pixelrobust"
# What tables and sentences hold; all else is shown as an escape such as \\u6570.
_PLAIN = {
    "–": "-", "—": "-", "−": "-", "─": "-", "━": "-", "…": "...", "→": "->", "×": "x", "±": "+-",
    "≥": ">=", "≤": "<=", "•": "*", "│": "|", "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip

STORE = "store"
"""Where, below a folder of results, work in progress is kept."""
RUN, DONE, FAILURE = "run.json", "DONE", "failure.txt"
"""What a run leaves about itself: what it is made of, and how it ended."""


def exit_code(work: Callable[[], int]) -> int:
    """Do the work of a command.

    Returns:
        What it returns; 2 after a sentence about what the user gave, 130 where they interrupted it.
    """
    show_anywhere()
    try:
        return work()
    except InputError as error:
        print(_for_reading(f"error: {error}"), file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _for_reading(sentences: str) -> str:
    """Return lines that a terminal does not break within words; elsewhere as they are."""
    if not sys.stderr.isatty():
        return sentences
    width = shutil.get_terminal_size().columns
    broken = (
        textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        for line in sentences.splitlines()
    )
    return "\n".join(line for lines in broken for line in lines)


def show_anywhere() -> None:
    """Let this process print what the encoding of the terminal, or of a pipe, cannot show, in its letters."""
    codecs.register_error(_ERRORS, _in_plain_letters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    shown = (
        _PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode("ascii") for one in text
    )
    return "".join(shown), error.end


def root() -> Path:
    """Return the folder that relative paths are taken from: within the repository it, else the current one."""
    here = Path.cwd()
    return REPOSITORY if REPOSITORY and here.is_relative_to(REPOSITORY) else here


def results_name() -> str:
    """Return the name of the folder of results, unless `paths.results` says otherwise."""
    return "results" if root() == REPOSITORY else "pixelrobust-results"


def default_results() -> Path:
    """Return the folder where results go and are looked for, unless another is given."""
    return root() / results_name()


def short(path: Path) -> str:
    """Return a path as it is shown and can be copied: relative to the current folder, where it is below."""
    here, path = Path.cwd(), path.absolute()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


class Workshop:
    """Hold what a process has made and its later runs can use: images, networks, engines."""

    def __init__(self) -> None:
        self._made: dict[tuple[Hashable, ...], Any] = {}

    def __reduce__(self) -> tuple[type["Workshop"], tuple[()]]:
        # Another process makes its own: engines cannot be handed over.
        return Workshop, ()

    def get(self, key: tuple[Hashable, ...], make: Callable[[], _T]) -> _T:
        """Return what there is for a key, which is made where there is nothing yet."""
        if key not in self._made:
            self._made[key] = make()
        return cast(_T, self._made[key])

    def once(self, say: Callable[[str], None], sentence: str) -> None:
        """Say a sentence, unless it has been said: jobs of a sweep often have the same to say."""
        self.get(("said", sentence), lambda: say(sentence))
