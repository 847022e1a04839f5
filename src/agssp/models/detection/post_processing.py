"""From a detector's predictions to boxes on the original images: the most confident, and the letterbox undone."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from agssp.data.letterbox import letterbox_geometry
from agssp.errors import InputError

# As many candidates enter the suppression at most; ultralytics has the same limit.
MAX_CANDIDATES = 30_000


def post_process_object_detection(
    logits: Tensor,
    pred_boxes: Tensor,
    *,
    input_size: Sequence[int],
    threshold: float = 0.25,
    target_sizes: Tensor | Sequence[Sequence[int]] | None = None,
    iou_threshold: float | None = None,
    max_detections: int = 300,
    multi_label: bool = False,
) -> list[dict[str, Tensor]]:
    """The most confident boxes of each image on the original, the letterbox undone.

    Args:
        logits: Class logits (B, Q, C), one sigmoid a class.
        pred_boxes: Boxes (B, Q, 4) as centre x, centre y, width, height relative to the input.
        input_size: (height, width) of the network's input, into which the images were letterboxed.
        threshold: Scores must be above it.
        target_sizes: (height, width) of each original image. Boxes are moved to it and clipped; what lies in the grey
            bars altogether is dropped. Without it boxes stay relative to the input.
        iou_threshold: Of two boxes of a class that overlap more than this, the less confident one goes: for dense
            predictions. None keeps both: for detectors that find every object once.
        max_detections: As many boxes an image at most.
        multi_label: Let each prediction stand for every class above the threshold, not for its best class alone. COCO
            evaluation by ultralytics and by the papers of DETR's family does so.

    Returns:
        For each image `scores` (n,) in descending order, `labels` (n,) int64, `boxes` (n, 4) left, top, right, bottom.

    Raises:
        InputError: `target_sizes` does not have one entry an image.
    """
    sizes = image_sizes(target_sizes, len(logits))
    corners = input_corners(pred_boxes, input_size)
    logits = logits.detach().float()

    results = []
    for image_logits, image_boxes, size in zip(logits, corners, sizes, strict=True):
        if multi_label:
            scores = image_logits.sigmoid()
            places, labels = (scores > threshold).nonzero(as_tuple=True)
            best = scores[places, labels]
        else:
            best, labels = image_logits.max(1)
            best = best.sigmoid()
            places = (best > threshold).nonzero(as_tuple=True)[0]
            best, labels = best[places], labels[places]
        if iou_threshold is None:
            keep = best.argsort(descending=True, stable=True)[:max_detections]
        else:
            if len(best) > MAX_CANDIDATES:
                best, kept = best.topk(MAX_CANDIDATES)
                places, labels = places[kept], labels[kept]
            keep = batched_nms(image_boxes[places], best, labels, iou_threshold)[:max_detections]
        results.append(on_image(image_boxes[places[keep]], best[keep], labels[keep], size, input_size))
    return results


def image_sizes(target_sizes: Tensor | Sequence[Sequence[int]] | None, images: int) -> Sequence[Sequence[int] | None]:
    """(height, width) of each original image, or None for each where none are given.

    Raises:
        InputError: there is not one entry an image.
    """
    if target_sizes is None:
        return [None] * images
    if len(target_sizes) != images:
        raise InputError(
            f"target_sizes has {len(target_sizes)} entries for {images} images; give (height, width) of each"
        )
    return target_sizes.tolist() if isinstance(target_sizes, Tensor) else target_sizes


def input_corners(pred_boxes: Tensor, input_size: Sequence[int]) -> Tensor:
    """Predicted boxes in pixels of the input.

    Args:
        pred_boxes: (B, Q, 4) as centre x, centre y, width, height relative to the input.
        input_size: (height, width) of the input.

    Returns:
        float32 (B, Q, 4) as left, top, right, bottom, without gradient.
    """
    height, width = input_size
    corners = box_convert(pred_boxes.detach().float(), "cxcywh", "xyxy")
    return corners * corners.new_tensor([width, height, width, height])


def on_image(
    boxes: Tensor, scores: Tensor, labels: Tensor, image_size: Sequence[int] | None, input_size: Sequence[int]
) -> dict[str, Tensor]:
    """Chosen boxes of one image in its own pixels; what lies in the grey bars altogether is dropped.

    Args:
        boxes: (n, 4) as left, top, right, bottom in pixels of the input.
        scores: (n,).
        labels: (n,).
        image_size: (height, width) of the image; None gives boxes relative to the input.
        input_size: (height, width) of the input.

    Returns:
        `scores`, `labels` and `boxes` of those that are left.
    """
    if image_size is None:
        height, width = input_size
        return {"scores": scores, "labels": labels, "boxes": boxes / boxes.new_tensor([width, height, width, height])}
    boxes = undo_letterbox(boxes, image_size, input_size)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return {"scores": scores[inside], "labels": labels[inside], "boxes": boxes[inside]}


def undo_letterbox(boxes: Tensor, image_size: Sequence[int], input_size: Sequence[int]) -> Tensor:
    """Move boxes from the letterboxed input back to the image, and clip them to it.

    Args:
        boxes: (n, 4) as left, top, right, bottom in pixels of the input.
        image_size: (height, width) of the image.
        input_size: (height, width) of the input.

    Returns:
        (n, 4) in pixels of the image.
    """
    geometry = letterbox_geometry(image_size, input_size)
    x = ((boxes[:, 0::2] - geometry.left) / geometry.scale[1]).clamp(0, image_size[1])
    y = ((boxes[:, 1::2] - geometry.top) / geometry.scale[0]).clamp(0, image_size[0])
    return torch.stack((x, y), 2).flatten(1)
