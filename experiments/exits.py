"""How commands end: the one place where trouble becomes an exit code."""

import sys
from collections.abc import Callable

from pixelrobust.errors import InputError

EXIT_INPUT = 2
EXIT_INTERRUPTED = 130


def exit_code(work: Callable[[], int]) -> int:
    """Do the work of a command.

    Returns:
        What it returns; 2 after a sentence about what the user gave, 130 where they interrupted it.
    """
    try:
        return work()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
