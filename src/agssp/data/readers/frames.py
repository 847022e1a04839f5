"""Look at the headers of labelled images: all that reading labels needs to know of the pixels."""

from collections.abc import Iterable
from typing import Any

from agssp.data.images import ImageError, image_frame
from agssp.data.readers.geometry import Frame, StatedLabels
from agssp.data.readers.records import ImageRecord
from agssp.data.readers.report import ReadReport


def read_frame(image: Any, where: str, report: ReadReport) -> Frame | None:
    """What the header of an image tells; None, and a note, where it is damaged.

    One damaged image must not keep the others from being read: it is skipped, and counted, where it is decoded.

    Args:
        image: whatever `decode_image` takes.
        where: names it in the report.
        report: gets the note.
    """
    try:
        return Frame(*image_frame(image, where))
    except ImageError as error:
        report.note("damaged", str(error))
        return None


def stated_labels(records: Iterable[ImageRecord], report: ReadReport) -> list[StatedLabels]:
    """The labels of each record beside the header of its image; images without labels are not opened."""
    return [
        StatedLabels(
            record.image_id,
            record.labels,
            read_frame(record.path, str(record.path), report) if record.labels else None,
            record.stated_size,
            record.fractions,
            record.upright,
        )
        for record in records
    ]
