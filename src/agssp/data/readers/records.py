"""What every reader gives: one record an image."""

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from agssp.data.readers.splits import PLAIN_FOLDERS
from agssp.errors import InputError


@dataclass(slots=True)
class Box:
    """One labelled box: COCO xywh in absolute px of the upright image and the name of its class.

    A crowd is a region with several objects in it that nobody told apart: neither an object nor background.
    """

    bbox: tuple[float, float, float, float]
    defect_type: str
    score: float = 1.0
    iscrowd: bool = False


@dataclass(slots=True)
class Label:
    """One box as a file states it, before its image is looked at.

    Attributes:
        bbox: xywh in px of the size that the file states; or as fractions of the image. Width and height may be
            negative where a file has its corners the other way round.
        defect_type: name of the class.
        where: names the line, annotation or shape in errors and the report.
        score: 1 for what a person drew.
        iscrowd: as the file says.
    """

    bbox: tuple[float, float, float, float]
    defect_type: str
    where: str
    score: float = 1.0
    iscrowd: bool = False


@dataclass(slots=True)
class ImageRecord:
    """One image of a data set, not opened yet.

    Attributes:
        path: its file; a text where records are made in great numbers.
        image_id: unique and stable: the path below the data set's folder.
        category: the object category.
        is_normal: None where nothing tells.
        mask: file of its pixel mask.
        labels: as their file states them; empty: it has no defects; None: not known, which is not to have none.
        stated_size: (width, height) px of the image that the labels are for, as their file says; None: it does not.
        fractions: whether the labels are fractions of the image instead of px.
        upright: whether the labels are of the upright image, though the stated size may be that of the stored pixels.
    """

    path: Path | str
    image_id: str
    category: str
    is_normal: bool | None = None
    mask: Path | None = None
    labels: Sequence[Label] | None = None
    stated_size: tuple[float, float] | None = None
    fractions: bool = False
    upright: bool = False


class MadeRecords(Sequence[ImageRecord]):
    """Records that are made each time one is asked for, so that not all of them are held.

    Args:
        count: of the records.
        make: gives the one of a number.
    """

    def __init__(self, count: int, make: Callable[[int], ImageRecord]) -> None:
        self._numbers, self._make = range(count), make

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[ImageRecord]:
        return map(self._make, self._numbers)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageRecord]: ...
    def __getitem__(self, index: int | slice) -> ImageRecord | list[ImageRecord]:
        chosen = self._numbers[index]
        return list(map(self._make, chosen)) if isinstance(chosen, range) else self._make(chosen)


def stated_size(width: Any, height: Any) -> tuple[float, float] | None:
    """The (width, height) px that a file states for an image; None where it states none, or 0 in its place."""
    try:
        size = float(width or 0), float(height or 0)
    except (TypeError, ValueError, OverflowError):
        return None
    return size if 0 < size[0] < math.inf and 0 < size[1] < math.inf else None


def score_of(value: Any, where: str) -> float:
    """The score of a box; 1 where none is given.

    Raises:
        InputError: it is no finite number; `where` names the box.
    """
    try:
        score = 1.0 if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"{where}: expected a number as its score, got {value!r}; mend it, or leave the scores out")
    return score


def folder_category(root: Path) -> str:
    """The object category that a folder's name tells: its own, or that of the one above `images`, `train` and such."""
    for folder in (root.absolute(), *root.absolute().parents):
        if folder.name and folder.name.lower() not in PLAIN_FOLDERS:
            return folder.name
    return root.absolute().name or "object"


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


def class_order(names: Iterable[str]) -> list[str]:
    """Names of classes in the order that they get where nothing else tells: sorted, numbers by their value."""
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def objects_of(boxes: Sequence[Box], index: Mapping[str, int]) -> dict[str, list[Any]]:
    """The `objects` of a row.

    Args:
        boxes: of the image.
        index: number of each class.
    """
    return {
        "bbox": [list(box.bbox) for box in boxes],
        "category": [index[box.defect_type] for box in boxes],
        "score": [box.score for box in boxes],
        "iscrowd": [box.iscrowd for box in boxes],
    }


def objects_or_null(
    boxes: Sequence[Box] | None, is_normal: bool | None, index: Mapping[str, int]
) -> dict[str, list[Any]] | None:
    """The `objects` of a row; null where its boxes are not known, unless its image is said to be normal.

    Args:
        boxes: of the image; None where they are not known.
        is_normal: whether it is said to have no defects.
        index: number of each class.
    """
    return None if boxes is None and not is_normal else objects_of(boxes or [], index)
