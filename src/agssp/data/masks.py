"""What is known of an image's defects: its mask, or what boxes and `is_normal` say in its place."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agssp.data.images import ImageError
from agssp.data.mask_reading import DefectMask, MaskReading, decide
from agssp.data.stored_mask import look_at, read_stored_mask
from agssp.errors import InputError


@dataclass(frozen=True)
class ImageTruth:
    """Whether and where an image is defective.

    Attributes:
        defective: None where nothing tells.
        mask: bool (H, W), true on defects; None where the pixels are not known.
        ignored: bool (H, W) of pixels that count as neither; None where there are none.
    """

    defective: bool | None
    mask: np.ndarray | None
    ignored: np.ndarray | None = None


def image_truth(
    row: Mapping[str, Any],
    size: Sequence[int],
    *,
    boxes_as_mask: bool = False,
    reading: MaskReading | None = None,
) -> ImageTruth:
    """Put together what a row of the schema says of its image's defects.

    An image is defective if its mask has a pixel, if it has a box, be it a crowd region, or if it is said not to be
    normal. It is sound if none of these holds and it has an empty mask or list of boxes, or is said to be normal; then
    its mask is empty. A mask whose only pixels are to be ignored tells nothing of that.

    Args:
        row: `image_id` and, where known, `is_normal`, `mask` and `objects`.
        size: (H, W) px of the image.
        boxes_as_mask: where there is no mask, the pixels in the boxes take its place; not with crowd regions, of which
            nobody has said how much is defective.
        reading: how the masks of the data set are read; default: each by itself.

    Raises:
        ImageError: the mask cannot be read, contradicts the reading, or is of another size than its image.
    """
    mask = ignored = None
    if row.get("mask") is not None:
        decoded = _decoded(row["mask"], _name_of(row), reading)
        mask, ignored = decoded.defect, decoded.ignored
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
        told = (mask is not None and ignored is None) or objects is not None or is_normal
        defective = False if told else None
    if mask is None and defective is False:
        mask = np.zeros(tuple(size), bool)
    elif mask is None and len(boxes) and boxes_as_mask and not has_crowds:
        mask = box_mask(boxes, size)
    return ImageTruth(defective, mask, ignored)


def decode_mask(value: Any, name: str = "mask", reading: MaskReading | None = None) -> np.ndarray:
    """Read a mask as bool (H, W), true on defects.

    Args:
        value: whatever `decode_image` takes.
        name: how to name the mask in an error.
        reading: how the masks of its data set are read; default: as of a data set of this mask alone. Ignored pixels
            are false; `MaskReading.decode` tells them apart.

    Raises:
        ImageError: it cannot be read, or contradicts the reading.
    """
    return _decoded(value, name, reading).defect


def _decoded(value: Any, name: str, reading: MaskReading | None) -> DefectMask:
    mask = read_stored_mask(value, name)
    if reading is None:
        try:
            reading = decide([(name, look_at(mask))], name)
        except InputError as error:
            raise ImageError(str(error)) from error
    return reading.read(mask, name)


def named_masks(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Name and file of each mask, as `MaskReading.of` takes them, in the rows' order.

    Args:
        rows: `image_id` and `mask`; rows without a mask give nothing.
    """
    return ((_name_of(row), row["mask"]) for row in rows if row["mask"] is not None)


def _name_of(row: Mapping[str, Any]) -> str:
    return f"mask of {row['image_id']}"


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
