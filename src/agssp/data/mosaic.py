"""Augment images and boxes for detectors: a mosaic of four whose geometry is folded into one resize a tile."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from agssp.data.transforms import jitter_hsv, normalise
from agssp.letterbox import GREY, letterbox, letterbox_geometry

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
        self.size, self.image_mean, self.image_std = size, image_mean, image_std
        self.mosaic, self.scale, self.translate = mosaic, scale, translate
        self.hsv, self.flip, self.vertical_flip = hsv, flip, vertical_flip

    def __call__(self, samples: Sequence[dict[str, np.ndarray]], generator: np.random.Generator) -> dict[str, Any]:
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
        shift = generator.uniform(0.5 - self.translate, 0.5 + self.translate, 2) * self.size
        canvas = np.full((self.size, self.size, 3), GREY, np.uint8)
        if len(samples) == 4:
            centre = generator.uniform(0.5, 1.5, 2) * self.size
            placed = [self._tile(canvas, tile, i, centre, gain, shift) for i, tile in enumerate(samples)]
        else:
            placed = [self._single(canvas, samples[0], gain, shift)]
        boxes = np.concatenate([part[0] for part in placed])
        class_labels = np.concatenate([part[1] for part in placed])
        boxes, class_labels = keep_visible(boxes, class_labels, self.size)

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

    def evaluation(self, sample: dict[str, np.ndarray]) -> dict[str, Any]:
        """Letterbox one image without randomness; same keys as a call."""
        image, boxes = sample["image"], sample["boxes"]
        geometry = letterbox_geometry(image.shape[:2], (self.size, self.size))
        moved = boxes * np.float32([geometry.scale[1], geometry.scale[0]] * 2)
        moved = moved + np.float32([geometry.left, geometry.top] * 2)
        return {
            "pixel_values": normalise(letterbox(image, (self.size, self.size)), self.image_mean, self.image_std),
            "labels": to_labels(moved, sample["class_labels"], self.size),
        }

    def _tile(
        self,
        canvas: np.ndarray,
        tile: dict[str, np.ndarray],
        index: int,
        centre: np.ndarray,
        gain: float,
        shift: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste one tile of a mosaic: its inner corner at the centre, cut to its quarter of the double canvas."""
        height, width = tile["image"].shape[:2]
        fit = self.size / max(height, width)
        h, w = height * fit, width * fit
        right, below = index % 2, index // 2
        origin = np.array([centre[0] if right else centre[0] - w, centre[1] if below else centre[1] - h])
        low = np.array([centre[0] if right else 0.0, centre[1] if below else 0.0])
        high = np.array([2.0 * self.size if right else centre[0], 2.0 * self.size if below else centre[1]])
        # The double canvas is scaled about its middle and the middle lands at `shift`.
        low, high, origin = ((corner - self.size) * gain + shift for corner in (low, high, origin))
        return paste(canvas, tile, origin, fit * gain, low, high)

    def _single(
        self, canvas: np.ndarray, sample: dict[str, np.ndarray], gain: float, shift: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        height, width = sample["image"].shape[:2]
        fit = self.size / max(height, width) * gain
        origin = shift - np.array([width, height]) * fit / 2
        return paste(canvas, sample, origin, fit, np.zeros(2), np.full(2, self.size))


def paste(
    canvas: np.ndarray,
    sample: dict[str, np.ndarray],
    origin: np.ndarray,
    scale: float,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scaled image onto a canvas, within a window, and move its boxes.

    Args:
        canvas: uint8 (S, S, 3), drawn on.
        sample: image, boxes and labels.
        origin: (x, y) of the image's corner on the canvas.
        scale: canvas px per image px.
        low: (x, y) of the window's upper left corner.
        high: (x, y) of its lower right corner.

    Returns:
        Boxes (n, 6): xyxy clipped to the window and canvas, then the unclipped width and height; and their labels.
    """
    image, boxes = sample["image"], sample["boxes"]
    side = canvas.shape[0]
    height, width = image.shape[:2]
    x0, y0 = np.rint(np.maximum(np.maximum(origin, low), 0)).astype(int)
    x1, y1 = np.rint(np.minimum(np.minimum(origin + np.array([width, height]) * scale, high), side)).astype(int)
    if x1 > x0 and y1 > y0:
        # Only the part of the image that will be seen is resized; a pixel's centre decides what it shows.
        matrix = np.array(
            [[1 / scale, 0, (x0 - origin[0] + 0.5) / scale - 0.5], [0, 1 / scale, (y0 - origin[1] + 0.5) / scale - 0.5]]
        )
        cv2.warpAffine(
            image,
            matrix,
            (int(x1 - x0), int(y1 - y0)),
            dst=canvas[y0:y1, x0:x1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    moved = boxes * np.float32(scale) + np.tile(origin, 2).astype(np.float32)
    sizes = moved[:, 2:] - moved[:, :2]
    lower, upper = np.maximum(low, 0), np.minimum(high, side)
    clipped = np.clip(moved, np.tile(lower, 2), np.tile(upper, 2)).astype(np.float32)
    return np.concatenate([clipped, sizes], 1), sample["class_labels"]


def keep_visible(boxes: np.ndarray, class_labels: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Drop boxes of which too little is left: sides over 2 px, a tenth of the area, aspect under 100 (as ultralytics).

    Args:
        boxes: (n, 6) from `paste`.
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
