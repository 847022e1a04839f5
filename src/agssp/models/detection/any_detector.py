"""A detector of any family in use: its images prepared, its boxes on the originals, its folder saved."""

import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from agssp.errors import InputError

from . import detr
from .catalogue import is_ours
from .features import COARSEST_STRIDE
from .post_processing import post_process_object_detection
from .yolo import YoloForObjectDetection, neck_and_head


def save(model: Any, folder: str | os.PathLike) -> None:
    """Save a detector with its image processor, without which no pipeline opens it."""
    if is_ours(model):
        model.save_pretrained(folder)
    else:
        detr.save_detr(model, folder)


def image_processor(model: Any, size: int | None = None) -> Any:
    """What prepares images for a detector, at its own input size or another.

    Raises:
        InputError: the size is no multiple of 32.
    """
    side = model.config.image_size if size is None else size
    if side < COARSEST_STRIDE or side % COARSEST_STRIDE:
        raise InputError(f"--image-size {side}: expected a multiple of {COARSEST_STRIDE}")
    if is_ours(model):
        return model.image_processor(side)
    return detr.image_processor(model, side)


def is_end_to_end(model: Any) -> bool:
    """Whether a detector finds an object once (YOLO26): nothing is suppressed, whatever `iou_threshold` says."""
    return isinstance(model, YoloForObjectDetection) and neck_and_head.is_end_to_end(model.head)


def post_process(
    model: Any,
    outputs: Any,
    *,
    threshold: float,
    target_sizes: Tensor | Sequence[Sequence[int]],
    input_size: Sequence[int],
    max_detections: int = 300,
    multi_label: bool = False,
    iou_threshold: float | None = None,
) -> list[dict[str, Tensor]]:
    """Boxes on the original images.

    Args:
        model: The detector.
        outputs: What it returned in eval mode.
        threshold: Scores must be above it.
        target_sizes: (height, width) of each original image.
        input_size: (height, width) of `pixel_values`.
        max_detections: As many boxes an image at most.
        multi_label: Let a place stand for every class above the threshold, as COCO evaluation does.
        iou_threshold: Of two boxes of a class that overlap more than this, the less confident one goes. None: what the
            detector is meant for: 0.7 for YOLO; DINO, RT-DETR and D-FINE keep both; Faster R-CNN has done it before.
            Without effect on YOLO26, see `is_end_to_end`.

    Returns:
        For each image `scores` (n,) descending, `labels` (n,) int64 and `boxes` (n, 4) left, top, right, bottom in px.
    """
    options: dict[str, Any] = {
        "threshold": threshold,
        "target_sizes": target_sizes,
        "input_size": input_size,
        "max_detections": max_detections,
        "multi_label": multi_label,
    }
    if iou_threshold is not None:
        options["iou_threshold"] = iou_threshold
    if is_ours(model):
        return model.post_process_object_detection(outputs, **options)
    return post_process_object_detection(outputs["logits"], outputs["pred_boxes"], **options)
