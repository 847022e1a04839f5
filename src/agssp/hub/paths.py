"""Takes the machine's paths out of what is published: names of files stay, where they lie does not."""

import re
import shlex
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

# A path inside a sentence: behind a space, a quote, a bracket, `=` or `:`, up to the next of them. A URL has `://`.
_IN_TEXT = re.compile(
    r"""(?:(?<=[\s'"`=(\[{,])|(?<=[\w-]:)(?=/[^/])|^)(?:file://)?(?:/|~/|[A-Za-z]:[\\/]|\\\\)[^\s'"`)\]},;]+"""
)
_PREFIXES = ("local-dir:", "file://")


def is_machine_path(text: str) -> bool:
    """Whether a whole text is an absolute path, of this or another system, or one from somebody's home folder."""
    bare = _bare(text)
    return (PurePosixPath(bare).is_absolute() or PureWindowsPath(bare).is_absolute() or bare.startswith("~/")) and (
        len(bare) > 1
    )


def without_paths(value: Any) -> Any:
    """A copy of JSON values in which every absolute path is its last part alone.

    Args:
        value: dictionaries, lists and plain values; also keys are looked at. A text may be a path, a command line or a
            sentence with paths in it.
    """
    known = sorted(_whole_paths(value), key=len, reverse=True)
    return _strip(value, known)


def _strip(value: Any, known: list[str]) -> Any:
    if isinstance(value, dict):
        return {_strip(key, known): _strip(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strip(item, known) for item in value]
    return _strip_text(value, known) if isinstance(value, str) else value


def _strip_text(text: str, known: list[str]) -> str:
    if is_machine_path(text) and "\n" not in text and (text in known or " " not in text):
        return _last_part(text)
    if text.startswith("agssp "):
        words = _words(text)
        if words is not None:
            return shlex.join(_word(word) for word in words)
    # Known ones first: they may hold spaces, at which the pattern would stop.
    for path in known:
        text = text.replace(path, _last_part(path))
    return _strip_in_text(text)


def _strip_in_text(text: str) -> str:
    return _IN_TEXT.sub(lambda match: _last_part(match.group()), text)


def _whole_paths(value: Any) -> set[str]:
    """Texts that are paths as a whole, at most one line long."""
    if isinstance(value, dict):
        return set().union(*map(_whole_paths, value.values()), set())
    if isinstance(value, list | tuple):
        return set().union(*map(_whole_paths, value), set())
    if isinstance(value, str) and value.startswith("agssp "):
        return {word for word in _words(value) or () if is_machine_path(word)}
    return {value} if isinstance(value, str) and is_machine_path(value) and "\n" not in value else set()


def _word(word: str) -> str:
    """One word of a command line: a path, or a flag with one behind `=`."""
    flag, sign, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return flag + sign + (_last_part(value) if is_machine_path(value) else _strip_in_text(value))


def _words(command: str) -> list[str] | None:
    try:
        return shlex.split(command)
    except ValueError:
        return None


def _bare(text: str) -> str:
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    return text


def _last_part(text: str) -> str:
    prefix = next((each for each in _PREFIXES if text.startswith(each) and each != "file://"), "")
    bare = _bare(text).rstrip("/\\")
    windows = "\\" in bare or PureWindowsPath(bare).drive
    path: PurePath = PureWindowsPath(bare) if windows else PurePosixPath(bare)
    return prefix + (path.name or "folder")
