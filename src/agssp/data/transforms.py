"""Augment an image and its anomaly map together for backbone pretraining; randomness comes from the caller."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, H, W), ((x / 255) - mean) / std."""
    tables = (np.arange(256, dtype=np.float32)[None] / 255 - np.float32(mean)[:, None]) / np.float32(std)[:, None]
    planes = np.empty((3, *image.shape[:2]), np.float32)
    # Every channel has 256 values only, so looking them up is several times faster than computing them.
    for channel, table, plane in zip(cv2.split(image), tables, planes, strict=True):
        cv2.LUT(channel, table, dst=plane)
    return torch.from_numpy(planes)


def jitter_hsv(image: np.ndarray, gains: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    """Scale hue, saturation and value by random factors, on bytes.

    Args:
        image: uint8 (H, W, 3) RGB.
        gains: largest relative change of hue, saturation and value.
        generator: source of the three factors.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    factors = generator.uniform(-1, 1, 3) * gains + 1
    levels = np.arange(256, dtype=np.float64)
    hue_table = (levels * factors[0] % 180).astype(np.uint8)
    other = [np.clip(levels * factor, 0, 255).astype(np.uint8) for factor in factors[1:]]
    # A grey image has no saturation to scale; only its brightness changes.
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    moved = [cv2.LUT(plane, table) for plane, table in zip((hue, saturation, value), (hue_table, *other), strict=True)]
    return cv2.cvtColor(cv2.merge(moved), cv2.COLOR_HSV2RGB)


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
    grid = torch.from_numpy(np.ascontiguousarray(anomaly_map, dtype=np.float32))[None, None]
    x0, y0, x1, y1 = box
    cells = max((x1 - x0) * grid.shape[-1], (y1 - y0) * grid.shape[-2])
    inner = size * max(1, math.ceil(cells / size))
    steps = (torch.arange(inner, dtype=torch.float32) + 0.5) / inner
    x = (x0 + (x1 - x0) * (1 - steps if flip else steps)) * 2 - 1
    y = (y0 + (y1 - y0) * steps) * 2 - 1
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    part = F.grid_sample(grid, points, mode="bilinear", padding_mode="border", align_corners=False)
    return (F.avg_pool2d(part, inner // size) if inner != size else part)[0, 0]


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
    ) -> None:
        self.size, self.map_size = size, map_size
        self.image_mean, self.image_std = image_mean, image_std
        self.scale, self.ratio, self.flip, self.vertical_flip, self.hsv = scale, ratio, flip, vertical_flip, hsv

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
        pixels = np.asarray(image)
        top, left, height, width = self._crop(*pixels.shape[:2], generator)
        flip, upside_down = generator.random() < self.flip, generator.random() < self.vertical_flip
        part = pixels[top : top + height, left : left + width]
        shrinking = part.shape[0] > self.size and part.shape[1] > self.size
        resized = cv2.resize(
            part, (self.size, self.size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        )
        if flip:
            resized = cv2.flip(resized, 1)
        if upside_down:
            resized = cv2.flip(resized, 0)
        item = {"pixel_values": normalise(jitter_hsv(resized, self.hsv, generator), self.image_mean, self.image_std)}
        if anomaly_map is not None:
            full_height, full_width = pixels.shape[:2]
            box = (left / full_width, top / full_height, (left + width) / full_width, (top + height) / full_height)
            sampled = sample_map(anomaly_map, box, self.map_size, flip=flip)
            item["anomaly_maps"] = sampled.flip(0) if upside_down else sampled
        return item

    def evaluation(self, image: Image.Image, anomaly_map: np.ndarray | None) -> dict[str, Tensor]:
        """Squash the whole image to the input, without randomness; same keys as a call."""
        pixels = cv2.resize(np.asarray(image), (self.size, self.size), interpolation=cv2.INTER_AREA)
        item = {"pixel_values": normalise(pixels, self.image_mean, self.image_std)}
        if anomaly_map is not None:
            item["anomaly_maps"] = sample_map(anomaly_map, (0, 0, 1, 1), self.map_size)
        return item

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
