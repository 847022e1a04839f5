"""How an image lies in a square input with its aspect ratio kept, between bars of grey, and becomes numbers."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

GREY = 114  # what ultralytics pads with, so what its weights have seen


class Letterbox(NamedTuple):
    """The place of an image in an input.

    Attributes:
        scale: Pixels of the input per pixel of the image, down and across. They differ by the rounding of `resized`.
        resized: (height, width) of the image after resizing.
        top: Rows of grey above the image.
        left: Columns of grey on its left.
    """

    scale: tuple[float, float]
    resized: tuple[int, int]
    top: int
    left: int


def letterbox_geometry(image_size: Sequence[int], input_size: Sequence[int]) -> Letterbox:
    """Place an image in an input: the largest scale that fits, centred, an odd pixel of padding on the far side.

    The same numbers as ultralytics' `LetterBox`.

    Args:
        image_size: (height, width) of the image.
        input_size: (height, width) of the network's input.
    """
    fit = min(side / original for side, original in zip(input_size, image_size, strict=True))
    height, width = (max(round(side * fit), 1) for side in image_size)
    # The tenth of a pixel decides on which side the odd pixel goes.
    top, left = (round((outer - inner) / 2 - 0.1) for outer, inner in zip(input_size, (height, width), strict=True))
    return Letterbox((height / image_size[0], width / image_size[1]), (height, width), top, left)


def letterbox(image: np.ndarray, input_size: Sequence[int]) -> np.ndarray:
    """Fit an image into an input.

    Args:
        image: uint8 (H, W, 3).
        input_size: (height, width) of the result.

    Returns:
        uint8 (height, width, 3).
    """
    geometry = letterbox_geometry(image.shape[:2], input_size)
    height, width = geometry.resized
    if image.shape[:2] != geometry.resized:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    canvas = np.full((*input_size, 3), GREY, dtype=np.uint8)
    canvas[geometry.top : geometry.top + height, geometry.left : geometry.left + width] = image
    return canvas


def letterboxed_input(
    images: Sequence[np.ndarray], input_size: Sequence[int], mean: Sequence[float], std: Sequence[float]
) -> np.ndarray:
    """Fit images into a network's input and normalise them.

    Args:
        images: uint8 (H, W, 3) each, in RGB.
        input_size: (height, width) of the input.
        mean: Of each channel on the scale 0..1.
        std: Standard deviation likewise.

    Returns:
        float32 (B, 3, height, width).
    """
    means, stds = (np.asarray(value, dtype=np.float32)[:, None] for value in (mean, std))
    # Every channel has 256 values only, so looking them up is several times faster than computing them.
    tables = (np.arange(256, dtype=np.float32) / 255 - means) / stds
    pixel_values = np.empty((len(images), 3, *input_size), dtype=np.float32)
    for image, values in zip(images, pixel_values, strict=True):
        for channel, table, out in zip(cv2.split(letterbox(image, input_size)), tables, values, strict=True):
            cv2.LUT(channel, table, dst=out)
    return pixel_values
