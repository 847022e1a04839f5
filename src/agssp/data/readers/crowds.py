"""Which boxes are crowd regions: a rectangle around an unknown number of defects that nobody has told apart.

COCO marks them with `iscrowd` 1. Some tools mark every single object so (those that keep masks as run lengths, which
COCO's own files have for crowds alone); a file in which no box is unmarked is one of theirs.
"""

from collections.abc import Sequence
from typing import Any

from agssp.data.readers.box_columns import BoxColumns, box_columns
from agssp.data.readers.records import Box
from agssp.errors import InputError

CROWDS = ("auto", "ignore", "objects")
FLAGS = {"": False, "0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def crowd_flag(value: Any, where: str) -> bool:
    """The `iscrowd` of a box as a bool: null, 0 and 1 in whatever form tools write them.

    Args:
        value: null, a bool, a number or a text.
        where: names the box in the error.

    Raises:
        InputError: it is none of these.
    """
    if value in (None, 0, 1):
        return bool(value)
    flag = FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise InputError(f"{where}: iscrowd must be 0 or 1, got {value!r}")
    return flag


def check_crowds(mode: str) -> None:
    """Raise InputError for what is none of `CROWDS`."""
    if mode not in CROWDS:
        raise InputError(f"--crowds {mode!r}: expected {', '.join(CROWDS[:-1])} or {CROWDS[-1]}")


def resolve_crowds(boxes_by_image: Sequence[list[Box] | None], mode: str = "auto") -> tuple[BoxColumns, str | None]:
    """Decide for all boxes of one file whether those marked as crowds are crowd regions or single objects.

    Args:
        boxes_by_image: the boxes of each image, as they are marked; None where they are not known.
        mode: `auto` reads them as objects where all boxes of the file are marked, `objects` always, `ignore` never.

    Returns:
        The boxes, `iscrowd` true for crowd regions alone, and what a user must be told of it; None if there is nothing.

    Raises:
        InputError: no such mode.
    """
    check_crowds(mode)
    boxes = box_columns(boxes_by_image)
    marked, count = int(boxes.crowds.sum()), len(boxes.crowds)
    told = crowd_line(marked, count, mode)
    return boxes.without_crowds() if marked and are_objects(marked, count, mode) else boxes, told


def are_objects(marked: int, count: int, mode: str) -> bool:
    """Whether the boxes marked as crowds, `marked` of `count`, are single objects."""
    return mode == "objects" or (mode == "auto" and marked == count)


def crowd_line(marked: int, count: int, mode: str) -> str | None:
    """What becomes of the boxes marked as crowds, `marked` of `count`; None if none is and nobody asked."""
    if not marked:
        return None if mode == "auto" else f"none of {count}; --crowds {mode} changes nothing"
    number = f"all {count} boxes" if marked == count else f"{marked} of {count} boxes"
    if not are_objects(marked, count, mode):
        return f"{number} are regions left out of training and ignored in evaluation; --crowds objects reads objects"
    if mode == "objects":
        return f"{number} are read as objects, as --crowds objects asks"
    return f"{number}, as some tools mark single objects, are read as objects; --crowds ignore reads crowd regions"
