"""What the self-supervised objectives see of an image: two views of it, or a part of it."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from agssp.data.transforms import PretrainingTransform
from agssp.errors import InputError


class TwoViews:
    """Two views of each image for MoCo v3; the map follows the first.

    Each view has its own crop, flip and colour. Its authors blur every first view and a tenth of the second ones, and
    solarise a fifth of the second ones.

    Args:
        size: side of the input in px.
        image_mean: of the backbone, on 0..1.
        image_std: of the backbone.
        map_size: side of the map that is returned.
        scale: smallest and largest share of the image's area in a crop.
        vertical_flip: probability of mirroring top and bottom.
    """

    def __init__(
        self,
        size: int,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        map_size: int,
        *,
        scale: tuple[float, float] = (0.2, 1.0),
        vertical_flip: float = 0.0,
    ) -> None:
        def view(blur: float, solarise: float) -> PretrainingTransform:
            return PretrainingTransform(
                size, image_mean, image_std, map_size, scale=scale, vertical_flip=vertical_flip, hsv=(0.1, 0.2, 0.4),
                contrast=0.4, greyscale=0.2, blur=blur, solarise=solarise,
            )  # fmt: skip

        self.first, self.second = view(1.0, 0.0), view(0.1, 0.2)

    def __call__(
        self, image: Image.Image, anomaly_map: np.ndarray | None, generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """As `PretrainingTransform`, with `second_views` float32 (3, size, size)."""
        first, second = self.first(image, anomaly_map, generator), self.second(image, None, generator)
        return {**first, "second_views": second["pixel_values"]}

    def evaluation(self, image: Image.Image, anomaly_map: np.ndarray | None) -> dict[str, Tensor]:
        """The whole image alone: without a second view there is no task to measure."""
        return self.first.evaluation(image, anomaly_map)


class HiddenPatches:
    """Images with patches to hide, for SimMIM.

    Args:
        transform: what the images get beside.
        unit: side of a hidden patch in px.
        ratio: share of the patches that is hidden, above 0 and below 1.

    Raises:
        InputError: the input is not a whole number of units, or the ratio hides nothing or all.
    """

    def __init__(self, transform: PretrainingTransform, unit: int, ratio: float) -> None:
        if unit < 1 or transform.size % unit:
            raise InputError(
                f"mask unit {unit} px does not divide the image size {transform.size}; take sizes such as 192 and 32"
            )
        cells = transform.size // unit
        if not 0 < ratio < 1 or math.ceil(cells * cells * ratio) == cells * cells:
            raise InputError(
                f"mask ratio {ratio}: expected a number above 0 and below 1 that leaves one of the {cells * cells} "
                "patches of an image to be seen"
            )
        self.transform, self.cells, self.ratio = transform, cells, ratio

    def __call__(
        self, image: Image.Image, anomaly_map: np.ndarray | None, generator: np.random.Generator
    ) -> dict[str, Tensor]:
        """As the transform, with `masks` bool (size / unit, size / unit)."""
        item = self.transform(image, anomaly_map, generator)
        return {**item, "masks": random_mask(self.cells, self.ratio, generator)}

    def evaluation(self, image: Image.Image, anomaly_map: np.ndarray | None) -> dict[str, Tensor]:
        """The whole image, and the same mask for each."""
        mask = random_mask(self.cells, self.ratio, np.random.default_rng(0))
        return {**self.transform.evaluation(image, anomaly_map), "masks": mask}


def random_mask(cells: int, ratio: float, generator: np.random.Generator) -> Tensor:
    """Hide a share of the cells of a square grid.

    Args:
        cells: side of the grid.
        ratio: share that is hidden, 0..1; rounded up to whole cells.
        generator: chooses which.

    Returns:
        bool (cells, cells), True is hidden.
    """
    mask = np.zeros(cells * cells, bool)
    mask[generator.permutation(cells * cells)[: math.ceil(cells * cells * ratio)]] = True
    return torch.from_numpy(mask.reshape(cells, cells))
