"""Finds what would tell of this machine in files that leave it: its folders, its users' names, its own name.

What is published or exported is written without them. This is the last look before it goes.
"""

import contextlib
import functools
import getpass
import os
import pickletools
import re
import socket
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agssp.errors import InputError

# An absolute path behind anything but a word or another path; `//` begins the rest of a URL.
_PATH = re.compile(
    r"""(?:(?<=file://)|(?<![\w./~\\-]))(?:/(?![/\s])|[A-Za-z]:\\{1,2}|[A-Za-z]:/(?!/))[^\s'"`<>|,;()\[\]{}]+"""
)
# The same on every machine, but for what `_folders` names in them.
_COMMON = ("bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr")
_SHORTEST_HOST = 5
_TENSORS = re.compile(r"[^/]+/data/\d+")
"""Members of a `.pt` file that are numbers alone."""


def check_no_traces(content: bytes | str | os.PathLike, name: str) -> None:
    """Refuse what names this machine: an absolute path that exists here, its host name, USER@HOST.

    Looked at are the home, working and temporary folders, Python's own and those of its packages, and any other
    absolute path whose first two folders exist. A host name that is one plain word is not told from the word. Of
    weights only the names and texts around the numbers are looked at: the header of safetensors, the graph of ONNX,
    every text in the pickles of a `.pt` file, which is not opened for it.

    Args:
        content: the content of a file, or the path of a file or folder.
        name: how to name it in an error; its ending tells what content is.

    Raises:
        InputError: it holds one; the place and the words are named.
    """
    for place, text in _texts(content, name):
        found = trace_in(text)
        if found is not None:
            raise InputError(
                f"{place}: holds {found!r}, which names this machine and would leave it; take it out of what this was "
                "made from, and run again"
            )


def trace_in(text: str) -> str | None:
    """The first words of a text that name this machine; None if there are none."""
    for match in _PATH.finditer(text):
        if _is_of_this_machine(match.group()):
            return match.group()
    identity = _identity()
    named = identity.search(text) if identity is not None else None
    return None if named is None else named.group()


# --- what names this machine ------------------------------------------------------------------------------------------


def _is_of_this_machine(path: str) -> bool:
    plain = path.replace("\\\\", "\\").rstrip(".:!?")
    if any(plain == folder or plain.startswith((f"{folder}/", f"{folder}\\")) for folder in _folders()):
        return True
    parts = Path(plain).parts
    return len(parts) > 2 and parts[1] not in _COMMON and _exists(str(Path(*parts[:3])))


@functools.lru_cache(maxsize=4096)
def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except (OSError, ValueError):
        return False


def _folders() -> set[str]:
    """Folders of this machine, as they are named and as links resolve."""
    named = {tempfile.gettempdir(), sys.prefix, sys.base_prefix, *_of_packages()}
    with contextlib.suppress(RuntimeError):
        named.add(str(Path.home()))
    with contextlib.suppress(OSError):
        named.add(str(Path.cwd()))
    found = named | {os.path.realpath(each) for each in named}
    # /usr as a prefix is every machine's.
    return {each for each in found if len(Path(each).parts) > 1 and Path(each).parts[1:] != ("usr",)}


@functools.cache
def _of_packages() -> frozenset[str]:
    paths = {sysconfig.get_path(kind) for kind in ("purelib", "platlib", "stdlib")}
    return frozenset({each for each in paths if each} | {str(Path(__file__).parents[2])})


@functools.cache
def _identity() -> re.Pattern[str] | None:
    host = socket.gethostname()
    words = []
    with contextlib.suppress(KeyError, OSError, ImportError):  # a user without a name
        words.append(rf"{re.escape(getpass.getuser())}@{re.escape(host)}")
    if len(host) >= _SHORTEST_HOST and not host.isalpha():
        words.append(re.escape(host))
    return re.compile(rf"(?<![\w-])(?:{'|'.join(words)})(?![\w-])") if host and words else None


# --- the texts of a file ----------------------------------------------------------------------------------------------


def _texts(content: bytes | str | os.PathLike, name: str) -> Iterator[tuple[str, str]]:
    """Place and text of all that may be words in a file, or in the files of a folder."""
    if not isinstance(content, bytes) and Path(content).is_dir():
        for file in sorted(Path(content).rglob("*")):
            if file.is_file():
                yield from _texts(file, f"{name}/{file.relative_to(content).as_posix()}")
        return
    kind = Path(name).suffix.lower()
    if kind == ".safetensors":
        yield name, _safetensors_header(content)
    elif kind == ".onnx":
        yield from ((f"{name} ({place})", text) for place, text in _onnx_texts(content))
    elif kind == ".pt" and not isinstance(content, bytes):
        yield from _pickled_texts(Path(content), name)
    else:
        yield name, (content if isinstance(content, bytes) else Path(content).read_bytes()).decode("utf-8", "replace")


def _safetensors_header(content: bytes | str | os.PathLike) -> str:
    if isinstance(content, bytes):
        return content[8 : 8 + int.from_bytes(content[:8], "little")].decode("utf-8", "replace")
    with Path(content).open("rb") as file:
        return file.read(int.from_bytes(file.read(8), "little")).decode("utf-8", "replace")


def _onnx_texts(content: bytes | str | os.PathLike) -> Iterator[tuple[str, str]]:
    import onnx

    loaded = (
        onnx.load_from_string(content)
        if isinstance(content, bytes)
        else onnx.load(os.fspath(content), load_external_data=False)
    )
    yield from _message_texts(loaded, "model")


def _message_texts(message: Any, place: str) -> Iterator[tuple[str, str]]:
    """All texts of a protocol buffer, with the fields that they are in."""
    for field, value in message.ListFields():
        here = f"{place}.{field.name}"
        if field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING, field.TYPE_BYTES) or field.name == "raw_data":
            continue
        # Fields of one value and of many have the same type.
        for each in [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value:
            if field.type == field.TYPE_MESSAGE:
                yield from _message_texts(each, here)
            else:
                yield here, each if isinstance(each, str) else each.decode("utf-8", "replace")


def _pickled_texts(file: Path, name: str) -> Iterator[tuple[str, str]]:
    """All texts of a file of `torch.save`, read without running any of it."""
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            yield f"{name} (names of its parts)", member
            if member.endswith(".pkl"):
                for _, argument, _ in pickletools.genops(archive.read(member)):
                    if isinstance(argument, str | bytes):
                        text = argument if isinstance(argument, str) else argument.decode("utf-8", "replace")
                        if re.match(r"pathlib\b", text):
                            # Its folders are texts of their own, in which no path is recognised.
                            raise InputError(f"{name} ({member}): holds a pathlib.Path; expected plain texts alone")
                        yield f"{name} ({member})", text
            elif not _TENSORS.fullmatch(member):
                yield f"{name} ({member})", archive.read(member).decode("utf-8", "replace")
