"""The boxes of rows that come one by one, brought to the schema as far as each row and those before it can tell."""

from collections.abc import Sequence
from typing import Any

from agssp.data.readers.crowds import resolve_crowds
from agssp.data.readers.frames import read_frame
from agssp.data.readers.geometry import (
    LARGER_THAN_FRACTIONS,
    StatedLabels,
    check_pixels,
    labels_are_of,
    labels_are_stored,
    place_boxes,
    within_fractions,
)
from agssp.data.readers.objects import labels_of
from agssp.data.readers.records import check_names, objects_or_null, stated_size
from agssp.data.readers.report import ReadReport
from agssp.errors import InputError


class StreamedObjects:
    """Makes the `objects` of one row after another, and counts the rows.

    What `settle_boxes` decides by a whole data set is decided here by the row and those before it:

    - Photos that EXIF turns: one that cannot tell what its labels are of follows the first that could; where none has
      come yet its boxes are taken as those of the upright photo. A row that contradicts is an error.
    - Boxes all within 0..1 are an error until a box beyond that has shown that they are px.
    - Boxes marked as crowds are regions to be ignored, unless `objects` is asked for: whether every box of the data set
      is marked cannot be known.

    It can be pickled. Each worker of a DataLoader has a copy of its own, which learns and warns by itself, and the
    report of the process that started them stays as it was. Rows that are read twice are counted twice.

    Args:
        source: names the data set in errors.
        names: all classes, in order.
        numbered: whether a class that is a number is the name of a class rather than a place in the list.
        crowds: as in `read_dataset`.
        report: gets a note of every change, and the numbers of each row.
    """

    def __init__(self, source: str, names: Sequence[str], numbered: bool, crowds: str, report: ReadReport) -> None:
        self.source, self.names, self.numbered, self.report = source, list(names), numbered, report
        self.index = {name: position for position, name in enumerate(self.names)}
        self.crowds = crowds
        self._told: StatedLabels | None = None
        self._guessed: str | None = None
        self._in_px = False

    def __call__(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """The `objects` of a row; an InputError that names the row where they cannot be read."""
        where = f"{self.source}: {row['image_id']}"
        labels = labels_of(row["objects"], where, self.report, None if self.numbered else self.names)
        if self.numbered:
            for label in labels or ():
                check_names([label.defect_type], self.names, label.where)
        frame = read_frame(row["image"], where, self.report) if labels else None
        size = stated_size(row.get("width"), row.get("height"))
        image = StatedLabels(row["image_id"], labels, frame, size)
        boxes = place_boxes(image, self._is_stored(image), self.report)
        self._check_pixels(image)
        if self.crowds == "auto" and (marked := sum(box.iscrowd for box in boxes or ())):
            self.report.note("crowds_in_streams", where, marked)
        (boxes,), _ = resolve_crowds([boxes], "ignore" if self.crowds == "auto" else self.crowds)
        classes = None if boxes is None else [box.defect_type for box in boxes if not box.iscrowd]
        self.report.add_image(classes, row["is_normal"], len(boxes or ()) - len(classes or ()))
        return objects_or_null(boxes, row["is_normal"], self.index)

    def _is_stored(self, image: StatedLabels) -> bool:
        told = labels_are_of(image)
        if told == "stored" and self._guessed is not None and self._told is None:
            raise InputError(
                f"{image.where}: its boxes are of the stored pixels of a photo that EXIF turns, but those of "
                f"{self._guessed}, which came before, were taken as those of the upright photo; read the data set "
                "without streaming, or save all images upright, and label or export them again"
            )
        stored = labels_are_stored([image] if self._told is None else [self._told, image], self.report)
        if told is not None:
            self._told = self._told or image
        elif self._told is None and image.frame is not None and image.frame.orientation != 1:
            self._guessed = self._guessed or image.image_id
        return stored

    def _check_pixels(self, image: StatedLabels) -> None:
        if not self._in_px and image.frame is not None and max(image.frame.size) >= LARGER_THAN_FRACTIONS:
            check_pixels([image])
            self._in_px = any(not within_fractions(label.bbox) for label in image.labels or ())


def count_row(report: ReadReport, row: dict[str, Any]) -> dict[str, Any]:
    """Count a row of a stream without `objects`, and change nothing."""
    report.add_image(None, row["is_normal"])
    return {}
