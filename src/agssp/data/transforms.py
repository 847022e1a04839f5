"""Augment an image and its anomaly map together for backbone pretraining; randomness comes from the caller."""

import math
from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


class PretrainingAugmentation(Protocol):
    """What turns an image and its map into the inputs of backbone pretraining."""

    def __call__(
        self, image: Image.Image, anomaly_map: np.ndarray | None, generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """For training: all randomness comes from the generator."""

    def evaluation(self, image: Image.Image, anomaly_map: np.ndarray | None) -> dict[str, Tensor]:
        """For held-out images: without randomness."""


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, H, W), ((x / 255) - mean) / std."""
    divisors = 255 * np.asarray(std, np.float32)
    offsets = np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    planes = np.empty((3, *image.shape[:2]), np.float32)
    for channel, plane, divisor, offset in zip(cv2.split(image), planes, divisors, offsets, strict=True):
        np.divide(channel, divisor, out=plane)
        if offset:
            plane -= offset
    return torch.from_numpy(planes)


def jitter_hsv(image: np.ndarray, gains: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    """Turn the hue, and scale saturation and value, by random amounts, on bytes.

    Args:
        image: uint8 (H, W, 3) RGB.
        gains: largest turn of the hue as a share of the circle, and largest relative change of saturation and of value,
            all in 0..1.
        generator: source of the three amounts.

    Returns:
        uint8 (H, W, 3) RGB; grey pixels stay grey. With gains of 0 the image itself.
    """
    turn, saturation_gain, value_gain = generator.uniform(-1, 1, 3) * gains
    if not any(gains):
        return image  # there and back through HSV would round
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
    # In the FULL form the hue's circle has 256 steps, so that bytes wrap around as hues do.
    hue += np.uint8(round(turn * 256) % 256)
    cv2.convertScaleAbs(saturation, dst=saturation, alpha=1 + saturation_gain)
    cv2.convertScaleAbs(value, dst=value, alpha=1 + value_gain)
    return cv2.cvtColor(cv2.merge((hue, saturation, value)), cv2.COLOR_HSV2RGB_FULL)


def blur(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Gaussian blur of a random width, sigma 0.1 to 2 px at 224 px and in proportion at other sizes (SimCLR).

    Args:
        image: uint8 (H, W, 3).
        generator: source of the width.

    Returns:
        uint8 (H, W, 3).
    """
    return cv2.GaussianBlur(image, (0, 0), generator.uniform(0.1, 2.0) * max(image.shape[:2]) / 224)


def change_contrast(image: np.ndarray, gain: float, generator: np.random.Generator) -> np.ndarray:
    """Scale the differences from the mean brightness by 1 - gain to 1 + gain; uint8 (H, W, 3) both."""
    factor = 1 + gain * generator.uniform(-1, 1)
    mean = float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean())
    return cv2.addWeighted(image, factor, image, 0, (1 - factor) * mean)


def solarise(image: np.ndarray) -> np.ndarray:
    """Invert what is brighter than the middle; uint8 (H, W, 3) both."""
    return np.where(image >= 128, 255 - image, image)


def resize_antialiased(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize as torchvision's v2 transforms do: bilinear, with all pixels counted when it shrinks.

    Args:
        image: uint8 (H, W, 3).
        size: (height, width) of the result.

    Returns:
        uint8 (height, width, 3).
    """
    # torch's kernel for bytes in this memory layout is several times faster than OpenCV's INTER_AREA.
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def sample_map(anomaly_map: np.ndarray, box: Sequence[float], size: int, *, flip: bool = False) -> Tensor:
    """Cut a part out of a map that lies on its grid, and resize it: what cropping the image does to the map.

    The grid covers the image edge to edge (each cell the patch it was computed from), values between cells are
    bilinear, and beyond the outer cell centres the border value holds. When the part holds more cells than the result,
    the result is averaged down (antialiased).

    Args:
        anomaly_map: (g, g) floating point.
        box: (x0, y0, x1, y1) of the part, as fractions of the image, inside 0..1.
        size: side of the result.
        flip: mirror left and right.

    Returns:
        float32 (size, size).
    """
    grid = np.asarray(anomaly_map, dtype=np.float32)
    x0, y0, x1, y1 = box
    part = _tent_weights(y0, y1, grid.shape[0], size) @ grid @ _tent_weights(x0, x1, grid.shape[1], size).T
    return torch.from_numpy(np.ascontiguousarray(part[:, ::-1] if flip else part))


def _tent_weights(start: float, stop: float, cells: int, size: int) -> np.ndarray:
    """What each cell of a line adds to each of `size` values between two places on it, float32 (size, cells)."""
    samples = max(1, math.ceil((stop - start) * cells / size))
    steps = (np.arange(size * samples, dtype=np.float32) + 0.5) / (size * samples)
    places = np.clip((start + (stop - start) * steps) * cells - 0.5, 0, cells - 1)
    tents = np.maximum(1 - np.abs(places[:, None] - np.arange(cells, dtype=np.float32)), 0)
    return tents.reshape(size, samples, cells).mean(1)


class PretrainingTransform:
    """Random resized crop, flip and colour of an image; the map follows the geometry.

    Args:
        size: side of the input in px.
        image_mean: of the backbone, on 0..1.
        image_std: of the backbone.
        map_size: side of the map that is returned.
        scale: smallest and largest share of the image's area in a crop.
        ratio: smallest and largest aspect ratio of a crop.
        flip: probability of mirroring left and right.
        vertical_flip: probability of mirroring top and bottom.
        hsv: largest relative change of hue, saturation and value.
        contrast: largest relative change of contrast.
        blur: probability of a Gaussian blur.
        solarise: probability of inverting the bright half.
        greyscale: probability of taking the colour away.
    """

    def __init__(
        self,
        size: int,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        map_size: int,
        *,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        vertical_flip: float = 0.0,
        hsv: tuple[float, float, float] = (0.015, 0.4, 0.4),
        contrast: float = 0.0,
        blur: float = 0.0,
        solarise: float = 0.0,
        greyscale: float = 0.0,
    ) -> None:
        self.size, self.map_size = size, map_size
        self.image_mean, self.image_std = image_mean, image_std
        self.scale, self.ratio, self.flip, self.vertical_flip, self.hsv = scale, ratio, flip, vertical_flip, hsv
        self.contrast, self.blur, self.solarise, self.greyscale = contrast, blur, solarise, greyscale

    def __call__(
        self, image: Image.Image, anomaly_map: np.ndarray | None, generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """Augment one image.

        Args:
            image: RGB.
            anomaly_map: (g, g) on the grid, or None.
            generator: all randomness.

        Returns:
            `pixel_values` float32 (3, size, size) and, with a map, `anomaly_maps` float32 (map_size, map_size).
        """
        top, left, height, width = self._crop(image.height, image.width, generator)
        flip, upside_down = generator.random() < self.flip, generator.random() < self.vertical_flip
        part = np.array(image.crop((left, top, left + width, top + height)))
        resized = resize_antialiased(part, (self.size, self.size))
        if flip:
            resized = cv2.flip(resized, 1)
        if upside_down:
            resized = cv2.flip(resized, 0)
        pixels = self._recolour(jitter_hsv(resized, self.hsv, generator), generator)
        item = {"pixel_values": normalise(pixels, self.image_mean, self.image_std)}
        if anomaly_map is not None:
            corners = (left, top, left + width, top + height)
            box = [corner / side for corner, side in zip(corners, image.size * 2, strict=True)]
            sampled = sample_map(anomaly_map, box, self.map_size, flip=flip)
            item["anomaly_maps"] = sampled.flip(0) if upside_down else sampled
        return item

    def evaluation(self, image: Image.Image, anomaly_map: np.ndarray | None) -> dict[str, Tensor]:
        """Squash the whole image to the input, without randomness; same keys as a call."""
        pixels = resize_antialiased(np.array(image), (self.size, self.size))
        item = {"pixel_values": normalise(pixels, self.image_mean, self.image_std)}
        if anomaly_map is not None:
            item["anomaly_maps"] = sample_map(anomaly_map, (0, 0, 1, 1), self.map_size)
        return item

    def _recolour(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The photometric changes that are off by default; no random number is drawn for one that is off."""
        if self.contrast:
            image = change_contrast(image, self.contrast, generator)
        if self.greyscale and generator.random() < self.greyscale:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if self.blur and generator.random() < self.blur:
            image = blur(image, generator)
        if self.solarise and generator.random() < self.solarise:
            image = solarise(image)
        return image

    def _crop(self, height: int, width: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
        """(top, left, height, width) of a crop, as torchvision's RandomResizedCrop draws it."""
        for _ in range(10):
            area = height * width * generator.uniform(*self.scale)
            ratio = math.exp(generator.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1)), h, w
        side_w = min(width, max(1, round(height * self.ratio[1])))
        side_h = min(height, max(1, round(width / self.ratio[0])))
        return (height - side_h) // 2, (width - side_w) // 2, side_h, side_w
