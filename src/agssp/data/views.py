"""What the self-supervised objectives see of an image: two views of it, or a part of it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from agssp.data.transforms import PretrainingAugmentation, PretrainingTransform
from agssp.errors import InputError


def augmentation(
    objective: str,
    size: int | None,
    image_mean: Sequence[float],
    image_std: Sequence[float],
    *,
    scale: tuple[float, float],
    vertical_flip: float,
    mask_unit: int,
    mask_ratio: float,
) -> PretrainingAugmentation:
    """How images become inputs: what each objective wants of them.

    Args:
        objective: of `AgsspPreTrainingConfig`.
        size: side of the input in px; None: 224, and 192 for `simmim`, as its authors have it.
        image_mean: of the backbone, on 0..1.
        image_std: of the backbone.
        scale: smallest and largest share of the image's area in a crop.
        vertical_flip: probability of mirroring top and bottom.
        mask_unit: `simmim`: side of a hidden patch in px.
        mask_ratio: `simmim`: share of the patches that is hidden.

    Raises:
        InputError: sizes that do not fit the objective.
    """
    size = size or (192 if objective == "simmim" else 224)

    def view(**changes: Any) -> PretrainingTransform:
        return PretrainingTransform(
            size, image_mean, image_std, max(size // 8, 1), scale=scale, vertical_flip=vertical_flip, **changes
        )

    if objective == "mocov3":
        # Its authors blur every first view and a tenth of the second ones, and solarise a fifth of the second ones.
        strong: dict[str, Any] = {"hsv": (0.1, 0.2, 0.4), "contrast": 0.4, "greyscale": 0.2}
        return TwoViews(view(**strong, blur=1.0), view(**strong, blur=0.1, solarise=0.2))
    if objective == "simmim":
        # Its authors crop and mirror only; colours that change would have to be guessed with the pixels.
        return HiddenPatches(view(hsv=(0.0, 0.0, 0.0)), mask_unit, mask_ratio)
    return view()


class TwoViews:
    """Two views of each image for MoCo v3, each with its own crop, flip and colour; the map follows the first.

    Args:
        first: how the first view is made.
        second: how the second is.
    """

    def __init__(self, first: PretrainingTransform, second: PretrainingTransform) -> None:
        self.first, self.second = first, second

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
                f"mask unit {unit} px does not divide the image size {transform.size}; take sizes such as "
                "--image-size 192 and --mask-unit 32"
            )
        cells = transform.size // unit
        if not 0 < ratio < 1 or math.ceil(cells * cells * ratio) == cells * cells:
            raise InputError(
                f"mask ratio {ratio} (--mask-ratio): expected a number above 0 and below 1 that leaves one of the "
                f"{cells * cells} patches of an image to be seen"
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
