"""What an examination finds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from pixelrobust.errors import InputError, first_line

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        level: problem: evaluations fail; warning: some do, or take longer.
        text: what was found.
        remedy: what to do about it; empty where there is nothing to do.
    """

    name: str
    level: Level
    text: str
    remedy: str = ""


Look = Callable[[], Iterable[Finding]]


def found_by(name: str, look: Look) -> list[Finding]:
    """What a look finds; what goes wrong while looking is a problem too."""
    try:
        return list(look())
    except InputError as error:
        return [Finding(name, "problem", str(error))]
    # A doctor who faints helps nobody: broken installations raise anything.
    except Exception as error:
        text = f"cannot be examined ({type(error).__name__}: {first_line(error)})"
        return [Finding(name, "problem", text, "Reinstall pixelrobust in a new environment.")]
