"""The labels of many images as columns of numbers, in a tenth of the memory that they take as objects."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from agssp.data.readers.records import Label

_INT64 = range(-(2**63), 2**63)


class LabelColumns:
    """Labels that are added in any order, then grouped by image, and made anew when those of an image are asked for.

    Args:
        where: names a label in errors and the report, by the mark that `add` was given for it.
    """

    def __init__(self, where: Callable[[Any], str]) -> None:
        self._where = where
        self._images, self._classes = array("i"), array("i")
        self._bboxes, self._scores, self._crowds = array("d"), array("d"), bytearray()
        self._marks = array("q")
        self._other_marks: dict[int, Any] = {}
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        # Once they are grouped, the place of each image's first label among all of them.
        self._starts = array("q", [0])

    def add(
        self, image: int, bbox: tuple[float, float, float, float], name: str, mark: Any, score: float, iscrowd: bool
    ) -> None:
        """Add a label.

        Args:
            image: number of its image.
            bbox: of `Label`.
            name: of the class.
            mark: tells it from others; an integer takes the least memory.
            score: of `Label`.
            iscrowd: of `Label`.
        """
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._names)
            self._names.append(name)
        if type(mark) is not int or mark not in _INT64:
            self._other_marks[len(self._marks)] = mark
            mark = 0
        self._images.append(image)
        self._classes.append(number)
        self._bboxes.extend(bbox)
        self._scores.append(score)
        self._crowds.append(iscrowd)
        self._marks.append(mark)

    def group(self, count: int) -> None:
        """Group the labels by their images, of which there are so many; those of one stay in the order of `add`."""
        images = np.array(self._images, np.intc)
        self._images = array("i")
        if (np.diff(images) < 0).any():
            order = np.argsort(images, kind="stable")
            images = images[order]
            self._classes, self._scores = _sorted(self._classes, order), _sorted(self._scores, order)
            self._marks, self._bboxes = _sorted(self._marks, order), _sorted(self._bboxes, order, 4)
            self._crowds = bytearray(np.asarray(self._crowds)[order])
            places = np.argsort(order)
            self._other_marks = {int(places[number]): mark for number, mark in self._other_marks.items()}
        self._starts = array("q", np.searchsorted(images, np.arange(count + 1)).tobytes())

    def of(self, image: int) -> "ImageLabels":
        """The labels of an image."""
        return ImageLabels(self, self._starts[image], self._starts[image + 1])

    def labels(self, start: int, stop: int) -> list[Label]:
        """The labels from one place among those grouped by image to another."""
        sides = iter(self._bboxes[4 * start : 4 * stop])
        marks: Iterable[Any] = self._marks[start:stop]
        if self._other_marks:
            marks = [self._other_marks.get(place, mark) for place, mark in enumerate(marks, start)]
        names, where = self._names, self._where
        return [
            Label(bbox, names[number], where(mark), score, crowd == 1)
            for bbox, number, mark, score, crowd in zip(
                zip(sides, sides, sides, sides, strict=True),
                self._classes[start:stop],
                marks,
                self._scores[start:stop],
                self._crowds[start:stop],
                strict=True,
            )
        ]

    def class_names(self, start: int, stop: int) -> list[str]:
        """The class of each of these labels."""
        return [self._names[number] for number in self._classes[start:stop]]


def _sorted(column: array, order: np.ndarray, width: int = 1) -> array:
    """A column of `width` numbers a label in another order of the labels."""
    found = array(column.typecode)
    found.frombytes(np.asarray(column).reshape(-1, width)[order].tobytes())
    return found


class ImageLabels(Sequence[Label]):
    """The labels of an image, which lie in the columns of many.

    Args:
        columns: of all images, grouped.
        start: place of the first.
        stop: place behind the last.
    """

    __slots__ = ("_columns", "_start", "_stop")

    def __init__(self, columns: LabelColumns, start: int, stop: int) -> None:
        self._columns, self._start, self._stop = columns, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[Label]:
        return iter(self._columns.labels(self._start, self._stop))

    @overload
    def __getitem__(self, index: int) -> Label: ...
    @overload
    def __getitem__(self, index: slice) -> list[Label]: ...
    def __getitem__(self, index: int | slice) -> Label | list[Label]:
        return self._columns.labels(self._start, self._stop)[index]

    def __eq__(self, other: object) -> bool:
        """Whether a sequence has the same labels."""
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def class_names(self) -> list[str]:
        """The class of each label."""
        return self._columns.class_names(self._start, self._stop)


def class_names(labels: Iterable[Label]) -> Iterable[str]:
    """The class of each label; of labels in columns without making them."""
    return labels.class_names() if isinstance(labels, ImageLabels) else (label.defect_type for label in labels)
