"""The errors that mean: this cannot be used, or cannot be done now, and here is what to do."""

WORKERS_TRACEBACK = "\nOriginal Traceback (most recent call last):"
"""What `torch.utils.data` puts between the name of a worker and the error in it."""


class InputError(ValueError):
    """Input from the user that cannot be used.

    The message names the file, row, category or flag, says what was expected and what came, and what to do. Commands
    print it without a traceback and exit with status 2. One that comes out of a worker of a `DataLoader`, which puts a
    traceback before it, reads as it did there.
    """

    def __str__(self) -> str:
        message = super().__str__()
        return message.rpartition(f"{type(self).__name__}: ")[2].strip() if WORKERS_TRACEBACK in message else message


class StorageError(InputError):
    """The machine, not what it was given, has failed: a full disk, an unmounted share, an I/O error, no memory.

    The work can be done once that is mended, so nothing is skipped for it: commands stop, keep what is finished and
    exit with status 75, and the same command goes on.
    """
