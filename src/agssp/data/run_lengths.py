"""Outlines in COCO's form, checked before they are drawn by a library that is not written in Python."""

import math
from collections.abc import Iterator
from typing import Any

from agssp.data.images import MAX_PIXELS

MOST_RIM = 5_000_000
"""Px that the rims of one outline's polygons may be long together; drawing takes 40 bytes for each."""

_DIGIT = 5
_MOST_DIGITS = 7


def checked_runs(outline: dict[str, Any]) -> dict[str, Any]:
    """Run lengths `{"size", "counts"}` of an image, down its columns, sound pixels first.

    Args:
        outline: `size` is (height, width) px; `counts` a list of numbers, or pycocotools' text of them.

    Returns:
        The same with `size` and `counts` as lists of int, none below 0, that make the image's pixels together, or
        fewer.

    Raises:
        ValueError, TypeError, KeyError: they are no such thing, or the image has more than `MAX_PIXELS`.
    """
    height, width = (_whole(side) for side in outline["size"])
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"run lengths of an image of {width} x {height} px")
    counts, sum_of_runs = [], 0
    given = outline["counts"]
    for run in _unpacked(given) if isinstance(given, (str, bytes)) else map(_whole, given):
        sum_of_runs += run
        if run < 0 or sum_of_runs > height * width:
            raise ValueError(f"a run of {run} px, {sum_of_runs:,} px in all, in an image of {width} x {height} px")
        counts.append(run)
    return {"size": [height, width], "counts": counts}


def checked_polygons(polygons: list[Any], size: tuple[int, int]) -> list[list[float]]:
    """Polygons `[[x, y, x, y, ...], ...]` that can be drawn in an image.

    Args:
        polygons: in px.
        size: (height, width) px of the image.

    Raises:
        ValueError, TypeError: one has half a point or one that lies nowhere near the image, none has 3 points, or the
            rims of all are longer than `MOST_RIM`.
    """
    checked, rim, reach = [], 0.0, 10.0 * max(size)
    for polygon in polygons:
        numbers = [float(number) for number in polygon]
        if len(numbers) % 2:
            raise ValueError(f"expected pairs x, y, got {len(numbers)} numbers")
        if len(numbers) < 6:
            # It has no area, and four numbers would be taken for a box.
            continue
        # Not a number is within no reach.
        if not all(abs(number) <= reach for number in numbers):
            raise ValueError(f"points outside of {-reach:g} to {reach:g} px in an image of {size[1]} x {size[0]} px")
        rim += sum(
            max(abs(numbers[at] - numbers[at - 2]), abs(numbers[at + 1] - numbers[at - 1])) + 1
            for at in range(0, len(numbers), 2)
        )
        if rim > MOST_RIM:
            raise ValueError(f"outlines of more than {MOST_RIM:,} px")
        checked.append(numbers)
    if not checked:
        raise ValueError("expected a polygon of 3 points or more")
    return checked


def _whole(value: Any) -> int:
    if isinstance(value, (bool, str)) or not math.isfinite(value) or value != int(value):
        raise ValueError(f"expected whole numbers, got {value!r}")
    return int(value)


def _unpacked(text: str | bytes) -> Iterator[int]:
    """The numbers of pycocotools' text: five bits a letter, the lowest first; from the fourth on, what is added."""
    letters = text.encode("ascii") if isinstance(text, str) else text
    before: list[int] = [0, 0, 0]
    number = digits = place = 0
    for letter in letters:
        bits = letter - 48
        if not 0 <= bits < 64 or digits == _MOST_DIGITS:
            raise ValueError(f"expected run lengths as pycocotools writes them, got {str(text)[:40]!r}")
        number |= (bits & 31) << _DIGIT * digits
        digits += 1
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << _DIGIT * digits
        if place > 2:
            number += before[-2]
        yield number
        before = [*before[1:], number]
        number, digits, place = 0, 0, place + 1
    if digits:
        raise ValueError("run lengths that are cut off")
