"""Which images can be trained on or measured, and which of their boxes are examples: crowd regions are none."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agssp.data.letterbox import GREY
from agssp.data.masks import box_mask
from agssp.errors import InputError

logger = logging.getLogger(__name__)


def with_known_boxes(dataset: Any, source: str) -> Any:
    """The rows of a data set whose boxes are known, be there none; how many others are left out is logged.

    Args:
        dataset: rows of the schema with `objects`; null there means that nothing is known.
        source: names the data set in the message.

    Raises:
        InputError: the boxes of no image are known.
    """
    known = [row for row, objects in enumerate(dataset["objects"]) if objects is not None]
    if len(known) == len(dataset):
        return dataset
    if not known:
        raise InputError(
            f"{source}: its {len(dataset)} images have no labels (`objects` is null); give boxes, an empty list for an "
            "image without defects"
        )
    logger.info(f"{source}: {len(dataset) - len(known)} of {len(dataset)} images have no labels and are left out")
    return dataset.select(known)


def crowds_of(objects: Mapping[str, Any]) -> np.ndarray:
    """Which boxes of a row's `objects` are crowd regions, as bool (n,); none where the field is absent."""
    told = objects.get("iscrowd")
    return np.zeros(len(objects["bbox"]), bool) if told is None else np.asarray(told, bool)


def object_classes(dataset: Any) -> list[list[int]]:
    """Classes of each image's objects; a crowd region is no example of its class.

    Args:
        dataset: rows of the schema, `objects` known.
    """
    rows = dataset["objects"]
    return [np.asarray(row["category"], int)[~crowds_of(row)].tolist() for row in rows]


def trainable_rows(dataset: Any, source: str) -> list[int]:
    """Numbers of the rows that a detector can learn from: those with an object, and those without any defect.

    An image whose only boxes are crowd regions has nothing to learn, and is no sound image either.

    Args:
        dataset: rows of the schema, `objects` known.
        source: names the data set in the error.

    Raises:
        InputError: there are crowd regions, and no object.
    """
    crowds = [crowds_of(objects) for objects in dataset["objects"]]
    count = sum(int(marked.sum()) for marked in crowds)
    if count and all(marked.all() for marked in crowds):
        raise InputError(
            f"{source}: all {count} boxes of its {len(dataset)} images are crowd regions (iscrowd 1), from which "
            "nothing is learned; --crowds objects reads them as objects"
        )
    return [row for row, marked in enumerate(crowds) if not len(marked) or not marked.all()]


def without_crowds_alone(dataset: Any, source: str) -> Any:
    """The rows that a detector can learn from; what crowd regions take from the training is logged.

    Args:
        dataset: rows of the schema, `objects` known.
        source: names the data set in the message.

    Raises:
        InputError: there are crowd regions, and no object.
    """
    kept = trainable_rows(dataset, source)
    counts = [int(crowds_of(objects).sum()) for objects in dataset["objects"]]
    if not any(counts):
        return dataset
    painted = sum(counts[row] > 0 for row in kept)
    logger.info(
        f"{source}: {sum(counts)} crowd regions (iscrowd 1) are left out of training: they are painted over in "
        f"{painted} images; {len(dataset) - len(kept)} images have no other box and are left out"
    )
    return dataset if len(kept) == len(dataset) else dataset.select(kept)


def paint_crowds(pixels: np.ndarray, crowds: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """An image without its crowd regions: grey as around a letterboxed image, so that they teach nothing as background.

    Args:
        pixels: uint8 (H, W, 3).
        crowds: (n, 4) xyxy px, inside the image.
        boxes: (m, 4) xyxy px of objects, which stay as they are where a region covers them.

    Returns:
        A copy.
    """
    covered, kept = (box_mask(_xywh(corners), pixels.shape[:2]) for corners in (crowds, boxes))
    painted = pixels.copy()
    painted[covered & ~kept] = GREY
    return painted


def _xywh(corners: np.ndarray) -> Sequence[Sequence[float]]:
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
