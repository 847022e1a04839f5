"""One command at a time on an output: whoever comes second is told who writes there."""

import contextlib
import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agssp.errors import InputError
from agssp.files import has_ended, remove_leftovers
from agssp.parsing import parse_json

logger = logging.getLogger(__name__)

LOCK = ".lock"
_ENDING_SECONDS = 30
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextlib.contextmanager
def holding(folder: str | os.PathLike, command: str, *, flag: str = "--output") -> Iterator[None]:
    """Keep a folder to this process, and clear away what killed runs have left there.

    Args:
        folder: made if missing. The lock is its file `.lock`, which says who holds it and is removed at the end.
        command: its name, for whoever comes second.
        flag: that named the folder, for messages.

    Raises:
        InputError: another process writes there, which is named, or this one may not.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{flag} {folder}: a file of this name exists; expected a folder")
    with _locked(folder / LOCK, command, f"{flag} {folder}"):
        remove_leftovers(folder, alone=True)
        yield


@contextlib.contextmanager
def holding_file(path: str | os.PathLike, command: str, *, flag: str = "--output") -> Iterator[None]:
    """Keep a single file, or a folder that appears at once, to this process, as `holding` keeps a folder.

    Args:
        path: of the file. The lock lies beside it, as `.NAME.lock`.
        command: its name, for whoever comes second.
        flag: that named the file, for messages.

    Raises:
        InputError: another process writes it, which is named, or this one may not.
    """
    path = Path(path)
    with _locked(path.with_name(f".{path.name}{LOCK}"), command, f"{flag} {path}"):
        remove_leftovers(path.parent)
        yield


@contextlib.contextmanager
def _locked(file: Path, command: str, what: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    # Without filelock's way out, a marker file, whose content would be the one that is written below.
    lock = FileLock(file, thread_local=False, fallback_to_soft=False)
    made = [folder for folder in (file.parent, *file.parent.parents) if not folder.exists()]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, file)
    except Timeout as error:
        raise InputError(
            f"{what}: {_told(_holder(file))} is writing there; wait until it has ended, stop it, or name another"
        ) from error
    except PermissionError as error:
        raise InputError(f"{what}: no right to write there ({error}); name another") from error
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        logger.warning("%s: its file system knows no locks; see to it that only one command writes there", what)
        file.unlink(missing_ok=True)
        yield
        return
    try:
        facts = {"command": command, "process": os.getpid(), "host": socket.gethostname(), "since": _now()}
        # A word for whoever comes second, which a full disk may lack the room for.
        with contextlib.suppress(OSError):
            file.write_text(json.dumps(facts), encoding="utf-8")
        yield
    finally:
        # Before it is given up: whoever waits for it sees that the file is gone and makes a new one.
        file.unlink(missing_ok=True)
        lock.release()
        # Where nothing came of it, nothing stays.
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()


def _acquire(lock: Any, file: Path) -> None:
    """Take the lock; one whose holder was killed is waited for, as that one's workers keep it until they end too."""
    from filelock import Timeout

    end = time.monotonic() + _ENDING_SECONDS
    while True:
        try:
            lock.acquire(timeout=0)
            return
        except Timeout:
            facts = _holder(file)
            gone = facts.get("host") == socket.gethostname() and has_ended(int(facts.get("process", os.getpid())))
            if not gone or time.monotonic() > end:
                raise
            time.sleep(0.1)


def _holder(file: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, InputError):
        facts = parse_json(file.read_bytes(), str(file))
        return facts if isinstance(facts, dict) else {}
    return {}


def _told(facts: dict[str, Any]) -> str:
    if not {"command", "process", "host", "since"} <= facts.keys():
        return "another command"
    return f"`agssp {facts['command']}` (process {facts['process']} on {facts['host']}, since {facts['since']})"


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z")
