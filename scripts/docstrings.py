"""Arguments that share a line of a docstring, told apart for the API reference.

An extension of Griffe, which reads docstrings for mkdocstrings: it takes "low, high: ends" for one
name of a strange type.
"""

import re
from typing import Any

import griffe

_SHARED = re.compile(r"^ {4}(\w+(?:, \w+)+)(: .*(?:\n {5,}.*)*)$", re.MULTILINE)


def split_names(docstring: str) -> str:
    """A docstring with an entry of its own for each of several names on one line."""
    return _SHARED.sub(
        lambda entry: "\n".join(f"    {name}{entry[2]}" for name in entry[1].split(", ")), docstring
    )


class SplitNames(griffe.Extension):
    """Applies `split_names` to every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = split_names(obj.docstring.value)
