"""What is known of an image's defects: its mask, or what boxes and `is_normal` say in its place."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ImageChops

from agssp.data.images import ImageError, decode_image


@dataclass(frozen=True)
class ImageTruth:
    """Whether and where an image is defective.

    Attributes:
        defective: None where nothing tells.
        mask: bool (H, W), true on defects; None where the pixels are not known.
    """

    defective: bool | None
    mask: np.ndarray | None


def image_truth(row: Mapping[str, Any], size: Sequence[int], *, boxes_as_mask: bool = False) -> ImageTruth:
    """Put together what a row of the schema says of its image's defects.

    An image is defective if its mask has a pixel, if it has a box, be it a crowd region, or if it is said not to be
    normal. It is sound if
    none of these holds and it has an empty mask or list of boxes, or is said to be normal; then its mask is empty.

    Args:
        row: `image_id` and, where known, `is_normal`, `mask` and `objects`.
        size: (H, W) px of the image.
        boxes_as_mask: where there is no mask, the pixels in the boxes take its place; not with crowd regions, of which
            nobody has said how much is defective.

    Raises:
        ImageError: the mask cannot be read, or is of another size than its image.
    """
    mask = None
    if row.get("mask") is not None:
        mask = decode_mask(row["mask"], f"mask of {row['image_id']}")
        if mask.shape != tuple(size):
            raise ImageError(
                f"{row['image_id']}: its mask is {mask.shape[1]} x {mask.shape[0]} px, the image {size[1]} x {size[0]}"
            )
    objects, is_normal = row.get("objects"), row.get("is_normal")
    boxes = objects["bbox"] if objects is not None else []
    has_crowds = objects is not None and any(objects.get("iscrowd") or [])
    if (mask is not None and mask.any()) or len(boxes) or is_normal is False:
        defective: bool | None = True
    else:
        defective = False if mask is not None or objects is not None or is_normal else None
    if mask is None and defective is False:
        mask = np.zeros(tuple(size), bool)
    elif mask is None and len(boxes) and boxes_as_mask and not has_crowds:
        mask = box_mask(boxes, size)
    return ImageTruth(defective, mask)


def decode_mask(value: Any, name: str = "mask") -> np.ndarray:
    """Read a mask of 0 (sound) and 255 (defect), as bool (H, W).

    Values in between, as a lossy file has them, count from 128 on; where none is that high (0 and 1, numbers of
    classes) all but 0 counts.

    Args:
        value: whatever `decode_image` takes.
        name: how to name the mask in an error.

    Raises:
        ImageError: it cannot be read.
    """
    red, green, blue = decode_image(value, name).split()
    values = np.asarray(ImageChops.lighter(red, ImageChops.lighter(green, blue)))
    return values > (127 if values.max() > 127 else 0)


def box_mask(boxes: Sequence[Sequence[float]], size: Sequence[int]) -> np.ndarray:
    """Every pixel that a box touches, as bool (H, W).

    Args:
        boxes: COCO xywh px, inside the image.
        size: (H, W) px.
    """
    mask = np.zeros(tuple(size), bool)
    for x, y, w, h in boxes:
        mask[math.floor(y) : math.ceil(y + h), math.floor(x) : math.ceil(x + w)] = True
    return mask
