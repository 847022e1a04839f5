"""From boxes as a file states them to boxes in px of the upright image: sizes, turned photos, corners, borders.

What a file says of its images' size is held against the images themselves, for the whole data set at once: a photo that
cannot tell whether its labels are of the stored or of the upright pixels follows those that can.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agssp.data.images import ImageError, image_frame
from agssp.data.readers.crowds import resolve_crowds
from agssp.data.readers.records import Box, ImageRecord, Label
from agssp.data.readers.report import ReadReport
from agssp.errors import InputError

ASPECT_TOLERANCE = 0.01
ROUNDING = 0.5
"""Overhang in px that is clipped without a word: annotation tools round."""
XYWH = tuple[float, float, float, float]
Size = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """What an image's header tells.

    Attributes:
        size: (width, height) px of the upright image.
        orientation: EXIF's number, 1 to 8, of how the stored pixels are turned.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        """(width, height) px as stored."""
        return self.size if self.orientation < 5 else (self.size[1], self.size[0])


def settle_boxes(records: Sequence[ImageRecord], report: ReadReport, crowds: str = "auto") -> list[list[Box] | None]:
    """Bring the labels of a whole data set to boxes in px of the upright images.

    Sizes that files state: of the same proportions as the image, within 1 %, the boxes are scaled. Of the proportions
    of the stored pixels, where EXIF turns the photo, the boxes are turned along, if that explains every photo of the
    data set that can tell; those that cannot (square, mirrored, no size stated) follow the others. Where none can tell
    boxes are of the upright image, and that is noted. Corners are put in order, boxes clipped to their image, those
    without area dropped, equal ones counted once. Images without labels are not opened.

    Args:
        records: of the data set.
        report: gets a note of every change.
        crowds: what boxes marked as crowds are, see `resolve_crowds`.

    Returns:
        For each record its boxes; None where they are not known: nobody has said, the image cannot be opened, or every
        box of it had to be dropped.

    Raises:
        InputError: a stated size that fits the image in no way, photos that contradict each other, or boxes that are
            all fractions where px are due.
    """
    frames = [_frame(record, report) if record.labels else None for record in records]
    stored = labels_are_stored(records, frames, report)
    check_pixels(
        [(record.labels or [], frame) for record, frame in zip(records, frames, strict=True) if not record.fractions]
    )
    settled: list[list[Box] | None] = []
    for record, frame in zip(records, frames, strict=True):
        if not record.labels:
            settled.append(None if record.labels is None else [])
        elif frame is None:
            settled.append(None)
        else:
            settled.append(place_boxes(record, frame, stored, report))
    return settle_crowds(settled, crowds, report)


def settle_crowds(boxes: Sequence[list[Box] | None], mode: str, report: ReadReport) -> list[list[Box] | None]:
    """Boxes with `iscrowd` on crowd regions alone, see `resolve_crowds`; what was decided is noted."""
    settled, told = resolve_crowds(boxes, mode)
    if told:
        marked = sum(box.iscrowd for row in boxes for box in row or [])
        report.note("crowds", told, max(marked, 1))
    return settled


def place_boxes(record: ImageRecord, frame: Frame, stored: bool, report: ReadReport) -> list[Box] | None:
    """The boxes of one image in px of the upright image, cleaned; None where all had to be dropped.

    Args:
        record: with labels.
        frame: of its image.
        stored: whether labels are of the stored pixels, which EXIF turns.
        report: gets a note of every change.
    """
    labels = record.labels or []
    turn = frame.orientation if stored else 1
    base = frame.stored if stored else frame.size
    stated = (1.0, 1.0) if record.fractions else record.stated_size or base
    scale = base[0] / stated[0], base[1] / stated[1]
    if scale != (1, 1) and not record.fractions:
        report.note("scaled", f"{record.image_id} ({_px(stated)} there, {_px(base)} here)")
    if turn != 1:
        report.note("turned", record.image_id)
    boxes: dict[tuple[Any, ...], Box] = {}
    for label in labels:
        x, y, w, h = label.bbox
        if scale != (1, 1):
            x, y, w, h = x * scale[0], y * scale[1], w * scale[0], h * scale[1]
        if w < 0 or h < 0:
            report.note("reversed", label.where)
            x, y, w, h = min(x, x + w), min(y, y + h), abs(w), abs(h)
        if turn != 1:
            x, y, w, h = upright_box((x, y, w, h), frame.stored, turn)
        bbox = clip_box((x, y, w, h), frame.size, label.where, report)
        if bbox is None:
            continue
        key = (*bbox, label.defect_type, label.iscrowd)
        if key in boxes:
            report.note("duplicates", label.where)
            boxes[key].score = max(boxes[key].score, label.score)
        else:
            boxes[key] = Box(bbox, label.defect_type, label.score, label.iscrowd)
    if not boxes:
        report.note("all_dropped", record.image_id)
        return None
    for box in boxes.values():
        report.measure(box.defect_type, box.bbox, frame.size)
    return list(boxes.values())


def clip_box(bbox: XYWH, size: Size, where: str, report: ReadReport) -> XYWH | None:
    """Clip a box to its image, or drop it when nothing is left.

    Args:
        bbox: COCO xywh in px, no negative width or height.
        size: (width, height) of the image in px.
        where: names the box in the report.
        report: gets a note of a box that was dropped, or clipped by more than `ROUNDING`.

    Returns:
        The box inside the image, or None if its area there is zero or it is not finite.
    """
    x, y, w, h = bbox
    width, height = size
    if x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height:
        return bbox
    if not all(map(math.isfinite, bbox)):
        report.note("no_area", where)
        return None
    left, top = min(max(x, 0.0), width), min(max(y, 0.0), height)
    right, bottom = min(max(x + w, 0.0), width), min(max(y + h, 0.0), height)
    if not (right - left > 0 and bottom - top > 0):
        report.note("no_area", where)
        return None
    if max(left - x, top - y, x + w - right, y + h - bottom) > ROUNDING:
        report.note("clipped", where)
    return left, top, right - left, bottom - top


def upright_box(bbox: XYWH, stored: Size, orientation: int) -> XYWH:
    """Where a box of the stored pixels lies once EXIF's orientation is applied.

    Args:
        bbox: xywh px on the stored image.
        stored: (width, height) px of it.
        orientation: EXIF's number, 1 to 8.

    Returns:
        xywh px on the upright image.
    """
    x, y, w, h = bbox
    right, below = stored[0] - x - w, stored[1] - y - h
    return {
        1: (x, y, w, h),
        2: (right, y, w, h),
        3: (right, below, w, h),
        4: (x, below, w, h),
        5: (y, x, h, w),
        6: (below, x, h, w),
        7: (below, right, h, w),
        8: (y, right, h, w),
    }[orientation]


def labels_are_stored(records: Sequence[ImageRecord], frames: Sequence[Frame | None], report: ReadReport) -> bool:
    """Whether the labels of a data set are of the stored pixels of photos that EXIF turns.

    Args:
        records: of the data set.
        frames: what their headers tell; None for those that are not labelled or cannot be opened.
        report: gets a note of photos that cannot tell.

    Raises:
        InputError: a stated size that fits neither, or photos of which one says so and another says the contrary.
    """
    said: dict[str, ImageRecord] = {}
    silent = []
    for record, frame in zip(records, frames, strict=True):
        if frame is None:
            continue
        answer = _labels_are_of(record, frame)
        if frame.orientation == 1:
            continue
        if answer is None:
            silent.append(record.image_id)
        else:
            said.setdefault(answer, record)
    if len(said) == 2:
        stored, upright = said["stored"], said["upright"]
        raise InputError(
            f"{_where(stored)}: its stated size, {_px(stored.stated_size)}, is that of the stored pixels of a photo "
            f"that EXIF turns, but that of {upright.image_id}, {_px(upright.stated_size)}, is that of the upright "
            "photo; what the labels of such photos are of cannot be told: save all images upright, without an EXIF "
            "orientation, and label or export them again"
        )
    if silent:
        report.note_all("turned_as_others" if said else "turned_unknown", silent)
    return "stored" in said


def check_pixels(rows: Sequence[tuple[Sequence[Label], Frame | None]]) -> None:
    """Raise where labels in px are all fractions of their image.

    Args:
        rows: labels and what the header of their image tells.

    Raises:
        InputError: every box lies within 0..1.
    """
    first = None
    for labels, frame in rows:
        if frame is None or max(frame.size) < 3:
            continue
        for label in labels:
            x, y, w, h = label.bbox
            if not (0 <= x <= 1 and 0 <= y <= 1 and abs(w) <= 1 and abs(h) <= 1 and x + w <= 1.001 and y + h <= 1.001):
                return
            if w and h and first is None:
                first = label
    if first is not None:
        raise InputError(
            f"{first.where}: expected a box in px, got {list(first.bbox)}, and all other boxes lie within 0..1 too; "
            "these are fractions of the image: multiply them by its width and height"
        )


def _labels_are_of(record: ImageRecord, frame: Frame) -> str | None:
    """`stored` or `upright` pixels, by the size that the labels' file states; None where that does not tell."""
    if record.stated_size is None or record.fractions:
        return None
    upright, stored = (_same_aspect(record.stated_size, size) for size in (frame.size, frame.stored))
    if not upright and not stored:
        turned = f" (stored as {_px(frame.stored)} and turned by EXIF)" if frame.orientation != 1 else ""
        raise InputError(
            f"{_where(record)}: the labels are for an image of {_px(record.stated_size)}, but {record.image_id} is "
            f"{_px(frame.size)}{turned}; other proportions than these cannot be scaled: label or export the image "
            "again, or put back the one that was labelled"
        )
    if upright and stored:
        return None
    return "upright" if upright else "stored"


def _same_aspect(stated: Size, size: Size) -> bool:
    return abs(stated[0] * size[1] / (stated[1] * size[0]) - 1) <= ASPECT_TOLERANCE


def _frame(record: ImageRecord, report: ReadReport) -> Frame | None:
    """What the header of an image tells; None, and a note, where it is damaged.

    One damaged image must not keep the others from being read: it is skipped, and counted, where it is decoded.
    """
    try:
        return Frame(*image_frame(record.path, str(record.path)))
    except ImageError as error:
        report.note("damaged", str(error))
        return None


def _where(record: ImageRecord) -> str:
    return record.labels[0].where if record.labels else record.image_id


def _px(size: Size | None) -> str:
    return "no size" if size is None else f"{size[0]:g} x {size[1]:g} px"
