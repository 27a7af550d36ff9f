"""The one exception for trouble that a user can mend, and text from outside as literal text.

Names, paths and descriptions of data sets, models and configs are untrusted: whatever they hold, they
stay text in the terminal, in Markdown, LaTeX and CSV.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterable

# Controls, halves of characters that are none, and separators of lines and paragraphs.
_INVISIBLE = ("Cc", "Cs", "Zl", "Zp")
# They turn the direction of reading round, so that text looks like another.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# So many names stand in a sentence.
_NAMED = 3
_MARKDOWN = str.maketrans(
    {character: f"\\{character}" for character in "\\|_*`~$"} | {"<": "&lt;", ">": "&gt;"}
)
# An entity such as &copy;, and what a link, an image or a footnote would need.
_ENTITY = re.compile(r"&(?=#?\w+;)")
_LINK = re.compile(r"\](?=[(\[:])")
# A heading, a list, or a line that makes a heading of the one above.
_OPENS_A_BLOCK = re.compile(r"^(\d{0,9})([-+=#.)])")

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "×": r"$\times$", "–": "--",
})  # fmt: skip
# At the beginning of a row they would be arguments of the line break above.
_LATEX_ARGUMENTS = ("[", "*")
# Spreadsheets take what begins so for a formula.
_FORMULAS = ("=", "+", "-", "@")


class InputError(ValueError):
    """Raised where something the user gave is wrong.

    Each sentence names the key, argument or file, says what is wrong with it and what to do. The
    command line prints them without a traceback and exits with code 2. Names in them do nothing to
    a terminal.

    Args:
        sentences: one or more; each is a line.
    """

    def __init__(self, *sentences: str) -> None:
        super().__init__(*map(printable, sentences))

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


def first_line(error: BaseException) -> str:
    """Return what an error says, on one line; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def some(names: Iterable[str]) -> str:
    """Return the first few names, as a sentence lists them."""
    first = list(itertools.islice(names, _NAMED + 1))
    return ", ".join(first[:_NAMED]) + (", …" if len(first) > _NAMED else "")


def printable(value: object) -> str:
    """Return text on one line that does nothing to a terminal.

    Line breaks and tabs become spaces; other control characters, characters that turn the direction
    of reading, and bytes of a file name that are no text become escapes such as \\x1b.
    """
    return "".join(map(_visible, str(value)))


def _visible(character: str) -> str:
    if character in "\n\r\t\v\f":
        return " "
    if unicodedata.category(character) in _INVISIBLE or character in _TURNING:
        code = ord(character)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return character


def escape_markdown(value: object) -> str:
    """Return text that Markdown shows as it is, within a line or a table."""
    escaped = _ENTITY.sub("&amp;", printable(value)).translate(_MARKDOWN)
    return _LINK.sub(r"\]", escaped)


def escape_paragraph(value: object) -> str:
    """Return text that Markdown shows as it is, as a paragraph of its own."""
    return _OPENS_A_BLOCK.sub(r"\1\\\2", escape_markdown(value).strip())


def escape_latex(value: object) -> str:
    """Return text that LaTeX shows as it is, in a table too."""
    text = printable(value).translate(_LATEX)
    return "{}" + text if text.lstrip().startswith(_LATEX_ARGUMENTS) else text


def escape_cell(value: object) -> object:
    """Return a cell of a CSV file that stays one cell, and that spreadsheets do not compute.

    Text is put on one line; what begins like a formula gets an apostrophe in front.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULAS) else text
