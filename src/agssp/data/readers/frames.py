"""Look at the headers of labelled images: all that reading labels needs to know of the pixels."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

from agssp.data.images import ImageError, image_frame
from agssp.data.readers.geometry import Frame, StatedLabels
from agssp.data.readers.records import ImageRecord
from agssp.data.readers.report import ReadReport

_UNREAD: Any = object()


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


class StatedImages(Sequence[StatedLabels]):
    """The labels of each record beside the header of its image.

    A header is read when its image is first asked for, and kept; images without labels are not opened.

    Args:
        records: of the data set.
        report: gets a note of images that are damaged.
    """

    def __init__(self, records: Sequence[ImageRecord], report: ReadReport) -> None:
        self._records, self._report = records, report
        self._frames: list[Any] = [_UNREAD] * len(records)
        # Most images have the size of many others.
        self._same: dict[Frame | None, Frame | None] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[StatedLabels]:
        return map(self._stated, range(len(self)), self._records)

    @overload
    def __getitem__(self, index: int) -> StatedLabels: ...
    @overload
    def __getitem__(self, index: slice) -> list[StatedLabels]: ...
    def __getitem__(self, index: int | slice) -> StatedLabels | list[StatedLabels]:
        chosen = range(len(self))[index]
        if isinstance(chosen, range):
            return [self._stated(number, self._records[number]) for number in chosen]
        return self._stated(chosen, self._records[chosen])

    def _stated(self, number: int, record: ImageRecord) -> StatedLabels:
        frame = self._frames[number]
        if frame is _UNREAD:
            frame = read_frame(record.path, str(record.path), self._report) if record.labels else None
            frame = self._frames[number] = self._same.setdefault(frame, frame)
        return StatedLabels(record.image_id, record.labels, frame, record.stated_size, record.fractions, record.upright)
