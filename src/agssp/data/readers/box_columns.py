"""The boxes of many images as columns of numbers, as Arrow takes them, in a tenth of the memory of objects."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import Any, overload

import numpy as np

from agssp.data.readers.records import Box


class BoxColumns(Sequence[list[Box] | None]):
    """The boxes of each image, None where they are not known; they are made anew when they are asked for.

    Args:
        rows: the boxes of each image.

    Attributes:
        names: of the classes, in the order in which they come.
    """

    def __init__(self, rows: Iterable[Sequence[Box] | None] = ()) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._known, self._starts = bytearray(), array("i", [0])
        self._bboxes, self._scores = array("d"), array("d")
        self._classes, self._crowds = array("i"), bytearray()
        for row in rows:
            self.append(row)

    def append(self, boxes: Sequence[Box] | None) -> None:
        """Add the boxes of one more image."""
        for box in boxes or ():
            number = self._numbers.get(box.defect_type)
            if number is None:
                number = self._numbers[box.defect_type] = len(self.names)
                self.names.append(box.defect_type)
            self._bboxes.extend(box.bbox)
            self._classes.append(number)
            self._scores.append(box.score)
            self._crowds.append(box.iscrowd)
        self._known.append(boxes is not None)
        self._starts.append(len(self._classes))

    def __len__(self) -> int:
        return len(self._known)

    @overload
    def __getitem__(self, index: int) -> list[Box] | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Box] | None]: ...
    def __getitem__(self, index: int | slice) -> Any:
        chosen = range(len(self))[index]
        return [self._row(number) for number in chosen] if isinstance(chosen, range) else self._row(chosen)

    def __iter__(self) -> Iterator[list[Box] | None]:
        return map(self._row, range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Whether a sequence has the same boxes."""
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _row(self, number: int) -> list[Box] | None:
        if not self._known[number]:
            return None
        return [self._box(place) for place in range(self._starts[number], self._starts[number + 1])]

    def _box(self, place: int) -> Box:
        x, y, w, h = self._bboxes[4 * place : 4 * place + 4]
        return Box((x, y, w, h), self.names[self._classes[place]], self._scores[place], self._crowds[place] == 1)

    @property
    def known(self) -> np.ndarray:
        """(R,) bool, which of R images have boxes that are known, be there none."""
        return np.asarray(self._known).view(bool)

    @property
    def starts(self) -> np.ndarray:
        """(R + 1,) int32, the place of each image's first box among all N, and N."""
        return np.asarray(self._starts)

    @property
    def bboxes(self) -> np.ndarray:
        """(N, 4) float64, xywh px."""
        return np.asarray(self._bboxes).reshape(-1, 4)

    @property
    def classes(self) -> np.ndarray:
        """(N,) int32, each box's class as its place in `names`."""
        return np.asarray(self._classes)

    @property
    def scores(self) -> np.ndarray:
        """(N,) float64."""
        return np.asarray(self._scores)

    @property
    def crowds(self) -> np.ndarray:
        """(N,) bool, which boxes are crowd regions."""
        return np.asarray(self._crowds).view(bool)

    def without_crowds(self) -> "BoxColumns":
        """The same boxes, none of them a crowd region."""
        same = copy(self)
        same._crowds = bytearray(len(self._crowds))
        return same

    def of_classes(self) -> dict[str, np.ndarray]:
        """For each class, in the order in which they come, the places of its boxes that are no crowd regions."""
        objects = np.flatnonzero(~self.crowds)
        classes = self.classes[objects]
        numbers, first = np.unique(classes, return_index=True)
        return {self.names[number]: objects[classes == number] for number in numbers[np.argsort(first)].tolist()}


def box_columns(rows: Sequence[Sequence[Box] | None]) -> BoxColumns:
    """The boxes of images as columns, which they may be already."""
    return rows if isinstance(rows, BoxColumns) else BoxColumns(rows)
