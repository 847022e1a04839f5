"""What a data set may reach: its own folder, and what the user has opened to it; not the rest of this machine.

Tables of labels and links come with data sets of other people. A name or a link in them that leads out of the data
set's folder would bring files into training, and onto the Hub, that nobody meant to give. So:

- Files are those below the folder, wherever it lies itself: that the user names a link to it is the user's word.
- A link in it to a file elsewhere is refused.
- A link in it to a folder elsewhere, as to another disk, is followed, and told; but where it came with a repository
  (git tracks it, or it lies in the Hub's cache) it is refused.
- The stores of a repository's files count as its own: the Hub's `blobs`, git-annex's objects, DVC's cache.
- `AGSSP_DATA_FOLDERS`, folders apart by `:` (`;` on Windows), names further folders that may be reached.
"""

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agssp.errors import InputError

FOLDERS_VARIABLE = "AGSSP_DATA_FOLDERS"
_STORES = (".git/annex/objects", ".dvc/cache")
_LARGEST_INDEX = 256 * 1024**2
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


class Boundary:
    """The folders that a data set may reach.

    Args:
        root: the data set's folder.
        others: further folders that are its own.
    """

    def __init__(self, root: str | os.PathLike, others: Sequence[str | os.PathLike] = ()) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 (of a link the link itself)
        self._good: set[str] = set()
        self._inside = [os.path.realpath(place) for place in (root, *others, *_own_stores(self.root), *_granted())]

    def add(self, folder: str | os.PathLike) -> None:
        """Let one more folder be reached."""
        self._inside.append(os.path.realpath(folder))

    def holds(self, place: str | os.PathLike) -> bool:
        """Whether a place lies in one of the folders, all links followed."""
        return _lies_in(os.path.realpath(place), self._inside)

    def check_link(self, link: Path, *, is_folder: bool) -> bool:
        """Whether a link leads to a folder elsewhere that may be followed; false for one that leads to a place inside.

        Args:
            link: below the root.
            is_folder: whether a folder is where it leads to.

        Raises:
            InputError: it leads out, and is to a file, or came with a repository.
        """
        if self.holds(link):
            return False
        if is_folder and not is_delivered(link):
            self.add(link)
            return True
        target = os.path.realpath(link)
        folder = target if is_folder else os.path.dirname(target)  # noqa: PTH120 (not to be looked at)
        came = "came with the repository and " if is_folder else ""
        raise InputError(
            f"{link}: is a link that {came}leads out of {self.root}, to {target}, which a data set may not; put the "
            f"{'folder' if is_folder else 'file'} itself there, or, if you have made the link, allow it: "
            f"{FOLDERS_VARIABLE}={folder}"
        )

    def check_path(self, path: Path, where: str) -> None:
        """Refuse a path that leads out of the root by the links on its way.

        Args:
            path: below the root by its name.
            where: names who says so in errors.

        Raises:
            InputError: as `check_link`.
        """
        folder = str(path.parent)
        if folder in self._good and not path.is_symlink():
            return
        if self.holds(path):
            if self.holds(folder):
                self._good.add(folder)
            return
        below = path.relative_to(self.root).parts if path.is_relative_to(self.root) else ()
        for count in range(1, len(below) + 1):
            place = self.root.joinpath(*below[:count])
            if place.is_symlink():
                self.check_link(place, is_folder=count < len(below))
        if not self.holds(path):
            raise outside(where, str(path), self.root)


class TableFiles:
    """Where the images of a table may lie that names them by their paths instead of holding them.

    A table that the user of this machine has made, as `datasets` writes one of a folder of images, may name these by
    their absolute paths: pictures alone, which are told, and never published from there.

    Args:
        source: the table as the user named it: a file, a folder, or a repository of the Hub.
        is_hub: whether it is the Hub's.

    Attributes:
        outside: the pictures outside of its folder that it has named so far.
    """

    def __init__(self, source: str, *, is_hub: bool = False) -> None:
        self.source, self.is_hub = source, is_hub
        path = Path(source)
        others: list[Path] = []
        if is_hub:
            from datasets import config
            from huggingface_hub import constants

            path = Path(constants.HF_HUB_CACHE, "datasets--" + source.replace("/", "--"))
            # What `datasets` fetched or unpacked itself.
            others = [Path(config.DOWNLOADED_DATASETS_PATH), Path(config.EXTRACTED_DATASETS_PATH)]
        elif path.is_file():
            path = path.parent
        self.boundary = Boundary(path, others)
        self.outside: dict[str, None] = {}
        self._is_own = not is_hub and "://" not in source and not is_delivered(Path(source))

    def place(self, name: str) -> str:
        """Where the image lies that a table names: an absolute path, or an address.

        Args:
            name: as the table says; relative to the table's folder.

        Raises:
            InputError: it lies outside of the table's folder (and is no picture, or the table came with a repository or
                names it by a relative path), or is an address of anything but the table's own place.
        """
        if "::" in name or _SCHEME.match(name):
            self._check_address(name)
            return name
        path = Path(os.path.normpath(self.boundary.root / name))
        if self._is_own and Path(name).is_absolute() and not self.boundary.holds(path) and _is_picture(path):
            self.outside[str(path)] = None
        else:
            self.boundary.check_path(path, self.source)
        return str(path)

    def _check_address(self, name: str) -> None:
        parts = name.split("/")
        own = f"hf://datasets/{self.source}"
        if "::" not in name and not {"..", "."} & set(parts):
            if self.is_hub and (name.startswith((f"{own}/", f"{own}@"))):
                return
            asked = urlsplit(self.source)
            if asked.scheme == "https" and urlsplit(name)[:2] == asked[:2]:
                return
        raise InputError(
            f"{self.source}: names an image by the address {name!r}; of a table only the images of its own repository "
            "are fetched. Put the images' bytes into the table, or read it without --streaming"
        )


def _is_picture(path: Path) -> bool:
    from agssp.data.images import ImageError, image_size

    try:
        image_size(path, str(path))
    except ImageError:
        return False
    return True


def outside(where: str, name: str, root: str | os.PathLike) -> InputError:
    """The error that a table names a file outside of its folder."""
    return InputError(
        f"{where}: names {name}, which lies outside of {root}; a table may not bring in other files of this machine. "
        f"Put the images' bytes into it, or, if the table is your own, allow the folder: "
        f"{FOLDERS_VARIABLE}={os.path.dirname(name)}"  # noqa: PTH120 (not to be looked at)
    )


@lru_cache(maxsize=64)
def boundary_of(root: Path, granted: str) -> Boundary:
    """The boundary of a folder, made once; `granted` is what `AGSSP_DATA_FOLDERS` says."""
    return Boundary(root)


def granted_folders() -> str:
    """What the user has opened to all data sets, as `AGSSP_DATA_FOLDERS` says."""
    return os.environ.get(FOLDERS_VARIABLE, "")


def is_delivered(path: Path) -> bool:
    """Whether a link or file came with a repository rather than from the user of this machine.

    That is what git tracks, in the nearest work tree, and what lies in the Hub's cache.
    """
    folder = Path(os.path.realpath(path.parent))
    for place in (folder, *folder.parents):
        if _is_snapshot(place):
            return True
        git = place / ".git"
        if os.path.lexists(git):
            return _is_tracked(git, path.name)
    return False


def _is_snapshot(place: Path) -> bool:
    return place.parent.name == "snapshots" and (place.parent.parent / "blobs").is_dir()


def _is_tracked(git: Path, name: str) -> bool:
    """Whether git's index may hold a file of this name; git itself, which may run programs, is not asked."""
    try:
        if git.is_file():
            git = git.parent / git.read_text(encoding="utf-8").partition(":")[2].strip()
        index = git / "index"
        if not index.exists():
            return False
        if index.stat().st_size > _LARGEST_INDEX:
            return True
        content = index.read_bytes()
    except (OSError, ValueError):
        return True
    # The fourth form shortens names.
    return content[4:8] == b"\0\0\0\4" or os.fsencode(name) + b"\0" in content


def _own_stores(root: Path) -> list[Path]:
    """Where the repository that a folder is of keeps the contents of its files."""
    real = Path(os.path.realpath(root))
    for place in (real, *real.parents):
        if _is_snapshot(place):
            return [place.parent.parent]
        stores = [place / store for store in _STORES if (place / store).is_dir()]
        if stores:
            return stores
    return []


def _granted() -> list[str]:
    return [folder for folder in granted_folders().split(os.pathsep) if folder]


def _lies_in(place: str, folders: Sequence[str]) -> bool:
    return any(place == folder or place.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def named_place(files: TableFiles, value: dict[str, Any] | None) -> str | None:
    """The path or address of an image value that holds no bytes; None for one that does, or has no path either.

    Raises:
        InputError: as `TableFiles.place`.
    """
    if value is None or value.get("bytes") is not None or not value.get("path"):
        return None
    return files.place(value["path"])
