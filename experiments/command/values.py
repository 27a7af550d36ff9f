"""Options that take several values: `--num 4 16 64`, `--num 4,16,64`, `--num 4 --num 16`."""

import re
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from pixelrobust.errors import InputError

_SEVERAL = ("--num", "--amplitude", "--area")
_VALUE = re.compile(r"[-+]?[\d.]+(,[-+]?[\d.]+)*,?|full|whole")


class SeveralValues(TyperCommand):
    """A command whose numbers may follow their option one after the other."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Command`."""
        return super().parse_args(ctx, joined(args))


def joined(arguments: Sequence[str]) -> list[str]:
    """A command line in which values that follow such an option are one, with commas."""
    found: list[str] = []
    option = ""
    for argument in arguments:
        is_value = _VALUE.fullmatch(argument)
        if option and is_value and found[-1] != option:
            found[-1] = f"{found[-1].rstrip(',')},{argument}"
            continue
        # The first value is the option's own.
        if not (option and found[-1] == option and is_value):
            option = argument if argument in _SEVERAL else ""
        found.append(argument)
    return found


def numbers(option: str, texts: Sequence[str], unlimited: str | None = None) -> list[int | None]:
    """The numbers that were given.

    Args:
        option: whose they are.
        texts: each one or more, with commas.
        unlimited: the word that stands for no limit, which is None.

    Raises:
        InputError: something else was given.
    """
    return [
        _number(option, part.strip(), unlimited)
        for text in texts
        for part in text.split(",")
        if part
    ]


def _number(option: str, text: str, unlimited: str | None) -> int | None:
    if text == unlimited:
        return None
    try:
        return int(text)
    except ValueError as error:
        word = f", or {unlimited}" if unlimited else ""
        raise InputError(
            f"{option}={text} is wrong; give one whole number or several{word}, for example {option} 4 16."
        ) from error
