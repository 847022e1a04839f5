"""The encoded bytes of an image: opened within bounds, and a fault of the machine told from one of the file."""

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from agssp.errors import InputError, StorageError
from agssp.faults import raise_storage_fault

MAX_BYTES = 1024**3
"""Of one encoded image. 100 million pixels of four bands of 16 bits take 800 MB where nothing is compressed."""

_BLOCK = 1024**2
# These speak of the path itself: whatever it is, it is no image, now and later.
_NO_FILE = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EISDIR, errno.ENOTDIR, errno.ENOENT)


class ImageError(InputError):
    """An image that cannot be used; the message names it."""


def open_encoded(value: Any, name: str) -> AbstractContextManager[BinaryIO]:
    """Open the encoded bytes of an image.

    Args:
        value: a path, the bytes of a file, an open binary file, or a `datasets` image value `{"path", "bytes"}`.
        name: how to name the image in an error.

    Raises:
        ImageError: there is no such file, it is none of bytes, empty, or larger than `MAX_BYTES`.
        StorageError: the machine failed, so that nothing is known of the image: see `open_file`.
    """
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, (bytes, bytearray, memoryview)):
        if len(value) == 0:
            raise ImageError(f"{name}: the file is empty (0 bytes)")
        return io.BytesIO(value)
    if isinstance(value, (str, Path)):
        file = open_file(value, name)
        if os.fstat(file.fileno()).st_size == 0:
            file.close()
            raise ImageError(f"{name}: the file is empty (0 bytes)")
        return file
    if hasattr(value, "read"):
        return nullcontext(value)
    raise ImageError(f"{name}: expected a path, bytes, a binary file or a PIL image, got {type(value).__name__}")


def read_encoded(value: Any, name: str) -> bytes:
    """All encoded bytes of an image; arguments and errors as of `open_encoded`."""
    with open_encoded(value, name) as file, storage_faults_told(name):
        return file.read()


def open_file(path: str | Path, name: str) -> io.BufferedReader:
    """Open the file of an image, be it empty.

    A file that is missing from a folder where others are is a missing image. Where its folder is missing or empty too
    a disk or share is not there, as with a file that may not be opened: that is no fault of the image.

    Args:
        path: of the file.
        name: how to name the image in an error.

    Raises:
        ImageError: there is no such file, it is a folder, a pipe or a device, or is larger than `MAX_BYTES`.
        StorageError: its folder is gone too, or it cannot be opened now.
    """
    try:
        # Opened here, since Pillow turns an uncompressed TIFF wrongly when it maps the file by its name.
        file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 (taken apart, a path costs more than this)
        found = os.fstat(file.fileno())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        if isinstance(error, FileNotFoundError) and (folder := missing_folder(path)) is not None:
            raise StorageError(
                f"{name}: no such file: {path}, and nothing is in its folder {folder}; if that is on another disk or a "
                "network share, see to it that it is there; if its files are gone for good, take them out of the data"
            ) from error
        raise ImageError(f"{name}: no such file: {path}") from error
    except ValueError as error:
        raise ImageError(f"{name}: the file cannot be opened: {error}") from error
    except OSError as error:
        if error.errno in _NO_FILE:
            raise ImageError(f"{name}: the file cannot be opened: {error}") from error
        raise StorageError(
            f"{name}: {path} cannot be opened now: {error.strerror}; see to the disk, the network share or its "
            "permissions"
        ) from error
    fault = None
    if not stat.S_ISREG(found.st_mode):
        fault = f"{path} is no file of bytes but a pipe or a device"
    elif found.st_size > MAX_BYTES:
        fault = f"{found.st_size:,} bytes; expected {MAX_BYTES:,} at most"
    if fault is not None:
        file.close()
        raise ImageError(f"{name}: {fault}")
    return file


def missing_folder(path: str | Path) -> str | None:
    """The folder of a file that is missing, where that is missing or empty as well; None where it holds others.

    Args:
        path: of the file; of a link that leads nowhere the place counts that it leads to.
    """
    folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 (as above)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return None if next(entries, None) is not None else folder
    return folder


def file_size(path: str | Path, name: str) -> int | None:
    """Bytes of an image's file; None where it is missing.

    Raises:
        StorageError: its folder is missing too, or it cannot be looked at now.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 (as above)
    except (OSError, ValueError) as error:
        gone = isinstance(error, FileNotFoundError) and missing_folder(path)
        if gone or (isinstance(error, OSError) and error.errno not in _NO_FILE):
            raise StorageError(
                f"{name}: {path} cannot be looked at ({error}); see to the disk or network share"
            ) from error
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


@contextlib.contextmanager
def storage_faults_told(name: str, file: BinaryIO | None = None) -> Iterator[None]:
    """Around the decoding of an image: what comes of a fault of the machine is a StorageError, not a bad image.

    Decoders take an I/O error for damage and forget it. So a file that seems damaged is read once more, to its end:
    only one of which all bytes can be had is.

    Args:
        name: how to name the image.
        file: that is decoded.

    Raises:
        StorageError: in the place of an error that comes of such a fault.
    """
    try:
        yield
    except Exception as error:
        raise_storage_fault(error, name)
        if file is not None:
            _read_again(file, name)
        raise


def _read_again(file: BinaryIO, name: str) -> None:
    if isinstance(file, io.BytesIO):
        return
    try:
        file.seek(0)
        while file.read(_BLOCK):
            pass
    except (OSError, MemoryError) as error:
        raise_storage_fault(error, name)
    except ValueError:  # closed
        return


def _open_at_once(path: str, flags: int) -> int:
    # A pipe without a writer would keep whoever opens it waiting for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
