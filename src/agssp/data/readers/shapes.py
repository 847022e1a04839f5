"""Upright boxes around the shapes that labelling tools draw (polygons, circles, rotated rectangles), and on photos."""

import math
from collections.abc import Iterable, Sequence

XYWH = tuple[float, float, float, float]


def box_of_points(points: Iterable[Sequence[float]]) -> XYWH:
    """The upright box xywh around points (x, y); no points are a ValueError."""
    xs, ys = zip(*((float(x), float(y)) for x, y in points), strict=True)
    left, top = min(xs), min(ys)
    return left, top, max(xs) - left, max(ys) - top


def box_of_outline(numbers: Sequence[float]) -> XYWH:
    """The upright box xywh around an outline given as x, y, x, y, ...; an odd or empty list is a ValueError."""
    if len(numbers) % 2 or not numbers:
        raise ValueError(f"expected pairs x, y, got {len(numbers)} numbers")
    return box_of_points(zip(numbers[::2], numbers[1::2], strict=True))


def box_of_circle(centre: Sequence[float], on_rim: Sequence[float]) -> XYWH:
    """The box xywh around a circle given by its centre and a point of its rim."""
    radius = math.dist(centre, on_rim)
    return centre[0] - radius, centre[1] - radius, 2 * radius, 2 * radius


def box_of_ellipse(centre: Sequence[float], rx: float, ry: float, degrees: float = 0.0) -> XYWH:
    """The upright box xywh around an ellipse of radii `rx` and `ry` that is turned clockwise about its centre."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # A sine of a right angle is not quite 0 or 1; see `rotated_box`.
    across, down = (round(math.hypot(*sides), 6) for sides in ((rx * cosine, ry * sine), (rx * sine, ry * cosine)))
    return centre[0] - across, centre[1] - down, 2 * across, 2 * down


def rotated_box(bbox: XYWH, degrees: float, pivot: Sequence[float] | None = None) -> XYWH:
    """The upright box around a rectangle that is turned clockwise, as seen on the image.

    Args:
        bbox: xywh of the rectangle before it is turned.
        degrees: of the turn.
        pivot: the point (x, y) that stays; default: the rectangle's centre.
    """
    x, y, w, h = bbox
    middle = pivot or (x + w / 2, y + h / 2)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
    turned = [
        (
            middle[0] + (left - middle[0]) * cosine - (top - middle[1]) * sine,
            middle[1] + (left - middle[0]) * sine + (top - middle[1]) * cosine,
        )
        for left, top in corners
    ]
    # Sines of right angles are not quite 0 or 1; a millionth of a px is nobody's label.
    return tuple(round(value, 6) for value in box_of_points(turned))  # type: ignore[return-value]


def upright_box(bbox: XYWH, stored: Sequence[float], orientation: int) -> XYWH:
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
