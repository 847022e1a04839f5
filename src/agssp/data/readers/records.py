"""What every reader gives, one record an image, and how records become a data set."""

import difflib
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import Dataset

from agssp.data.images import ImageError, image_size
from agssp.data.schema import features
from agssp.errors import InputError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".jp2"}
SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")
PLAIN_FOLDERS = {"images", "jpegimages", "image", "img", "annotations", "unlabelled", "unlabeled", *SPLIT_FOLDERS}


@dataclass
class Box:
    """One labelled box: COCO xywh in absolute px, the name of its class, and whether it is a crowd region."""

    bbox: tuple[float, float, float, float]
    defect_type: str
    score: float = 1.0
    iscrowd: bool = False


@dataclass
class ImageRecord:
    """One image of a data set, not opened yet; `boxes` is None where they are not known, which is not to have none."""

    path: Path
    image_id: str
    category: str
    is_normal: bool | None = None
    mask: Path | None = None
    boxes: list[Box] | None = None


@dataclass
class ReadReport:
    """What a reader changed or left out, by name: the label line, annotation file or image concerned.

    `sentences` are of the whole data set, and whole already.
    """

    clipped: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def share(self, owners: dict[Path, list[str]]) -> None:
        """Note the annotation files that more than one image got its boxes from."""
        self.shared += [f"{file} ({', '.join(ids)})" for file, ids in sorted(owners.items()) if len(ids) > 1]

    def lines(self) -> list[str]:
        """One sentence for each kind of change that happened: how many, and the first few names."""
        kinds = (
            ("boxes reached beyond their image and were clipped", self.clipped),
            ("boxes have no area inside their image and were dropped", self.dropped),
            ("labelled images cannot be opened; their boxes were left out", self.damaged),
            ("images are not in metadata.jsonl and were left out", self.unlisted),
            ("annotation files have no image and were left out", self.orphans),
            ("annotation files belong to more than one image, which all got their boxes", self.shared),
        )
        lines = [
            f"{len(names)} {what}: {', '.join(names[:3])}{' ...' if names[3:] else ''}"
            for what, names in kinds
            if names
        ]
        return lines + self.sentences

    def log(self, source: str) -> None:
        """Warn of each kind of change once."""
        for line in self.lines():
            logger.warning("%s: %s", source, line)


def list_files(root: Path) -> list[str]:
    """Posix paths, relative to the root, of all files below it, sorted; hidden ones are left out, links followed."""
    found = []
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = [
            name for name in subfolders if not name.startswith(".") and _first_visit(root, Path(folder) / name, seen)
        ]
        prefix = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if prefix == "." else prefix + "/"
        found += [prefix + name for name in names if not name.startswith(".")]
    return sorted(found)


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
    return [root / name for name in list_files(root) if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]  # noqa: PTH122


def read_text(file: Path) -> str:
    """Text of a UTF-8 file, with or without a byte order mark.

    Raises:
        InputError: the file is not UTF-8; it is named with the position.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: expected UTF-8 text: {error}") from error


def path_inside(root: Path, name: str, where: str) -> Path:
    """The path of a file named in a table, which must lie inside the table's folder.

    Links inside the folder are the user's own and may lead anywhere; only the name is judged.

    Raises:
        InputError: the name is empty, absolute or climbs out of the folder.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    depth = 0
    for part in relative.parts:
        depth += -1 if part == ".." else 1
        if depth < 0 or part.endswith(":"):
            depth = -1
            break
    if not relative.parts or relative.is_absolute() or depth < 0 or "\0" in name:
        raise InputError(f"{where}: {name!r} points outside of {root}; expected a path relative to that folder")
    return root / os.path.normpath(relative)


def folder_category(root: Path) -> str:
    """The object category that a folder's name tells: its own, or that of the one above `images`, `train` and such."""
    for folder in (root.absolute(), *root.absolute().parents):
        if folder.name and folder.name.lower() not in PLAIN_FOLDERS:
            return folder.name
    return root.absolute().name or "object"


def readable_size(image: Any, report: ReadReport, name: str | None = None) -> tuple[int, int] | None:
    """Upright (width, height) of an image from its header; None, and a line in the report, if it is damaged.

    One damaged image must not keep the others from being read: it is skipped, and counted, where it is decoded.

    Args:
        image: a path, or any other image that `image_size` takes.
        report: gets a line if the image is damaged.
        name: how to name the image there; default: its path.
    """
    try:
        return image_size(image, name or str(image))
    except ImageError as error:
        report.damaged.append(str(error))
        return None


def clean_box(
    box: Box, width: float, height: float, where: str, report: ReadReport, *, tolerance: float = 0.5
) -> Box | None:
    """Clip a box to its image, or drop it when nothing is left.

    Args:
        box: COCO xywh in px.
        width: of the image in px.
        height: of the image in px.
        where: names the box in the report.
        report: gets a line for each box that was changed.
        tolerance: overhang in px that is clipped without a word (rounding in annotation tools).

    Returns:
        The box inside the image, or None if its area there is zero or it is not finite.
    """
    x, y, w, h = box.bbox
    if not all(map(math.isfinite, box.bbox)):
        report.dropped.append(where)
        return None
    left, top = min(max(x, 0.0), width), min(max(y, 0.0), height)
    right, bottom = min(max(x + w, 0.0), width), min(max(y + h, 0.0), height)
    if not (right - left > 0 and bottom - top > 0):
        report.dropped.append(where)
        return None
    if max(left - x, top - y, x + w - right, y + h - bottom) > tolerance:
        report.clipped.append(where)
    return Box((left, top, right - left, bottom - top), box.defect_type, box.score, box.iscrowd)


def check_names(found: Sequence[str], expected: Sequence[str], where: str, what: str = "class") -> None:
    """Raise unless all names are among those expected.

    Raises:
        InputError: a name is not in the list; near names are shown.
    """
    for name in found:
        if name not in expected:
            near = difflib.get_close_matches(name, expected, n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise InputError(f"{where}: unknown {what} {name!r}, expected one of {', '.join(expected)}{hint}")


def to_dataset(
    records: Sequence[ImageRecord],
    source: str,
    defect_types: Sequence[str] | None = None,
) -> Dataset:
    """Bring records to the schema.

    Args:
        records: one an image; ids must be unique.
        source: names the data set in errors.
        defect_types: order of the box classes; default: the names that occur, sorted.

    Returns:
        A data set with `image` (still encoded), `image_id`, `category`, `is_normal`, and `mask` and `objects` where any
        record has them; `objects` is null where they are not known.

    Raises:
        InputError: no records, two with one id, or a class that is not in `defect_types`.
    """
    if not records:
        raise InputError(f"{source}: no images found; expected files with {', '.join(sorted(IMAGE_SUFFIXES))}")
    ids = [record.image_id for record in records]
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InputError(f"{source}: two images have the id {twice!r}; ids must be unique")
    labelled = any(record.boxes is not None for record in records)
    categories = sorted({record.category for record in records})
    category_index = {name: index for index, name in enumerate(categories)}

    columns: dict[str, list[Any]] = {
        "image": [{"path": str(record.path.absolute()), "bytes": None} for record in records],
        "image_id": ids,
        "category": [category_index[record.category] for record in records],
        "is_normal": [record.is_normal for record in records],
    }
    masks = any(record.mask is not None for record in records)
    if masks:
        columns["mask"] = [record.mask and {"path": str(record.mask.absolute()), "bytes": None} for record in records]
    names = None
    if labelled:
        types = {box.defect_type: record.image_id for record in records for box in record.boxes or []}
        names = list(defect_types if defect_types is not None else sorted(types))
        for name, image_id in types.items():
            check_names([name], names, f"{source}: {image_id}")
        index = {name: position for position, name in enumerate(names)}
        columns["objects"] = [
            None
            if record.boxes is None and not record.is_normal
            else {
                "bbox": [list(box.bbox) for box in record.boxes or []],
                "category": [index[box.defect_type] for box in record.boxes or []],
                "score": [box.score for box in record.boxes or []],
                "iscrowd": [box.iscrowd for box in record.boxes or []],
            }
            for record in records
        ]
    return Dataset.from_dict(columns, features=features(categories, names, mask=masks))
