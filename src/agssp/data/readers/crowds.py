"""Which boxes are crowd regions: a rectangle around an unknown number of defects that nobody has told apart."""

from collections.abc import Sequence
from typing import Any

from agssp.data.readers.records import Box
from agssp.data.readers.report import ReadReport
from agssp.errors import InputError

FLAGS = {"": False, "0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def crowd_flag(value: Any, where: str) -> bool:
    """The `iscrowd` of a box as a bool: null, 0 and 1 in whatever form tools write them.

    Args:
        value: null, a bool, a number or a text.
        where: names the box in the error.

    Raises:
        InputError: it is none of these.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    flag = FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise InputError(f"{where}: iscrowd must be 0 or 1, got {value!r}")
    return flag


def resolve_crowds(boxes: Sequence[list[Box] | None], mode: str, report: ReadReport) -> list[list[Box] | None]:
    """Decide what boxes marked as crowds are.

    Args:
        boxes: of each image of a data set.
        mode: `auto`: single objects where every box of the data set is marked, as some tools mark each mask, and
            regions to be ignored where some are not; `ignore`: always regions; `objects`: always single objects.
        report: gets a note where `auto` decides for objects.

    Returns:
        The boxes, with `iscrowd` true on regions to be ignored alone.
    """
    marked = [box for row in boxes for box in row or [] if box.iscrowd]
    every = sum(len(row or []) for row in boxes)
    if marked and (mode == "objects" or (mode == "auto" and len(marked) == every)):
        for box in marked:
            box.iscrowd = False
        report.note("crowds_as_objects", f"all {every} boxes" if mode == "auto" else "as asked", len(marked))
    return list(boxes)


CROWDS = ("auto", "ignore", "objects")


def check_crowds(mode: str) -> None:
    """Raise InputError unless it is one of `CROWDS`."""
    if mode not in CROWDS:
        raise InputError(f"--crowds {mode!r}: expected one of {', '.join(CROWDS)}")
