"""The one exception for trouble that a user can mend."""


def first_line(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class InputError(ValueError):
    """Something the user gave is wrong.

    The message is a whole sentence that names the key, argument or file, says what is wrong with
    it and what to do. The command line prints it without a traceback and exits with code 2.
    """
