"""Images that exports are compared on where the user gives none."""

import numpy as np

from agssp.data.synthetic import SURFACES, add_defects


def drawn_images(side: int) -> list[np.ndarray]:
    """Three images with drawn defects, uint8 (H, W, 3): a square, a wide and a high one."""
    shapes = ((1.0, 1.0), (0.6, 1.0), (1.0, 0.45))
    images = []
    for index, (draw, (height, width)) in enumerate(zip(SURFACES.values(), shapes, strict=True)):
        generator = np.random.default_rng(index)
        grey, _ = add_defects(draw(side, generator), generator)
        images.append(np.repeat(grey[: round(height * side), : round(width * side), None], 3, axis=2))
    return images
