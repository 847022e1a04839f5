"""The one way to write: whole and durable, or not at all.

Whatever takes the place of something else is written beside it first, under a hidden name that tells who writes it,
made durable, and moved into its place, so that no reader and no later run ever sees half of it. What a killed run has
left behind under such names is removed by the next one (`remove_leftovers`).
"""

import contextlib
import ctypes
import errno
import functools
import itertools
import json
import logging
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

logger = logging.getLogger(__name__)


_COUNTER = itertools.count()
_BEGUN: set[str] = set()
_LEFTOVER = re.compile(r"\..*\.(?P<host>[^/]*)-(?P<process>\d+)-\d+\.partial")
_LONGEST = 120


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike, *, parts: str | os.PathLike | None = None, durable: bool = True
) -> Iterator[Path]:
    """Give a path to write to; at the end of the block it is durable and takes its place, on an error it is gone.

    Args:
        path: of the file; missing folders are made.
        parts: folder of the unfinished file, on the same file system; default: the file's own. With many folders of
            many files, what a killed run leaves is looked for in this one alone.
        durable: outlives a power cut too. Many small files, which the next run makes again unless a journal names
            them, may go without.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = beside(path if parts is None else Path(parts) / path.name)
    try:
        yield part
        if durable:
            _make_durable(part)
        else:
            part.chmod(_usual_mode())
        part.replace(path)
        if durable:
            _make_durable(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def open_whole(
    path: str | os.PathLike, mode: str = "w", *, parts: str | os.PathLike | None = None
) -> Iterator[IO[Any]]:
    """Open a file to be written in one step, as `whole_file` does: `w` in UTF-8 with plain line ends, or `wb`."""
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    with whole_file(path, parts=parts) as part, part.open(mode, **text) as file:  # type: ignore[call-overload]
        yield file


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write a file in one step."""
    with open_whole(path, "wb") as file:
        file.write(content)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file in one step."""
    with open_whole(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write JSON in one step."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_lines(path: str | os.PathLike, lines: Iterator[Any] | list[Any]) -> None:
    """Write one JSON value a line, in one step, without holding them all."""
    with open_whole(path) as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_once(path: str | os.PathLike, write: Callable[[Path], object]) -> bool:
    """Put a file in its place unless another process, of any machine, was first; its content stays, and is whole.

    Args:
        path: where the file belongs.
        write: writes the content to the path that it is given.

    Returns:
        Whether the content is this call's.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = beside(path)
    try:
        write(part)
        _make_durable(part)
        try:
            # A link, unlike a rename, never takes the place of what is there.
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError:
            # A file system without links: the best there is.
            if path.exists():
                return False
            part.replace(path)
        _make_durable(path.parent)
        return True
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike, *, parts: str | os.PathLike | None = None, many: bool = False
) -> Iterator[Path]:
    """Give an empty folder to write to; at the end of the block it is durable and takes the place of the old one.

    The old folder stays until the new one is whole. A run that is killed between the two moves leaves it under another
    name, from which `restore_folder` brings it back.

    Args:
        path: of the folder; what it holds is lost at the end of the block.
        parts: folder of the unfinished one, as for `whole_file`.
        many: of very many small files, which are made durable together where the system can, not each by itself.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    restore_folder(path)
    part, old = beside(path if parts is None else Path(parts) / path.name), _old(path)
    part.mkdir()
    try:
        yield part
        if not (many and _make_all_durable(part)):
            make_durable(part)
        _take_place(part, path, old)
        _make_durable(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _take_place(part: Path, path: Path, old: Path) -> None:
    while True:
        if path.exists():
            path.rename(old)
        try:
            part.rename(path)
            return
        except OSError as error:
            # A reader that found none has brought the old one back between the two moves.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def put_in_place(part: Path, path: Path) -> None:
    """Make a file or folder durable that is whole now, and give it the name under which it is looked for.

    Args:
        part: it, in the same folder or in one of the same file system.
        path: its name; a file that has it is replaced.
    """
    make_durable(part)
    part.replace(path)
    _make_durable(path.parent)


@contextlib.contextmanager
def whole_files(folder: str | os.PathLike, last: str) -> Iterator[Path]:
    """Give an empty folder for files that belong together; at the end of the block they move into one that has others.

    The one without which the others are nothing, such as a model's config.json, leaves first and comes last, so that
    old and new files are never taken for one whole.

    Args:
        folder: gets the files; made if missing.
        last: name of that file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    part = beside(folder / "files")
    part.mkdir()
    try:
        yield part
        make_durable(part)
        names = sorted((entry.name for entry in part.iterdir()), key=lambda name: (name == last, name))
        (folder / last).unlink(missing_ok=True)
        for name in names:
            (part / name).replace(folder / name)
        _make_durable(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def work_folder(name: str) -> Iterator[Path]:
    """Give an empty folder among the system's temporary ones; it goes at the end, or when the next one is made.

    Args:
        name: what it is for.
    """
    place = Path(tempfile.gettempdir())
    remove_leftovers(place)
    part = beside(place / f"agssp-{name}")
    part.mkdir(mode=0o700)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def make_durable(path: str | os.PathLike) -> None:
    """Bring a file, or all files below a folder, to the disk, with the permissions that new files get here."""
    if not Path(path).is_dir():
        _make_durable(Path(path))
    for place, _, names in os.walk(Path(path)):
        for name in names:
            _make_durable(Path(place, name))
        _make_durable(Path(place))


def restore_folder(path: str | os.PathLike) -> None:
    """Bring back a folder that `whole_folder` had moved away when it was killed; clear away one that it replaced."""
    path = Path(path)
    if not path.name or not (old := _old(path)).exists():
        return
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        # Another process may do the same at this moment.
        with contextlib.suppress(FileNotFoundError):
            old.rename(path)


def append_line(file: IO[str], content: Any) -> None:
    """Add one JSON value to a journal, and hand it to the system: it survives this process, if not a power cut."""
    file.write(json.dumps(content, ensure_ascii=False) + "\n")
    file.flush()


def beside(path: str | os.PathLike) -> Path:
    """A hidden name in the same folder that no other process uses, on this machine or another."""
    path = Path(path)
    name = path.name if len(os.fsencode(path.name)) <= _LONGEST else path.name[:20]
    part = path.with_name(f".{name}.{socket.gethostname()}-{os.getpid()}-{next(_COUNTER)}.partial")
    _BEGUN.add(part.name)
    return part


def remove_leftovers(folder: str | os.PathLike, *, alone: bool = False) -> list[str]:
    """Remove what killed runs have left in a folder (not in its folders) under hidden names.

    Args:
        folder: where this package writes.
        alone: nobody else writes there (see `holding`), so that what processes of other machines began goes too;
            otherwise only what processes of this machine began that have ended.

    Returns:
        Names of what was removed.
    """
    removed = []
    for entry in sorted(Path(folder).glob(".*")):
        found = _LEFTOVER.fullmatch(entry.name)
        if found is None or entry.name in _BEGUN:
            continue
        process, own = int(found["process"]), found["host"] == socket.gethostname()
        # In a container each run has the number of the one before.
        if not (has_ended(process) or (alone and process == os.getpid()) if own else alone):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
        removed.append(entry.name)
    if removed:
        logger.info("%s: removed %s, left by a run that was cut off", folder, ", ".join(removed))
    return removed


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def has_ended(process: int) -> bool:
    """Whether no process of this machine has this number; of another user's process it is not known, and False."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


@functools.cache
def _usual_mode() -> int:
    """The permissions that a new file gets here; safetensors gives its files to their owner alone."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def _make_durable(path: Path) -> None:
    if path.is_dir():
        if os.name == "nt":  # which knows no such thing for folders
            return
        handle = os.open(path, os.O_RDONLY)
    else:
        path.chmod(_usual_mode())
        handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot; that is no failed write.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _make_all_durable(folder: Path) -> bool:
    """Make all that was written to the file system of a folder durable in one step; whether this system can (Linux)."""
    try:
        sync = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError, TypeError):
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        if sync(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(handle)
    return True
