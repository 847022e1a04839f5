"""The files of a data set, listed once, and which of them a name in a table of labels means."""

import codecs
import json
import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from agssp.data.containment import Boundary, boundary_of, granted_folders
from agssp.data.encoded import missing_folder
from agssp.data.readers.folder_masks import find_masks
from agssp.data.readers.json_rows import load_rows
from agssp.data.readers.report import ReadReport
from agssp.errors import InputError, StorageError
from agssp.faults import raise_storage_fault
from agssp.parsing import check_size, is_too_deep

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".jp2"}
OTHER_PICTURES = {
    ".gif", ".heic", ".heif", ".avif", ".tga", ".dcm", ".raw", ".dng", ".cr2", ".nef", ".arw", ".pbm", ".pnm", ".jxl",
    ".exr", ".hdr", ".svg", ".psd",
}  # fmt: skip
MOST_HELD = 1024**2
"""Bytes of a JSON file that is held whole; larger ones take up to ten times their size as Python's objects."""
LONG_LISTS = ("images", "annotations")
"""Of COCO files."""
MOST_TEXT_BYTES = 256 * 1024**2
"""Of a file of text: a list of a million images, a table of run lengths."""
Found = TypeVar("Found")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DRIVE = re.compile(r"[A-Za-z]:")
# Label Studio puts eight hexadecimal digits before the name of a file that is uploaded.
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")


class Listing:
    """All files below a folder but the hidden ones, as they were when it was made; links are followed.

    Links that lead out of the folder are as `agssp.data.containment` says: `links` are those that were followed.

    Args:
        root: the folder.
        files: its files where they are known already, as `list_files` gives them.
        parsed: another listing, of a folder above or below: what it has parsed need not be parsed again.
    """

    def __init__(self, root: Path, files: Sequence[str] | None = None, parsed: "Listing | None" = None) -> None:
        self.root = root
        self.links: list[str] = []
        self.files = list_files(root, self.links) if files is None else list(files)
        self._parsed: dict[str, Any] = {} if parsed is None else parsed._parsed
        self._found: dict[Callable[[Listing], Any], Any] = {}

    @cached_property
    def images(self) -> list[str]:
        """Those that are images by their suffix."""
        return self.with_suffix(*IMAGE_SUFFIXES)

    @cached_property
    def masks(self) -> set[str]:
        """Those of the images that are masks, see `find_masks`."""
        return find_masks(self.images)

    @cached_property
    def folders(self) -> set[str]:
        """Posix paths of all folders that hold a file, at any depth."""
        found: set[str] = set()
        for name in self.files:
            folder = posixpath.dirname(name)
            while folder and folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
        return found

    @cached_property
    def _absolute(self) -> str:
        return self.root.absolute().as_posix()

    @cached_property
    def _present(self) -> dict[str, str]:
        """Each file by its name, which takes less memory than a set, and gives one text for all who keep the name."""
        return dict(zip(self.files, self.files, strict=True))

    @cached_property
    def _by_suffix(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.files:
            found[posixpath.splitext(name)[1].lower()].append(name)
        return found

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.files:
            found[composed(posixpath.basename(name)).lower()].append(name)
        return found

    @cached_property
    def _composed(self) -> dict[str, str]:
        """Files whose names are not plain ASCII, by their paths with composed letters."""
        return {composed(name): name for name in self.files if not name.isascii()}

    def __contains__(self, name: str) -> bool:
        return name in self._present

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Files whose suffix, in small letters, is one of these."""
        if len(suffixes) == 1:
            return self._by_suffix.get(suffixes[0], [])
        return sorted(name for suffix in suffixes for name in self._by_suffix.get(suffix, []))

    def named_like_images_first(self, suffix: str) -> list[str]:
        """Files of a suffix, those that have the name of an image beside them first."""
        stems = {posixpath.splitext(name)[0] for name in self.with_suffix(suffix)}
        named = {stem for name in self.images if stems and (stem := posixpath.splitext(name)[0]) in stems}
        return sorted(self.with_suffix(suffix), key=lambda name: posixpath.splitext(name)[0] not in named)

    def in_folder(self, folder: str) -> list[str]:
        """Files that lie right in a folder; `""` is the root."""
        return [name for name in self.files if posixpath.dirname(name) == folder]

    def below(self, folder: str) -> "Listing":
        """The listing of a folder of this one."""
        if not folder:
            return self
        prefix = folder + "/"
        files = [name[len(prefix) :] for name in self.files if name.startswith(prefix)]
        return Listing(self.root / folder, files, parsed=self)

    def path(self, name: str) -> Path:
        """Where a file of the listing lies."""
        return self.root / name

    def json(self, name: str) -> Any:
        """Content of a JSON file, parsed once; None where it is no JSON.

        Of one over `MOST_HELD` bytes the lists under `LONG_LISTS` are `JsonRows`, whose rows are not held. Of the
        picture that labelme puts into its files as `imageData` only remains whether there is one.
        """
        path = posixpath.join(self._absolute, name)
        if path not in self._parsed:
            try:
                with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (as fast as can be, for each of many files)
                    is_large = os.fstat(file.fileno()).st_size > MOST_HELD
                    content = None if is_large else json.loads(file.read())
                content = load_rows(path, LONG_LISTS) if is_large else content
                content = None if is_too_deep(content) else content
            except (ValueError, RecursionError):
                content = None
            if isinstance(content, dict) and "imageData" in content:
                # Kept, the pictures of a whole data set would lie in memory.
                content["imageData"] = bool(content["imageData"])
            self._parsed[path] = content
        return self._parsed[path]

    def once(self, find: Callable[["Listing"], Found]) -> Found:
        """What a function finds in this listing; it is called once only, however often it is asked for."""
        if find not in self._found:
            self._found[find] = find(self)
        return self._found[find]

    def forget_json(self) -> None:
        """Free the memory of all parsed JSON; what is asked for once more is parsed anew."""
        self._parsed.clear()

    def find(
        self, name: str, where: str, report: ReadReport, folders: Sequence[str] = ("",), *, alone: bool = False
    ) -> str:
        """The file that a name in a table of labels means.

        It is looked for where the name says, below each of some folders; then, for an absolute path or address, below
        this folder itself; and then by the file's own name, where that is unique: of several files of that name the
        one counts whose folders agree with the name's last ones more than those of all others. Back-slashes, addresses
        (`file://`, `?d=`) and their escapes are understood. What was found by its own name is noted.

        Args:
            name: as the table says.
            where: names the entry in errors and the report.
            report: gets a note where the name was not right as it stands.
            folders: that the name may be relative to, as posix paths below the root.
            alone: whether the table has no other image. Then a file's own name is no proof, and a folder of the path
                must agree, too.

        Returns:
            The posix path below the root: never a file outside of it.

        Raises:
            InputError: there is no such file, or there are several and nothing tells which; they are named.
        """
        for folder in folders:
            direct = posixpath.join(folder, name)
            if direct in self._present:
                return self._present[direct]
        plain = _as_path(name)
        for text in dict.fromkeys((plain, unquote(plain))):
            inside = self.inside(text)
            for folder in folders:
                place = posixpath.normpath(posixpath.join(folder, inside or text))
                if place in self._present:
                    return self._present[place]
                if not place.isascii() and composed(place) in self._composed:
                    return self._composed[composed(place)]
            if inside is not None and inside in self._present:
                return self._present[inside]
            if found := self._by_own_name(text, name, where, alone):
                report.note("found_by_name", f"{where}: {name} is {found}")
                return found
        climbs = plain.startswith(("/", "..")) or _DRIVE.match(plain) or "/../" in plain
        outside = "; the name points outside of that folder, and no file of its own name lies in it" if climbs else ""
        raise InputError(f"{where}: names {name!r}, but there is no such file in {self.root}{outside}")

    def inside(self, text: str) -> str | None:
        """An absolute path relative to this folder, where it lies in it."""
        if not posixpath.isabs(text):
            return None
        for root in (self.root.absolute(), self.root.resolve()):
            relative = posixpath.relpath(posixpath.normpath(text), root.as_posix())
            if not relative.startswith(".."):
                return relative
        return None

    def _by_own_name(self, text: str, name: str, where: str, alone: bool) -> str | None:
        parts = [part for part in text.split("/") if part not in ("", ".", "..") and not _DRIVE.fullmatch(part)]
        if not parts:
            return None
        own = composed(parts[-1]).lower()
        candidates = self._by_name.get(own) or self._by_name.get(_UPLOADED.sub("", own, count=1)) or []
        agreeing = {file: _common_folders(file, parts) for file in candidates}
        best = [file for file in candidates if agreeing[file] == max(agreeing.values())]
        if len(best) > 1:
            raise InputError(
                f"{where}: names {name!r}, which is not there, and several files of {self.root} have that name: "
                f"{', '.join(best[:3])}{' ...' if best[3:] else ''}; write the path below that folder into the table"
            )
        if best and alone and not agreeing[best[0]]:
            raise InputError(
                f"{where}: names {name!r}, which points outside of {self.root} or to nothing in it; {best[0]} has the "
                "same name, but for the only image of a table that is no proof: write its path below that folder there"
            )
        return best[0] if best else None


def composed(name: str) -> str:
    """A name with each letter and its accents as one character; macOS and its archives keep them apart."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def plain_stem(stem: str) -> str:
    """What is left of the stem of a file of labels or an image when tools have spelt it in their own ways.

    Capitals, escapes (`%20`), letters whose accents stand apart, Label Studio's eight digits before the name, and the
    suffix of the image that stands before that of the labels (`a.jpg.txt`) do not count.
    """
    text = composed(unquote(stem)).casefold()
    own = _UPLOADED.sub("", text, count=1)
    short, suffix = posixpath.splitext(own)
    return short if suffix in IMAGE_SUFFIXES else own


def locate_table(file: Path) -> tuple[Listing, str]:
    """The folder that a table of labels given by itself belongs to, and the table's name below it.

    That is the folder it lies in; the one above where no image lies there and it is called `annotations`.
    """
    inside = Listing(file.parent)
    if inside.images or file.absolute().parent.name.lower() not in ("annotations", "annotation", "labels"):
        return inside, file.name
    return Listing(file.absolute().parent.parent), f"{file.absolute().parent.name}/{file.name}"


def _common_folders(file: str, parts: Sequence[str]) -> int:
    """How many of the last folders of both agree."""
    count = 0
    for mine, other in zip(reversed(file.split("/")[:-1]), reversed(parts[:-1]), strict=False):
        if mine.lower() != other.lower():
            break
        count += 1
    return count


def _as_path(name: str) -> str:
    """A name with slashes; of an address its path, or the file that its query names."""
    text = name.strip().replace("\\", "/")
    if _SCHEME.match(text) or "?d=" in text:
        try:
            address = urlsplit(text)
        except ValueError:
            return text
        asked = parse_qs(address.query).get("d", [])
        return asked[0].replace("\\", "/") if asked else unquote(address.path)
    return text


def list_files(root: Path, links: list[str] | None = None) -> list[str]:
    """Posix paths, relative to the root, of all files below it, sorted; hidden ones are left out, links followed.

    Args:
        root: the folder.
        links: gets the links to folders elsewhere that were followed, with where they lead.

    Raises:
        InputError: a link leads out of the folder that may not, see `agssp.data.containment`.
        StorageError: a folder cannot be read now, or a link leads to a place that is gone, as a share may be.
    """
    found: list[str] = []
    seen: set[str] = set()
    boundary: Boundary | None = None
    waiting = [(os.fspath(root), "")]
    while waiting:
        folder, prefix = waiting.pop()
        for entry in _entries(folder):
            if entry.name.startswith("."):
                continue
            is_folder = _is_folder(entry)
            if entry.is_symlink():
                link = Path(os.path.abspath(entry.path))  # noqa: PTH100 (of a link the link itself)
                if is_folder and not _first_visit(root, Path(entry.path), seen):
                    continue
                boundary = Boundary(root) if boundary is None else boundary
                if _leads_to_nothing(link) and not boundary.holds(link):
                    raise StorageError(
                        f"{link}: is a link to {os.path.realpath(link)}, whose folder is not there; if that is on "
                        "another disk or a network share, see to it that it is there, else take the link away"
                    )
                if boundary.check_link(link, is_folder=is_folder) and links is not None:
                    links.append(f"{link} (to {os.path.realpath(link)})")
            if is_folder:
                waiting.append((entry.path, f"{prefix}{entry.name}/"))
            else:
                found.append(prefix + entry.name)
    return sorted(found)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        # What lies in a folder that cannot be read now is not absent; one that never can be, as lost+found, is passed.
        raise_storage_fault(error, folder)
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise_storage_fault(error, entry.path)
        return False


def _leads_to_nothing(link: Path) -> bool:
    return not os.path.exists(link) and missing_folder(link) is not None  # noqa: PTH110 (as fast as can be)


def _first_visit(root: Path, folder: Path, seen: set[str]) -> bool:
    """Whether a folder is none of two links to one place, nor a link back to a folder that it lies in."""
    if not folder.is_symlink():
        return True
    real = os.path.realpath(folder)
    above = [folder.parent, *folder.parent.parents]
    # Such a link would be walked for ever, or give the files on the way once more under other names.
    leads_back = any(
        Path(os.path.realpath(place)).is_relative_to(real) for place in above if place.is_relative_to(root)
    )
    if real in seen or leads_back:
        return False
    seen.add(real)
    return True


def find_images(root: Path) -> list[Path]:
    """All image files below a folder, told by their suffix, hidden ones left out, sorted by their path."""
    listing = Listing(root)
    return [listing.path(name) for name in listing.images]


def read_text(file: Path | str, most: int = MOST_TEXT_BYTES, remedy: str = "") -> str:
    """Text of a UTF-8 file, with or without a byte order mark, or of a UTF-16 file with one; line ends become a \\n.

    Args:
        file: its path.
        most: bytes that it may have.
        remedy: what to do about a larger one, for the message.

    Raises:
        InputError: the file is in another encoding, and is named with the position; or it is too large, or cannot be
            opened.
    """
    try:
        check_size(file, most, "text", remedy=remedy)
        with open(file, "rb") as opened:  # noqa: PTH123 (a path would be taken apart first, for each of many files)
            text = decode_text(opened.read())
    except OSError as error:
        raise_storage_fault(error, file)
        raise InputError(f"{file}: cannot be opened: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: expected UTF-8 text, or UTF-16 with a byte order mark: {error}; save it in UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def decode_text(content: bytes, errors: str = "strict") -> str:
    """Text of a file by its byte order mark: UTF-16 or UTF-8; without one UTF-8.

    Args:
        content: of the file.
        errors: as `bytes.decode` takes it.
    """
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf16 else "utf-8-sig", errors)


def path_inside(root: Path, name: str, where: str) -> Path:
    """The path of a file named in a table, which must lie inside the table's folder.

    Links on the way are as in `agssp.data.containment`.

    Raises:
        InputError: the name is empty, absolute or climbs out of the folder, or a link on its way leads out.
    """
    text = name.replace("\\", "/")
    relative = posixpath.normpath(text)
    leads_out = relative.startswith(("/", "..")) or any(part.endswith(":") for part in relative.split("/"))
    if not text.strip() or relative == "." or leads_out or "\0" in name:
        raise InputError(f"{where}: {name!r} points outside of {root}; expected a path relative to that folder")
    path = root / relative
    boundary = boundary_of(Path(os.path.abspath(root)), granted_folders())  # noqa: PTH100 (of a link the link itself)
    boundary.check_path(boundary.root / relative, where)
    return path
