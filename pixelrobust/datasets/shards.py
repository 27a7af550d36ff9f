"""Patterns that stand for several files: /data/shards-{000..009}.tar, /data/shards-*.tar."""

import itertools
import math
import re
from pathlib import Path

from pixelrobust.errors import InputError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")
_MOST_SHARDS = 100_000


def expand_shards(pattern: Path, key: str = "dataset.file") -> list[Path]:
    """The files that a pattern stands for, in the order of their names.

    Raises:
        InputError: there is none, or braces are wrong.
    """
    found: set[Path] = set()
    for name in _expand_braces(str(pattern), key):
        path = Path(name)
        wild = set("*?") & set(name) and not path.exists()
        found |= set(Path(path.anchor).glob(name.removeprefix(path.anchor))) if wild else {path}
    missing = next((path for path in sorted(found) if not path.is_file()), None)
    if missing is not None or not found:
        raise InputError(
            f"{key}={pattern}: {'no file fits' if missing is None else f'{missing} is not a file'}; give "
            "the tar files as a pattern, such as /data/shards-{000..009}.tar or /data/shards-*.tar."
        )
    return sorted(found)


def _expand_braces(text: str, key: str) -> list[str]:
    parts = _BRACES.split(text)
    if any(brace in part for part in parts[::2] for brace in "{}"):
        raise InputError(
            f"{key}={text} has a brace too many; write such as shards-{{000..009}}.tar."
        )
    choices: list[list[str]] = []
    for index, part in enumerate(parts):
        bounds = _RANGE.fullmatch(part)
        if index % 2 == 0:
            choices.append([part])
        elif bounds:
            first, last, width = int(bounds[1]), int(bounds[2]), len(bounds[1])
            if last - first >= _MOST_SHARDS:
                raise InputError(
                    f"{key}={text} is more than {_MOST_SHARDS:,} files; give a smaller range."
                )
            choices.append([f"{number:0{width}}" for number in range(first, last + 1)])
        else:
            choices.append(part.split(","))
    if math.prod(len(choice) for choice in choices) > _MOST_SHARDS:
        raise InputError(f"{key}={text} is more than {_MOST_SHARDS:,} files; give smaller ranges.")
    return ["".join(choice) for choice in itertools.product(*choices)]
