"""The one way to write: whole and durable, or not at all; and to read back what was written, or say what is wrong.

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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from agssp.errors import InputError, StorageError

logger = logging.getLogger(__name__)

LOCK = ".lock"
MOST_JSON_BYTES = 256 * 1024**2
"""Of a JSON file of settings, facts or results; labels may be larger and say so themselves."""
MOST_YAML_BYTES = 4 * 1024**2
MOST_YAML_VALUES = 200_000
"""That a YAML file may hold, those that it repeats by `*NAME` counted as often as they stand there."""
MOST_DEPTH = 100
"""Of lists and tables in one another; what goes through them afterwards need not fear for Python's stack."""

_COUNTER = itertools.count()
_LEFTOVER = re.compile(r"\..*\.(?P<host>[^/]*)-(?P<process>\d+)-\d+\.partial")
_LONGEST = 120
_ENDING_SECONDS = 30
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PASSING = {
    *_NO_SPACE, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO,
    errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.ENETUNREACH, errno.ECONNRESET, errno.ECONNABORTED, errno.EREMOTEIO if hasattr(errno, "EREMOTEIO") else 0,
} - {0}  # fmt: skip
# Libraries that are not written in Python wrap the system's error in their own and keep its words alone.
_WRAPPED = re.compile(r"os error (\d+)|\[?[Ee]rrno:? (\d+)")
# torch keeps not even these when it writes.
_TORCH_WRITING = re.compile(r"inline_container.*unexpected pos|PytorchStreamWriter failed writing", re.DOTALL)


# --- writing ----------------------------------------------------------------------------------------------------------


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
    return path.with_name(f".{name}.{socket.gethostname()}-{os.getpid()}-{next(_COUNTER)}.partial")


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
        if found is None or int(found["process"]) == os.getpid():
            continue
        own = found["host"] == socket.gethostname()
        if not (_has_ended(int(found["process"])) if own else alone):
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


def _has_ended(process: int) -> bool:
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


# --- reading back -----------------------------------------------------------------------------------------------------


def read_json(
    path: str | os.PathLike, kind: type | tuple[type, ...] = dict, keys: tuple[str, ...] = (), *, remedy: str = ""
) -> Any:
    """Read a JSON file.

    Args:
        path: of the file.
        kind: what the outermost value must be: `dict`, `list` or both.
        keys: that it must have.
        remedy: what to do about a file that cannot be used, for the message.

    Returns:
        Its value.

    Raises:
        InputError: it is missing, cut off, no JSON, too deep, larger than `MOST_JSON_BYTES`, of another kind or lacks
            a key; the file is named.
    """
    path = Path(path)
    try:
        if (size := path.stat().st_size) > MOST_JSON_BYTES:
            raise InputError(f"{path}: {size:,} bytes of JSON; expected {MOST_JSON_BYTES:,} at most{_and(remedy)}")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file{_and(remedy)}") from error
    except OSError as error:
        if error.errno in _PASSING:
            raise
        raise InputError(f"{path}: cannot be read: {error.strerror}{_and(remedy)}") from error
    value: Any = parse_json(content, str(path), remedy=remedy)
    if not isinstance(value, kind):
        raise InputError(f"{path}: expected JSON of {_kinds(kind)}, got {_shown(value)}{_and(remedy)}")
    content_of: Any = value
    if missing := [key for key in keys if key not in content_of]:
        raise InputError(f"{path}: lacks {', '.join(missing)}{_and(remedy)}")
    return value


def parse_json(content: bytes | str, name: str, *, remedy: str = "") -> Any:
    """Read JSON that came from a file.

    Raises:
        InputError: it is cut off, no JSON, not in UTF-8, too deep, or holds numbers of thousands of digits; `name` is
            named.
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        value = json.loads(text)
    except RecursionError as error:
        raise InputError(f"{name}: JSON that is nested too deeply{_and(remedy)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: expected JSON in UTF-8: {error}{_and(remedy)}") from error
    except ValueError as error:  # among them JSONDecodeError, and numbers over Python's limit of digits
        what = "the file is empty" if not text.strip() else f"not valid JSON, or cut off: {error}"
        raise InputError(f"{name}: {what}{_and(remedy)}") from error
    if is_too_deep(value):
        raise InputError(f"{name}: JSON that is nested too deeply, over {MOST_DEPTH} levels{_and(remedy)}")
    return value


def is_too_deep(value: Any) -> bool:
    """Whether what JSON says has lists and tables in one another to more than `MOST_DEPTH` levels."""
    level = [value] if type(value) in (dict, list) else []
    for _ in range(MOST_DEPTH):
        parts = (part for outer in level for part in (outer.values() if type(outer) is dict else outer))
        level = [part for part in parts if type(part) is dict or type(part) is list]
        if not level:
            return False
    return True


def read_yaml(path: str | os.PathLike, *, loader: Any = None, name: str = "") -> Any:
    """Read a YAML file of settings.

    Args:
        path: of the file.
        loader: one of PyYAML's safe kind; default: `yaml.SafeLoader`.
        name: of the file in errors; default: its path.

    Raises:
        InputError: it is missing, larger than `MOST_YAML_BYTES`, not in UTF-8, or `parse_yaml` refuses it; `name` is
            named.
    """
    path = Path(path)
    name = name or str(path)
    try:
        if (size := path.stat().st_size) > MOST_YAML_BYTES:
            raise InputError(f"{name}: {size:,} bytes of YAML; expected {MOST_YAML_BYTES:,} at most")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: expected YAML in UTF-8: {error}; save it so") from error
    except OSError as error:
        if error.errno in _PASSING:
            raise
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error
    return parse_yaml(text, name, loader=loader)


def parse_yaml(text: str, name: str, *, loader: Any = None) -> Any:
    """Read YAML that came from a file, of plain values only.

    Raises:
        InputError: it is no YAML, holds more than `MOST_YAML_VALUES` once what is repeated by name is written out,
            something that holds itself, or more than `MOST_DEPTH` levels; `name` is named.
    """
    import yaml

    reader = None
    try:
        reader = (yaml.SafeLoader if loader is None else loader)(text)
        node = reader.get_single_node()
        if node is None:
            return None
        if _written_out(node, {}, 0) > MOST_YAML_VALUES:
            raise ValueError(f"over {MOST_YAML_VALUES:,} values, those repeated by name counted wherever they stand")
        return reader.construct_document(node)
    except RecursionError as error:
        raise InputError(f"{name}: YAML that is nested too deeply") from error
    # Python's own words for dates and numbers that are none come as ValueError.
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise InputError(f"{name}: not valid YAML: {error}") from error
    finally:
        if reader is not None:
            reader.dispose()


def _written_out(node: Any, known: dict[int, int | None], depth: int) -> int:
    """How many values a part of a YAML file has, those that stand in several places counted in each."""
    if isinstance(node.value, str):
        return 1
    if depth > MOST_DEPTH:
        raise ValueError(f"nested too deeply, over {MOST_DEPTH} levels")
    if id(node) not in known:
        known[id(node)] = None
        parts = (part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,)))
        known[id(node)] = 1 + sum(_written_out(part, known, depth + 1) for part in parts)
    size = known[id(node)]
    if size is None:
        raise ValueError("a part holds itself")
    return size


def read_lines(path: str | os.PathLike, *, repair: bool = False) -> Iterator[Any]:
    """Read a journal, one JSON value a line; a last line that was cut off is left out, with a word.

    Args:
        path: of the file; one that is missing has no lines.
        repair: cut the half line off the file too, so that lines can be added.

    Yields:
        The values.

    Raises:
        InputError: a line that is no JSON; file and line are named.
    """
    path = Path(path)
    if not path.is_file():
        return
    good = number = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                logger.warning("%s, line %d: was cut off when it was written, and is left out", path, number)
                break
            good += len(line)
            if line.strip():
                yield parse_json(line, f"{path}, line {number}")
    if repair and good < path.stat().st_size:
        os.truncate(path, good)


_KINDS: dict[type, str] = {dict: "an object, {...}", list: "a list, [...]"}


def _kinds(kind: type | tuple[type, ...]) -> str:
    return " or ".join(_KINDS[one] for one in (kind if isinstance(kind, tuple) else (kind,)))


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _and(remedy: str) -> str:
    return f"; {remedy}" if remedy else ""


# --- one at a time ----------------------------------------------------------------------------------------------------


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

    lock = FileLock(file, thread_local=False)
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
    except NotImplementedError:
        logger.warning("%s: its file system knows no locks; see to it that only one command writes there", what)
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
            gone = facts.get("host") == socket.gethostname() and _has_ended(int(facts.get("process", os.getpid())))
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


# --- faults that pass -------------------------------------------------------------------------------------------------


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
        if number in _PASSING:
            name = getattr(current, "filename", None)
            where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) else ""
            remedy = "make room there" if number in _NO_SPACE else "see to the disk or network share"
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
