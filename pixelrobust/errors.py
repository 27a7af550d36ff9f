"""The one exception for trouble that a user can mend."""

from pixelrobust.escaping import printable


def first_line(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class InputError(ValueError):
    """Something the user gave is wrong.

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
