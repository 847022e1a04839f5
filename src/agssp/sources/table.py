"""The table of public sources: one YAML file each, with licence, home page and layout."""

import difflib
import functools
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from agssp.data.readers.listing import read_text
from agssp.errors import InputError
from agssp.parsing import parse_yaml

PACKAGE = Path(__file__).parents[1]
# Of a wheel, else of a checkout.
FOLDERS = (PACKAGE / "datasets_scripts" / "sources", PACKAGE.parents[1] / "datasets_scripts" / "sources")
CORPUS = "corpus"
OWN_LINE = "own-line"
# How far below the given folder the layout may begin: archives often hold a folder or two of their own.
DEPTH = 3


@dataclass(frozen=True)
class Source:
    """One public data set.

    Attributes:
        name: what `agssp dataset build` calls it.
        title: its own name.
        home_page: where its owner distributes it.
        licence: of the images; `unknown` where the owner states none.
        redistribution: whether the licence lets the images be passed on.
        reason: why not, where not.
        citation: what to cite.
        download: what to fetch and what to unpack.
        layout: its folders, for people.
        layout_checked: whether the layout was seen in the owner's files or in more than one program that reads them.
        layout_source: what the layout rests on.
        expects: folders and files (patterns) by which the layout's root is known.
        files: which files are images, and what their names tell; see `agssp.sources.layout`.
        labels: where boxes and outlines are, beside masks; see `agssp.sources.labels`.
        names: what the source calls a class -> its name here; null drops it.
        category_names: what the source calls a category -> its name here.
        classes: classes of boxes, in label order; empty: those that occur, sorted.
        split: how images whose layout tells no split are divided: name of the second part -> its share.
        subset: `of` another source, `train` so many of its training images.
        smallest_component: px; smaller parts of a mask get no box.
        corpus: whether it belongs to the corpus for pretraining (METHOD 5).
        images: how many its owner gives; None where that is not known.
        paper_images: how many the paper counts.
        note: what else a user must know.
    """

    name: str
    title: str
    home_page: str | None = None
    licence: str = "unknown"
    redistribution: bool = False
    reason: str | None = None
    citation: str | None = None
    download: str = ""
    layout: str = ""
    layout_checked: bool = False
    layout_source: str = ""
    expects: list[str] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str | None] = field(default_factory=dict)
    category_names: dict[str, str] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    split: dict[str, float] = field(default_factory=dict)
    subset: dict[str, Any] = field(default_factory=dict)
    smallest_component: int = 10
    corpus: bool = False
    images: int | None = None
    paper_images: int | None = None
    note: str | None = None


@functools.cache
def sources() -> dict[str, Source]:
    """All sources of the table by name, sorted.

    Raises:
        InputError: a file of the table is malformed.
    """
    folder = next((place for place in FOLDERS if place.is_dir()), None)
    if folder is None:
        raise InputError(f"the table of sources was not found; looked in {' and '.join(map(str, FOLDERS))}")
    return {file.stem: read_source(file) for file in sorted(folder.glob("*.yaml"))}


def read_source(file: Path) -> Source:
    """Read one file of the table.

    Raises:
        InputError: it is no YAML table, lacks `name` or `title`, has an unknown key, or forbids redistribution without
            a reason.
    """
    content = parse_yaml(read_text(file), str(file))
    known = {entry.name for entry in fields(Source)}
    if not isinstance(content, dict) or not {"name", "title"} <= content.keys():
        raise InputError(f"{file}: expected a table with at least name and title")
    unknown = sorted(set(content) - known)
    if unknown:
        raise InputError(f"{file}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    source = Source(**content)
    if source.name != file.stem:
        raise InputError(f"{file}: its name is {source.name!r}; file and source must be called the same")
    if not source.redistribution and not source.reason:
        raise InputError(f"{file}: redistribution is false; expected a reason")
    return source


def find_source(name: str) -> Source:
    """The source of a name.

    Raises:
        InputError: there is none; near names are shown.
    """
    table = sources()
    if name not in table:
        near = difflib.get_close_matches(name, [*table, CORPUS], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`agssp dataset build --list` shows all"
        raise InputError(f"no source is called {name!r}; {hint}")
    return table[name]


def download_folder(source: Source, root: Path) -> Path | None:
    """Where a source's files begin, below `root/NAME`, `root/NAME of what it is a part of`, or `root` itself.

    Returns:
        The folder that holds what the source expects; None where there is no such folder.
    """
    names = [source.name, *([source.subset["of"]] if source.subset else [])]
    starts = [root / name for name in names if (root / name).is_dir()] or [root]
    expects = find_source(source.subset["of"]).expects if source.subset else source.expects
    return next((found for start in starts if (found := _layout_root(start, expects)) is not None), None)


def missing_folder(source: Source, root: Path) -> InputError:
    """The error that says what was expected of a source's folder, what is there, and where to get it."""
    whole = find_source(source.subset["of"]) if source.subset else source
    place = root / whole.name if (root / whole.name).is_dir() else root
    there = sorted(item.name for item in place.iterdir())[:8] if place.is_dir() else []
    return InputError(
        f"--root {root}: expected {', '.join(whole.expects)} of {whole.name} in {root / whole.name} or in {root} (or "
        f"up to {DEPTH - 1} folders further in); {place} holds {', '.join(there) or 'nothing'}. {whole.download} "
        f"Home page: {whole.home_page or 'none'}"
    )


def _layout_root(start: Path, expects: list[str]) -> Path | None:
    level = [start]
    for _ in range(DEPTH):
        for folder in level:
            if folder.is_dir() and all(any(folder.glob(pattern)) for pattern in expects):
                return folder
        level = [
            child for folder in level if folder.is_dir() for child in sorted(folder.iterdir())
            if child.is_dir() and not child.name.startswith(".")
        ]  # fmt: skip
    return None
