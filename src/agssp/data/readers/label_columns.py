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
        # Of the labels grouped by image the place where each was added, and where those of each image begin.
        self._order: Sequence[int] = ()
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
        if name not in self._numbers:
            self._numbers[name] = len(self._names)
            self._names.append(name)
        if type(mark) is not int or mark not in _INT64:
            self._other_marks[len(self._marks)] = mark
            mark = 0
        self._images.append(image)
        self._classes.append(self._numbers[name])
        self._bboxes.extend(bbox)
        self._scores.append(score)
        self._crowds.append(iscrowd)
        self._marks.append(mark)

    def group(self, count: int) -> None:
        """Group the labels by their images, of which there are so many; those of one stay in the order of `add`."""
        images = np.array(self._images, np.intc)
        is_grouped = (np.diff(images) >= 0).all()
        order = np.argsort(images, kind="stable").astype(np.intc)
        self._order = range(len(images)) if is_grouped else array("i", order.tobytes())
        self._starts = array("q", np.searchsorted(images, np.arange(count + 1), sorter=order).tobytes())
        self._images = array("i")

    def of(self, image: int) -> "ImageLabels":
        """The labels of an image."""
        return ImageLabels(self, self._starts[image], self._starts[image + 1])

    def labels(self, places: Iterable[int]) -> Iterator[Label]:
        """The labels at places among those grouped by image."""
        for place in places:
            number = self._order[place]
            mark = self._other_marks[number] if number in self._other_marks else self._marks[number]
            x, y, w, h = self._bboxes[4 * number : 4 * number + 4]
            name = self._names[self._classes[number]]
            yield Label((x, y, w, h), name, self._where(mark), self._scores[number], self._crowds[number] == 1)

    def class_names(self, places: Iterable[int]) -> Iterator[str]:
        """The class of each of the labels at these places."""
        return (self._names[self._classes[self._order[place]]] for place in places)


class ImageLabels(Sequence[Label]):
    """The labels of an image, which lie in the columns of many.

    Args:
        columns: of all images, grouped.
        start: place of the first.
        stop: place behind the last.
    """

    __slots__ = ("_columns", "_places")

    def __init__(self, columns: LabelColumns, start: int, stop: int) -> None:
        self._columns, self._places = columns, range(start, stop)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Label]:
        return self._columns.labels(self._places)

    @overload
    def __getitem__(self, index: int) -> Label: ...
    @overload
    def __getitem__(self, index: slice) -> list[Label]: ...
    def __getitem__(self, index: int | slice) -> Label | list[Label]:
        chosen = self._places[index]
        return list(self._columns.labels(chosen)) if isinstance(chosen, range) else next(self._columns.labels([chosen]))

    def class_names(self) -> Iterator[str]:
        """The class of each label."""
        return self._columns.class_names(self._places)


def class_names(labels: Iterable[Label]) -> Iterable[str]:
    """The class of each label; of labels in columns without making them."""
    return labels.class_names() if isinstance(labels, ImageLabels) else (label.defect_type for label in labels)
