"""How large a source's files are, asked after they were listed: one that is gone since is named."""

from pathlib import Path

from agssp.data.encoded import missing_folder
from agssp.errors import InputError, StorageError
from agssp.faults import raise_storage_fault


def file_bytes(path: Path) -> int:
    """Bytes of a file that was there when its source was listed.

    Raises:
        InputError: it is gone, or cannot be asked; it is named.
        StorageError: its folder is gone with it, or another fault that passes.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise_storage_fault(error, path)
        folder = missing_folder(path) if isinstance(error, FileNotFoundError) else None
        if folder is not None:
            raise StorageError(f"{path}: {folder} is not there, or empty; see to the disk or network share") from error
        raise InputError(
            f"{path}: cannot be read: {error.strerror}; it was there when the source was listed, so leave its files as "
            "they are while it is built, and run the same command again"
        ) from error
