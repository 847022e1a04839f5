"""Faults of the machine, told from those of what it was given: these pass, and nothing is skipped for them."""

import errno
import os
import re

from agssp.errors import StorageError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PASSING = {
    *NO_SPACE, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO,
    errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.ENETUNREACH, errno.ECONNRESET, errno.ECONNABORTED, errno.EREMOTEIO if hasattr(errno, "EREMOTEIO") else 0,
} - {0}  # fmt: skip
# Libraries that are not written in Python wrap the system's error in their own and keep its words alone.
_WRAPPED = re.compile(r"os error (\d+)|\[?[Ee]rrno:? (\d+)")
# torch keeps not even these when it writes.
_TORCH_WRITING = re.compile(r"inline_container.*unexpected pos|PytorchStreamWriter failed writing", re.DOTALL)


def storage_fault(error: BaseException) -> str | None:
    """What the machine lacks, if that is what an error comes from: no fault of the input, and gone when it is mended.

    A full disk, an unmounted share, an I/O error, too little memory, too many open files.

    Args:
        error: with the errors that it was raised from.

    Returns:
        A sentence for the user; None if the error is another.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, StorageError):
            return str(current)
        if isinstance(current, MemoryError):
            return "this process has no memory left; use less (a smaller --batch-size, fewer --workers), or free some"
        number = _error_number(current)
        if number in PASSING:
            name = getattr(current, "filename", None)
            where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) else ""
            remedy = "make room there" if number in NO_SPACE else "see to the disk or network share"
            return f"{where}{os.strerror(number)}; {remedy}"
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return None


def raise_storage_fault(error: BaseException, name: object) -> None:
    """Raise a StorageError where an error comes from the machine; return where it comes from the input.

    Args:
        error: that was met, with the errors that it was raised from.
        name: of what was read, for the message.

    Raises:
        StorageError: see `storage_fault`.
    """
    if isinstance(error, StorageError):
        raise error
    if (fault := storage_fault(error)) is not None:
        raise StorageError(fault if fault.startswith(f"{name}: ") else f"{name}: {fault}") from error


def _error_number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = str(error)
    if _TORCH_WRITING.search(said):
        return errno.ENOSPC
    found = _WRAPPED.search(said)
    return int(found[1] or found[2]) if found else None
