"""Augment images and boxes for detectors: a mosaic of four whose geometry is folded into one resize a tile."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from agssp.data.letterbox import GREY, letterbox, letterbox_geometry
from agssp.data.transforms import jitter_hsv, normalise
from agssp.errors import InputError

MIN_SIDE = 2.0
MIN_VISIBLE = 0.1
MAX_ASPECT = 100.0


class DetectionTransform:
    """Mosaic or single image with random scale and translation, HSV and flip, as YOLOs are trained.

    YOLO pastes four tiles around a random centre on a canvas of twice the input, then scales the canvas by 1 +- `scale`
    and moves it by +- `translate` of the input. As it neither rotates nor shears by default, each tile's share of
    that is one resize and one paste, which is what is done here: the same pictures many times faster.

    Args:
        size: side of the square input in px.
        image_mean: of the backbone, on 0..1.
        image_std: of the backbone.
        mosaic: probability of a mosaic, where four samples are given.
        scale: largest relative change of size.
        translate: largest shift as a share of the input.
        hsv: largest relative change of hue, saturation and value.
        flip: probability of mirroring left and right.
        vertical_flip: probability of mirroring top and bottom.
    """

    def __init__(
        self,
        size: int,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        *,
        mosaic: float = 1.0,
        scale: float = 0.5,
        translate: float = 0.1,
        hsv: tuple[float, float, float] = (0.015, 0.7, 0.4),
        flip: float = 0.5,
        vertical_flip: float = 0.0,
    ) -> None:
        if not 0 <= scale < 1 or not all(0 <= gain <= 1 for gain in hsv):
            raise InputError(f"expected a scale in 0..1 (below 1) and hsv gains in 0..1, got {scale} and {hsv}")
        self.size, self.image_mean, self.image_std = size, image_mean, image_std
        self.mosaic, self.scale, self.translate = mosaic, scale, translate
        self.hsv, self.flip, self.vertical_flip = hsv, flip, vertical_flip

    def __call__(self, samples: Sequence[dict[str, Any]], generator: np.random.Generator) -> dict[str, Any]:
        """Augment one image, or four into one.

        Args:
            samples: one or four of {`image`: uint8 (H, W, 3) RGB, `boxes`: float32 (n, 4) xyxy px, `class_labels`:
                int64 (n,)}; the first is the one the result stands for.
            generator: all randomness.

        Returns:
            `pixel_values` float32 (3, size, size) and `labels` {`class_labels` int64 (n,), `boxes` float32 (n, 4)
            cxcywh in 0..1}.
        """
        gain = generator.uniform(1 - self.scale, 1 + self.scale)
        middle = generator.uniform(0.5 - self.translate, 0.5 + self.translate, 2) * self.size
        centre = generator.uniform(0.5, 1.5, 2) * self.size if len(samples) == 4 else None
        canvas, boxes, class_labels = compose(samples, self.size, gain, middle, centre)

        canvas = jitter_hsv(canvas, self.hsv, generator)
        if generator.random() < self.flip:
            canvas = cv2.flip(canvas, 1)
            boxes[:, [0, 2]] = self.size - boxes[:, [2, 0]]
        if generator.random() < self.vertical_flip:
            canvas = cv2.flip(canvas, 0)
            boxes[:, [1, 3]] = self.size - boxes[:, [3, 1]]
        return {
            "pixel_values": normalise(canvas, self.image_mean, self.image_std),
            "labels": to_labels(boxes, class_labels, self.size),
        }

    def evaluation(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Letterbox one image without randomness; same keys as a call."""
        image, boxes = sample["image"], sample["boxes"]
        geometry = letterbox_geometry(image.shape[:2], (self.size, self.size))
        moved = boxes * np.array(geometry.scale[::-1] * 2, np.float32)
        moved += np.array([geometry.left, geometry.top] * 2, np.float32)
        return {
            "pixel_values": normalise(letterbox(image, (self.size, self.size)), self.image_mean, self.image_std),
            "labels": to_labels(moved, sample["class_labels"], self.size),
        }


def compose(
    samples: Sequence[dict[str, Any]],
    size: int,
    gain: float,
    middle: np.ndarray,
    centre: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one image, or a mosaic of four, scaled and moved.

    ultralytics' `Mosaic` (or `LetterBox`) and `RandomPerspective` make the same picture in two steps, but for rounding
    to whole pixels.

    Args:
        samples: one or four, as `DetectionTransform` takes them.
        size: side S of the result in px.
        gain: scale on top of the one that makes each image's long side S.
        middle: (x, y) in px of the result where the middle of the double canvas (or of the single image) comes to lie.
        centre: (x, y) in px of the double canvas where the four tiles meet; for four samples only.

    Returns:
        uint8 (S, S, 3); boxes float32 (n, 4) xyxy px, those that are still visible; class labels int64 (n,).

    Raises:
        InputError: neither one sample nor four.
    """
    if len(samples) != (1 if centre is None else 4):
        raise InputError(f"expected one sample, or four and the centre where they meet; got {len(samples)}")
    canvas = np.full((size, size, 3), GREY, np.uint8)
    placed = []
    for index, sample in enumerate(samples):
        sides = np.array(sample["image"].shape[1::-1])
        scale = size / sides.max() * gain
        if centre is None:
            origin, low, high = middle - sides * scale / 2, np.zeros(2), np.full(2, float(size))
        else:
            # The double canvas is scaled about its middle (S, S); a tile is cut to its quarter of it.
            meeting = (centre - size) * gain + middle
            after = np.array([index % 2, index // 2], dtype=bool)
            origin = np.where(after, meeting, meeting - sides * scale)
            low = np.where(after, meeting, middle - size * gain)
            high = np.where(after, middle + size * gain, meeting)
        placed.append(paste(canvas, sample, origin, scale, low, high))
    boxes, class_labels = (np.concatenate(parts) for parts in zip(*placed, strict=True))
    return canvas, *keep_visible(boxes, class_labels, size)


def paste(
    canvas: np.ndarray,
    sample: dict[str, Any],
    origin: np.ndarray,
    scale: float,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scaled image onto a canvas, within a window, and move its boxes exactly as its pixels.

    Args:
        canvas: uint8 (S, S, 3), drawn on.
        sample: image, boxes and labels.
        origin: (x, y) of the image's corner on the canvas.
        scale: canvas px per image px.
        low: (x, y) of the window's upper left corner.
        high: (x, y) of its lower right corner.

    Returns:
        Boxes (n, 6): xyxy clipped to the window and the canvas, then width and height clipped to the window only; and
        their labels.
    """
    image = sample["image"]
    x, y = (
        _Span.place(origin[axis], scale, image.shape[1 - axis], low[axis], high[axis], canvas.shape[0])
        for axis in (0, 1)
    )
    if x is None or y is None:
        return np.zeros((0, 6), np.float32), np.zeros(0, np.int64)
    part = image[y.source[0] : y.source[1], x.source[0] : x.source[1]]
    size = (x.placed[1] - x.placed[0], y.placed[1] - y.placed[0])
    resized = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)
    canvas[y.seen[0] : y.seen[1], x.seen[0] : x.seen[1]] = resized[
        y.seen[0] - y.placed[0] : y.seen[1] - y.placed[0], x.seen[0] - x.placed[0] : x.seen[1] - x.placed[0]
    ]
    boxes = sample["boxes"]
    moved = np.stack([x.move(boxes[:, 0]), y.move(boxes[:, 1]), x.move(boxes[:, 2]), y.move(boxes[:, 3])], 1)
    clipped = np.clip(moved, (x.seen[0], y.seen[0]) * 2, (x.seen[1], y.seen[1]) * 2)
    whole = np.clip(moved, np.tile(low, 2), np.tile(high, 2))
    return np.concatenate([clipped, whole[:, 2:] - whole[:, :2]], 1).astype(np.float32), sample["class_labels"]


class _Span(NamedTuple):
    """One axis of a scaled image on a canvas, in whole pixels; the scale is off by what this rounding takes.

    Attributes:
        source: First and last + 1 of the image's pixels that are needed.
        placed: Where these come to lie on the canvas.
        seen: The part of it that is drawn.
    """

    source: tuple[int, int]
    placed: tuple[int, int]
    seen: tuple[int, int]

    @classmethod
    def place(cls, origin: float, scale: float, length: int, low: float, high: float, side: int) -> "_Span | None":
        """Place an image of `length` px at `origin`, seen between `low` and `high`; None if nothing of it is seen."""
        seen = round(max(origin, low, 0)), round(min(origin + length * scale, high, side))
        if seen[1] <= seen[0]:
            return None
        # Only what will be seen is resized, which is most of the time that a mosaic takes.
        first = max(math.floor((seen[0] - origin) / scale), 0)
        last = min(math.ceil((seen[1] - origin) / scale), length)
        return cls((first, last), (round(origin + first * scale), round(origin + last * scale)), seen)

    def move(self, positions: np.ndarray) -> np.ndarray:
        """Positions along the image -> along the canvas."""
        factor = (self.placed[1] - self.placed[0]) / (self.source[1] - self.source[0])
        return (positions - self.source[0]) * factor + self.placed[0]


def keep_visible(boxes: np.ndarray, class_labels: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Drop boxes of which too little is left: sides over 2 px, a tenth of the area, aspect under 100 (as ultralytics).

    Args:
        boxes: (n, 6) from `paste`, whose last two are width and height of all that could be seen.
        class_labels: (n,).
        side: of the canvas in px.

    Returns:
        Boxes (m, 4) xyxy px inside the canvas, and their labels.
    """
    corners, full = boxes[:, :4], boxes[:, 4:]
    width, height = (corners[:, 2] - corners[:, 0]), (corners[:, 3] - corners[:, 1])
    aspect = np.maximum(width / (height + 1e-6), height / (width + 1e-6))
    visible = width * height / (full[:, 0] * full[:, 1] + 1e-6)
    keep = (width > MIN_SIDE) & (height > MIN_SIDE) & (visible > MIN_VISIBLE) & (aspect < MAX_ASPECT)
    return np.clip(corners[keep], 0, side), class_labels[keep]


def to_labels(boxes: np.ndarray, class_labels: np.ndarray, side: int) -> dict[str, Tensor]:
    """Corner boxes in px -> transformers' labels: `class_labels` int64 (n,) and `boxes` float32 (n, 4) cxcywh 0..1."""
    corners = torch.from_numpy(np.ascontiguousarray(boxes, dtype=np.float32)).reshape(-1, 4) / side
    centres, sizes = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    return {
        "class_labels": torch.from_numpy(np.asarray(class_labels, dtype=np.int64)),
        "boxes": torch.cat([centres, sizes], 1),
    }
