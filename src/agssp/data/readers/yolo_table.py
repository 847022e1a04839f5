"""The tables of YOLO data: data.yaml, darknet's obj.data, and lists of class names such as classes.txt."""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from agssp.data.readers.listing import Listing, read_text
from agssp.data.readers.report import ReadReport
from agssp.data.readers.splits import split_named
from agssp.errors import InputError, StorageError
from agssp.parsing import parse_yaml

USUAL_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
MOST_CLASSES = 100_000
_LARGEST_TABLE = 2**24
_NAMES_SUFFIXES = (".names", ".labels")
_NOTHING = {"", "~", "null", "none"}
_CLIMB = re.compile(r"^(?:\.{1,2}/)+")


class _TextLoader(yaml.BaseLoader):
    """Keeps each scalar as the text in the file: YAML 1.1 takes yes and no for booleans, 007 and 1_0 for 7 and 10."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A dict; two entries of one key are an error, where YAML's usual loaders keep the last."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key occurs twice", node.start_mark)
        return mapping


@dataclass
class Table:
    """What a table says.

    Attributes:
        file: the table.
        names: of the classes by their number; empty where the table has none.
        count: the number of classes that it states, if it does.
        base: the folder that its paths are relative to, as it says (`path`), or "".
        splits: the entries of each split, by the split's name as the table spells it.
        keypoints: how many numbers for keypoints follow the box in a row; 0 where rows have none.
    """

    file: Path
    names: dict[int, str] = field(default_factory=dict)
    count: int | None = None
    base: str = ""
    splits: dict[str, list[str]] = field(default_factory=dict)
    keypoints: int = 0


def lists_names(name: str) -> bool:
    """Whether a file is a list of class names by its own name: classes.txt, obj.names, Roboflow's _darknet.labels."""
    own = posixpath.basename(name).lower()
    return own == "classes.txt" or own.endswith(_NAMES_SUFFIXES)


def find_tables(listing: Listing) -> list[str]:
    """Tables of YOLO data right in a folder, the one that is read first; lists of class names are not among them.

    A file of another name than data.yaml and dataset.yaml counts where it holds `names`, or `nc` and a split.
    """
    found = []
    for name in listing.with_suffix(".yaml", ".yml", ".data"):
        if "/" in name:
            continue
        is_usual = name.lower() in USUAL_NAMES
        try:
            content = _content(listing.path(name))
        except StorageError:
            raise
        except InputError:
            # A broken data.yaml is the user's table all the same, and is named when it is read.
            if is_usual:
                found.append(name)
            continue
        split = any(split_named(key) for key in content)
        if "backbone" not in content and ("names" in content or (split and (is_usual or "nc" in content))):
            found.append(name)
    ranks = {name: rank for rank, name in enumerate(USUAL_NAMES)}
    return sorted(found, key=lambda name: (name.lower().endswith(".data"), ranks.get(name.lower(), 9), name))


def choose_table(listing: Listing, report: ReadReport) -> str | None:
    """The table of a folder; None where there is none.

    Raises:
        InputError: there are several YAML files and none has a usual name.
    """
    found = find_tables(listing)
    if not found:
        return None
    alike = [name for name in found if not name.lower().endswith(".data")]
    if len(alike) > 1 and alike[0].lower() not in USUAL_NAMES:
        raise InputError(
            f"{listing.root}: expected one table of YOLO data, found {', '.join(alike)}; name the file itself, or call "
            "the right one data.yaml"
        )
    report.note_all("ignored_tables", [str(listing.path(name)) for name in found[1:]])
    return found[0]


def read_table(file: Path, listing: Listing, report: ReadReport) -> Table:
    """Read a data.yaml or an obj.data.

    Args:
        file: the table.
        listing: of the folder of the data.
        report: gets a note of classes that have no names.

    Raises:
        InputError: it is no such table, or contradicts itself; the file is named.
    """
    content = _content(file)
    names: Any = content.get("names")
    if file.suffix.lower() == ".data" and isinstance(names, str) and names:
        listed = find_file(listing, names, f"{file}: names", report, folders_of(listing, file))
        names = read_names(listing.path(listed))
    count = _count(content, file)
    table = Table(
        file,
        _names(names, file) if names is not None and not _is_nothing(names) else {},
        count,
        str(content.get("path") or ""),
        {key: entries for key in content if split_named(key) and (entries := _entries(content[key], key, file))},
        _keypoints(content, file),
    )
    if table.names and count is not None and count not in (len(table.names), max(table.names) + 1):
        raise InputError(
            f"{file}: says that there are {count} classes, but its names are {len(table.names)}: "
            f"{spell_classes(table.names)}"
        )
    if _is_nothing(table.base):
        table.base = ""
    return table


def read_names(file: Path) -> dict[int, str]:
    """Class names, one a line; the first line is class 0. A line without text leaves its class without a name.

    Raises:
        InputError: the file is no UTF-8 text, or a name occurs twice.
    """
    lines = read_text(file).rstrip().splitlines()
    return _unique({number: line.strip() for number, line in enumerate(lines)}, file)


def spell_classes(names: dict[int, str]) -> str:
    """Class names for a message: `dent, scratch`; with their numbers where these are not 0, 1, 2 ..."""
    gaps = list(names) != list(range(len(names)))
    told = [f"{number} {name}" if gaps else name for number, name in names.items()]
    return ", ".join(told[:20]) + (" ..." if told[20:] else "")


def find_file(
    listing: Listing,
    name: str,
    where: str,
    report: ReadReport,
    folders: Sequence[str] = ("",),
    *,
    alone: bool = False,
) -> str:
    """The file that an entry of a table or list means; as `Listing.find`, and `data/` may stand before it.

    Darknet's paths are relative to its program's folder, of which `data` holds the data, and labelling tools write that
    prefix also where the files lie beside the table.
    """
    text = name.strip().replace("\\", "/")
    for folder in folders:
        for short in (text, text.removeprefix("./"), text.removeprefix("./").removeprefix("data/")):
            place = posixpath.join(folder, short)
            if place in listing:
                return place
    return listing.find(name, where, report, folders, alone=alone)


def find_folder(listing: Listing, name: str, table: Table, where: str, report: ReadReport) -> str | None:
    """The folder that an entry of a table means, as its path below the data's folder; None where there is none.

    Args:
        listing: of the data's folder.
        name: the entry.
        table: whose `path` may still say where the data lay on the machine that wrote it.
        where: names the entry in the report.
        report: gets a note where only the end of another machine's path was found.
    """
    spelt = {folder.lower(): folder for folder in sorted(listing.folders)} | {".": ""}
    text = name.strip().replace("\\", "/")
    # Roboflow's entries begin with `../`, though its table lies right above them.
    short = _CLIMB.sub("", text)
    base = base_folder(listing, table)
    places = [] if base is None else [posixpath.join(base, text)]
    for place in (*places, text, short, short.removeprefix("data/")):
        inside = listing.inside(place) if posixpath.isabs(place) else posixpath.normpath(place)
        if inside in listing.folders:
            return inside
        if inside is not None and inside.lower() in spelt:
            return spelt[inside.lower()]
    parts = [part for part in text.split("/") if part]
    is_other_machines = text.startswith(("/", "../")) or ":" in parts[0]
    for start in range(1, len(parts)):
        may_begin = is_other_machines or parts[start - 1] == listing.root.absolute().name
        if may_begin and (end := "/".join(parts[start:]).lower()) in spelt:
            report.note("found_by_name", f"{where}: {name} is {spelt[end]}")
            return spelt[end]
    return None


def base_folder(listing: Listing, table: Table) -> str | None:
    """The folder that a table's `path` names, below the data's; None where that is elsewhere."""
    text = table.base.replace("\\", "/")
    inside = listing.inside(text) if posixpath.isabs(text) else posixpath.normpath(text)
    return "" if inside == "." else inside if inside in listing.folders else None


def folders_of(listing: Listing, file: Path) -> tuple[str, ...]:
    """Folders, below the data's, that the entries of a file may be relative to: its own, and the data's itself."""
    try:
        own = file.parent.relative_to(listing.root).as_posix()
    except ValueError:
        return ("",)
    return ("",) if own == "." else (own, "")


def _content(file: Path) -> dict[str, Any]:
    """Entries of a table; keys of `names`, `nc`, `path` and such in small letters, those of splits as they stand."""
    if file.is_file() and file.stat().st_size > _LARGEST_TABLE:
        raise InputError(f"{file}: expected a table of YOLO data, got {file.stat().st_size} bytes")
    text = read_text(file)
    content: Any = {}
    if file.suffix.lower() == ".data":
        for number, line in enumerate(text.splitlines(), 1):
            key, equals, value = line.partition("#")[0].partition("=")
            if line.partition("#")[0].strip():
                if not equals:
                    raise InputError(f"{file}:{number}: expected `key = value`, got {line.strip()[:80]!r}")
                content[key.strip()] = value.strip()
    else:
        content = parse_yaml(text, str(file), loader=_TextLoader)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{file}: expected a table with `names`, got {type(content).__name__}")
    return {key if split_named(key) else key.lower(): value for key, value in content.items()}


def _is_nothing(value: Any) -> bool:
    return not value or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def _names(names: Any, file: Path) -> dict[int, str]:
    if isinstance(names, list):
        names = dict(enumerate(names))
    expected = "expected `names`, the list of classes or a table of them by number,"
    if not isinstance(names, dict):
        raise InputError(f"{file}: {expected} got the text {names!r}; one class is `names: [{names}]`")
    numbered = {}
    for key, name in names.items():
        if not str(key).strip().isdecimal() or not isinstance(name, str):
            raise InputError(f"{file}: {expected} got {str(key)[:40]!r}: {str(name)[:40]!r}")
        numbered[int(key)] = name.strip()
    if len(numbered) != len(names):
        raise InputError(f"{file}: a class number occurs twice in `names`: {', '.join(map(str, names))}")
    return _unique(numbered, file)


def _unique(names: dict[int, str], file: Path) -> dict[int, str]:
    """Names in the order of their numbers, without empty ones."""
    kept = {number: names[number] for number in sorted(names) if names[number]}
    if len(set(kept.values())) != len(kept):
        raise InputError(f"{file}: a class name occurs twice in `names`: {', '.join(kept.values())}")
    return kept


def _count(content: dict[str, Any], file: Path) -> int | None:
    told = content.get("nc", content.get("classes"))
    if isinstance(told, list) or _is_nothing(told):
        return None
    try:
        count = float(str(told))
    except ValueError:
        count = -1.0
    if not (count.is_integer() and 0 < count <= MOST_CLASSES):
        raise InputError(f"{file}: expected the number of classes (`nc`), a whole number from 1 on, got {told!r}")
    return int(count)


def _entries(value: Any, key: str, file: Path) -> list[str]:
    entries = [] if _is_nothing(value) else value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise InputError(f"{file}: {key}: expected a folder, a list of folders or a .txt list, got {str(value)[:80]}")
    return [entry for entry in entries if not _is_nothing(entry)]


def _keypoints(content: dict[str, Any], file: Path) -> int:
    shape = content.get("kpt_shape")
    if _is_nothing(shape):
        return 0
    try:
        points, numbers = (int(value) for value in shape)  # type: ignore[union-attr]
    except (TypeError, ValueError):
        points, numbers = 0, 0
    if points < 1 or numbers not in (2, 3):
        raise InputError(f"{file}: expected kpt_shape = [number of keypoints, 2 or 3], got {shape!r}")
    return points * numbers
