"""JSON, YAML and journals, read back; or it is said what is wrong with the file, and what to do."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agssp.errors import InputError
from agssp.faults import PASSING

logger = logging.getLogger(__name__)

MOST_JSON_BYTES = 256 * 1024**2
"""Of a JSON file of settings, facts or results; labels may be larger and say so themselves."""
MOST_YAML_BYTES = 4 * 1024**2
MOST_YAML_VALUES = 200_000
"""That a YAML file may hold, those that it repeats by `*NAME` counted as often as they stand there."""
MOST_DEPTH = 100
"""Of lists and tables in one another; what goes through them afterwards need not fear for Python's stack."""


def check_size(path: str | os.PathLike, most: int, kind: str, *, remedy: str = "", name: str = "") -> None:
    """Refuse a file that is too large to be read into memory.

    Args:
        path: of the file.
        most: bytes that it may have.
        kind: what it holds, for the message, such as `JSON`.
        remedy: what to do about it, for the message.
        name: of the file in errors; default: its path.

    Raises:
        InputError: it is larger; file, size and limit are named.
        OSError: it cannot be looked at.
    """
    if (size := os.stat(path).st_size) > most:  # noqa: PTH116 (as fast as can be, for each of many files)
        raise InputError(f"{name or path}: {size:,} bytes of {kind}; expected {most:,} at most{_and(remedy)}")


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
        check_size(path, MOST_JSON_BYTES, "JSON", remedy=remedy)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file{_and(remedy)}") from error
    except OSError as error:
        if error.errno in PASSING:
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


_CONTAINERS = frozenset((dict, list))


def is_too_deep(value: Any) -> bool:
    """Whether what JSON says has lists and tables in one another to more than `MOST_DEPTH` levels."""
    level = [value] if type(value) in (dict, list) else []
    for _ in range(MOST_DEPTH):
        level = [
            part
            for outer in level
            for part in (outer.values() if type(outer) is dict else outer)
            if type(part) in _CONTAINERS
        ]
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
        check_size(path, MOST_YAML_BYTES, "YAML", name=name)
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: expected YAML in UTF-8: {error}; save it so") from error
    except OSError as error:
        if error.errno in PASSING:
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
