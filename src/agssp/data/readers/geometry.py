"""From boxes as a file states them to boxes in px of the upright image: sizes, turned photos, corners, borders.

What a file says of its images' size is held against the images themselves, for the whole data set at once: a photo that
cannot tell whether its labels are of the stored or of the upright pixels follows those that can.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agssp.data.readers.box_columns import BoxColumns, box_columns
from agssp.data.readers.crowds import resolve_crowds
from agssp.data.readers.records import Box, Label
from agssp.data.readers.report import ReadReport
from agssp.data.readers.shapes import XYWH, upright_box
from agssp.errors import InputError

ASPECT_TOLERANCE = 0.01
ROUNDING = 0.5
"""Overhang in px that is clipped without a word: annotation tools round."""
FRACTION_ROUNDING = 0.001
LARGER_THAN_FRACTIONS = 3
"""Of smaller images, in px, a box within 0..1 may well be in px."""
CORNERS_AT_LEAST = 3
Size = tuple[float, float]


@dataclass(frozen=True, slots=True)
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


@dataclass(slots=True)
class StatedLabels:
    """The labels of one image as their file states them, beside what the header of the image tells.

    Attributes:
        image_id: names the image.
        labels: empty: it has no defects; None: not known.
        frame: None where the image has no labels or cannot be opened.
        stated_size: (width, height) px of the image that the labels are for, as their file says; None: it does not.
        fractions: whether the labels are fractions of the image instead of px.
        upright: whether the labels are of the upright image, though the stated size may be that of the stored pixels.
    """

    image_id: str
    labels: Sequence[Label] | None
    frame: Frame | None
    stated_size: Size | None = None
    fractions: bool = False
    upright: bool = False

    @property
    def where(self) -> str:
        """Names the image by its first label in errors."""
        return self.labels[0].where if self.labels else self.image_id


@dataclass(frozen=True, slots=True)
class Move:
    """How px of the size that a file states become px of the upright image: scaled first, then turned.

    Attributes:
        scale: of x and y.
        base: (width, height) px once scaled.
        turn: EXIF's number, 1 to 8; 1 where nothing is turned.
    """

    scale: tuple[float, float]
    base: Size
    turn: int


def settle_boxes(images: Sequence[StatedLabels], report: ReadReport, crowds: str = "auto") -> BoxColumns:
    """Bring the labels of a whole data set to boxes in px of the upright images.

    Sizes that files state: of the same proportions as the image, within 1 %, the boxes are scaled. Of the proportions
    of the stored pixels, where EXIF turns the photo, the boxes are turned along, if that explains every photo of the
    data set that can tell; those that cannot (square, mirrored, no size stated) follow the others. Where none can tell
    boxes are of the upright image, and that is noted. Corners are put in order, boxes clipped to their image, those
    without area dropped, equal ones counted once.

    Args:
        images: of the data set; gone through several times.
        report: gets a note of every change.
        crowds: what boxes marked as crowds are, see `resolve_crowds`.

    Returns:
        For each image its boxes; None where they are not known: nobody has said, it cannot be opened, or every box of
        it had to be dropped.

    Raises:
        InputError: a stated size that fits the image in no way, photos that contradict each other, or boxes that are
            all fractions where px are due, or corners where sizes are.
    """
    stored = labels_are_stored(images, report)
    check_pixels(images)
    check_corners(images)
    placed, sides = BoxColumns(), array("i")
    for image in images:
        placed.append(place_boxes(image, stored, report))
        sides.append(0 if image.frame is None else max(image.frame.size))
    settled = settle_crowds(placed, crowds, report)
    measure_boxes(settled, sides, report)
    return settled


def measure_boxes(boxes: BoxColumns, sides: Sequence[int], report: ReadReport) -> None:
    """Keep how large the boxes of each class are beside their images; crowd regions do not count.

    Args:
        boxes: of R images.
        sides: (R,) the longer side of each image in px.
        report: gets the shares.
    """
    longer = np.repeat(np.asarray(sides), np.diff(boxes.starts))
    for name, places in boxes.of_classes().items():
        report.keep_shares(name, (boxes.bboxes[places, 2:].min(1) / longer[places]).tolist())


def settle_crowds(boxes: Sequence[list[Box] | None], mode: str, report: ReadReport) -> BoxColumns:
    """Boxes with `iscrowd` on crowd regions alone, see `resolve_crowds`; what was decided is noted."""
    placed = box_columns(boxes)
    settled, told = resolve_crowds(placed, mode)
    if told:
        report.note("crowds", told, max(int(placed.crowds.sum()), 1))
    return settled


def place_boxes(image: StatedLabels, stored: bool, report: ReadReport) -> list[Box] | None:
    """The boxes of one image in px of the upright image, cleaned; None where they are not known.

    Args:
        image: one of a data set.
        stored: whether labels are of the stored pixels, which EXIF turns.
        report: gets a note of every change.
    """
    if not image.labels:
        return None if image.labels is None else []
    frame = image.frame
    if frame is None:
        return None
    move = move_of(image, frame, stored)
    scale, turn = move.scale, move.turn
    if scale != (1, 1) and not image.fractions:
        there = move.base[0] / scale[0], move.base[1] / scale[1]
        report.note("scaled", f"{image.image_id} ({_px(there)} there, {_px(move.base)} here)")
    if turn != 1:
        report.note("turned", f"{image.image_id} (stored {_px(frame.stored)}, upright {_px(frame.size)})")
    boxes: dict[tuple[Any, ...], Box] = {}
    for label in image.labels:
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
        report.note("all_dropped", image.image_id)
        return None
    return list(boxes.values())


def move_of(image: StatedLabels, frame: Frame, stored: bool) -> Move:
    """How the labels of one image are brought to px of the upright image.

    Args:
        image: one of a data set.
        frame: what its header tells.
        stored: whether labels are of the stored pixels, which EXIF turns.
    """
    base = frame.stored if stored else frame.size
    stated = (1.0, 1.0) if image.fractions else image.stated_size or base
    if image.upright and not image.fractions and not _same_aspect(stated, base):
        stated = stated[1], stated[0]
    return Move((base[0] / stated[0], base[1] / stated[1]), base, frame.orientation if stored else 1)


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


def labels_are_stored(images: Iterable[StatedLabels], report: ReadReport) -> bool:
    """Whether the labels of a data set are of the stored pixels of photos that EXIF turns.

    Args:
        images: of the data set.
        report: gets a note of photos that cannot tell.

    Raises:
        InputError: a stated size that fits neither, or photos of which one says so and another says the contrary.
    """
    said: dict[str, StatedLabels] = {}
    silent = []
    for image in images:
        answer = labels_are_of(image)
        if answer is not None:
            said.setdefault(answer, image)
        elif image.frame is not None and image.frame.orientation != 1:
            silent.append(image.image_id)
    if len(said) == 2:
        stored, upright = said["stored"], said["upright"]
        raise InputError(
            f"{stored.where}: its stated size, {_px(stored.stated_size)}, is that of the stored pixels of a photo "
            f"that EXIF turns, but that of {upright.image_id}, {_px(upright.stated_size)}, is that of the upright "
            "photo; what the labels of such photos are of cannot be told: save all images upright, without an EXIF "
            "orientation, and label or export them again"
        )
    if silent:
        report.note_all("turned_as_others" if said else "turned_unknown", silent)
    return "stored" in said


def labels_are_of(image: StatedLabels) -> str | None:
    """What the labels of a photo that EXIF turns are of, by the size that their file states: `stored` or `upright`.

    Returns:
        None where that does not tell: the photo is not turned, or square, or mirrored, or no size is stated.

    Raises:
        InputError: the stated size has the proportions of neither.
    """
    frame = image.frame
    if frame is None or image.stated_size is None or image.fractions:
        return None
    upright, stored = (_same_aspect(image.stated_size, size) for size in (frame.size, frame.stored))
    if not upright and not stored:
        turned = f" (stored as {_px(frame.stored)} and turned by EXIF)" if frame.orientation != 1 else ""
        raise InputError(
            f"{image.where}: the labels are for an image of {_px(image.stated_size)}, but {image.image_id} is "
            f"{_px(frame.size)}{turned}; other proportions than these cannot be scaled: label or export the image "
            "again, or put back the one that was labelled"
        )
    if upright and stored:
        return None
    return "upright" if upright or image.upright else "stored"


def check_pixels(images: Iterable[StatedLabels]) -> None:
    """Raise where labels in px are all fractions of their image.

    Raises:
        InputError: there are such boxes, and every box lies within 0..1.
    """
    first = None
    for image in images:
        if image.fractions or image.frame is None or max(image.frame.size) < LARGER_THAN_FRACTIONS:
            continue
        for label in image.labels or ():
            if not within_fractions(label.bbox):
                return
            if first is None and label.bbox[2] and label.bbox[3] and all(map(math.isfinite, label.bbox)):
                first = label
    if first is not None:
        raise InputError(
            f"{first.where}: expected a box in px, got {list(first.bbox)}, and all other boxes lie within 0..1 too; "
            "these are fractions of the image: multiply them by its width and height"
        )


def check_corners(images: Iterable[StatedLabels]) -> None:
    """Raise where boxes are corners instead of a corner and a size, as tools that mix up the two write.

    Raises:
        InputError: most boxes reach beyond their image, three at least, and as corners every box would lie within it.
    """
    first, count, beyond = None, 0, 0
    for image in images:
        if image.frame is None:
            continue
        size = (1.0, 1.0) if image.fractions else image.stated_size or image.frame.size
        for label in image.labels or ():
            x, y, w, h = label.bbox
            near = (x + w / 2, y + h / 2) if image.fractions else (x, y)
            if not (0 <= near[0] < w <= size[0] and 0 <= near[1] < h <= size[1]):
                return
            count += 1
            slack = FRACTION_ROUNDING if image.fractions else ROUNDING
            if min(x, y, size[0] - x - w, size[1] - y - h) < -slack:
                beyond += 1
                first = first or label
    if first is not None and beyond >= CORNERS_AT_LEAST and 2 * beyond > count:
        raise InputError(
            f"{first.where}: {beyond} of {count} boxes reach beyond their image, and all would lie within it as "
            "corners [x1, y1, x2, y2]; expected a corner and a size, [x, y, width, height] (in YOLO's files the centre "
            "and a size): convert them"
        )


def within_fractions(bbox: XYWH) -> bool:
    """Whether all corners of a box lie within 0..1, as fractions of an image do; also of a box that is not finite."""
    x, y, w, h = bbox
    return not any(abs(corner - 0.5) > 0.5 + FRACTION_ROUNDING for corner in (x, y, x + w, y + h))


def _same_aspect(stated: Size, size: Size) -> bool:
    return abs(stated[0] * size[1] / (stated[1] * size[0]) - 1) <= ASPECT_TOLERANCE


def _px(size: Size | None) -> str:
    return "no size" if size is None else f"{size[0]:g} x {size[1]:g} px"
