"""The one exception for trouble that a user can mend."""


class InputError(ValueError):
    """Something the user gave is wrong.

    The message is a whole sentence that names the key, argument or file, says what is wrong with
    it and what to do. The command line prints it without a traceback and exits with code 2.
    """
