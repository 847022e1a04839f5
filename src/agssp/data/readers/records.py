"""What every reader gives, one record an image, and how records become a data set."""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import Dataset

from agssp.data.schema import features
from agssp.errors import InputError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".jp2"}


@dataclass
class Box:
    """One labelled box: COCO xywh in absolute px and the name of its class."""

    bbox: tuple[float, float, float, float]
    defect_type: str
    score: float = 1.0


@dataclass
class ImageRecord:
    """One image of a data set, not opened yet."""

    path: Path
    image_id: str
    category: str
    is_normal: bool | None = None
    mask: Path | None = None
    boxes: list[Box] | None = None


@dataclass
class ReadReport:
    """What a reader had to change: counts, and the first few names of each kind."""

    clipped: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def log(self, source: str) -> None:
        """Warn once, with counts and the first names, if any box was clipped or dropped."""
        for what, names in (("clipped to the image", self.clipped), ("without area, dropped", self.dropped)):
            if names:
                logger.warning(
                    "%s: %d boxes were %s: %s%s",
                    source,
                    len(names),
                    what,
                    ", ".join(names[:3]),
                    " ..." if names[3:] else "",
                )


def find_images(root: Path) -> list[Path]:
    """All image files below a folder, hidden ones left out, sorted by their path."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )


def path_inside(root: Path, name: str, where: str) -> Path:
    """The path of a file named in a table, which must lie inside the table's folder.

    Raises:
        InputError: the name is absolute or climbs out of the folder.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    path = root / relative
    if relative.is_absolute() or ":" in relative.parts[0] or not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{where}: {name!r} points outside of {root}; expected a path relative to that folder")
    return path


def clean_box(
    box: Box, width: int, height: int, where: str, report: ReadReport, *, tolerance: float = 0.5
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
        The box inside the image, or None if its area there is zero.
    """
    x, y, w, h = box.bbox
    left, top = min(max(x, 0.0), width), min(max(y, 0.0), height)
    right, bottom = min(max(x + w, 0.0), width), min(max(y + h, 0.0), height)
    if not (right - left > 0 and bottom - top > 0):
        report.dropped.append(where)
        return None
    if max(left - x, top - y, x + w - right, y + h - bottom) > tolerance:
        report.clipped.append(where)
    return Box((left, top, right - left, bottom - top), box.defect_type, box.score)


def label_index(name: str, names: Sequence[str], where: str) -> int:
    """Index of a class name.

    Raises:
        InputError: the name is not in the list; near names are shown.
    """
    try:
        return list(names).index(name)
    except ValueError:
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise InputError(f"{where}: unknown class {name!r}, expected one of {', '.join(names)}{hint}") from None


def to_dataset(records: Sequence[ImageRecord], source: str, defect_types: Sequence[str] | None = None) -> Dataset:
    """Bring records to the schema.

    Args:
        records: one an image; ids must be unique.
        source: names the data set in errors.
        defect_types: order of the box classes; default: the names that occur, sorted.

    Returns:
        A data set with `image` (still encoded), `image_id`, `category`, `is_normal`, and `mask` and `objects` where any
        record has them.

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
    labelled = defect_types is not None or any(record.boxes is not None for record in records)
    masks = any(record.mask is not None for record in records)
    categories = sorted({record.category for record in records})
    if labelled and defect_types is None:
        defect_types = sorted({box.defect_type for record in records for box in record.boxes or []})

    columns: dict[str, list[Any]] = {
        "image": [{"path": str(record.path.absolute()), "bytes": None} for record in records],
        "image_id": ids,
        "category": [categories.index(record.category) for record in records],
        "is_normal": [record.is_normal for record in records],
    }
    if masks:
        columns["mask"] = [record.mask and {"path": str(record.mask.absolute()), "bytes": None} for record in records]
    if labelled:
        names = list(defect_types or [])
        columns["objects"] = [
            {
                "bbox": [list(box.bbox) for box in record.boxes or []],
                "category": [label_index(box.defect_type, names, record.image_id) for box in record.boxes or []],
                "score": [box.score for box in record.boxes or []],
            }
            for record in records
        ]
    return Dataset.from_dict(columns, features=features(categories, defect_types if labelled else None, mask=masks))
