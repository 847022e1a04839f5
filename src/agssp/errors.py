"""The one error that means: what you gave cannot be used, and here is what to do."""


class InputError(ValueError):
    """Input from the user that cannot be used.

    The message names the file, row, category or flag, says what was expected and what came, and what to do. Commands
    print it without a traceback and exit with status 2.
    """
