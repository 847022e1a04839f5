"""From a YOLO's dense predictions to boxes on the original images: threshold, suppression, and the letterbox undone."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from agssp.errors import InputError

# As many candidates enter the suppression at most; ultralytics has the same limit.
MAX_CANDIDATES = 30_000


class Letterbox(NamedTuple):
    """How an image lies in an input that keeps its aspect ratio, centred between bars of grey.

    Attributes:
        scale: Pixels of the input per pixel of the image, down and across. They differ by the rounding of `resized`.
        resized: (height, width) of the image after resizing.
        top: Rows of grey above the image.
        left: Columns of grey on its left.
    """

    scale: tuple[float, float]
    resized: tuple[int, int]
    top: int
    left: int


def letterbox_geometry(image_size: Sequence[int], input_size: Sequence[int]) -> Letterbox:
    """Place an image in an input: the largest scale that fits, centred, an odd pixel of padding on the far side.

    The same numbers as ultralytics' `LetterBox`.

    Args:
        image_size: (height, width) of the image.
        input_size: (height, width) of the network's input.
    """
    fit = min(side / original for side, original in zip(input_size, image_size, strict=True))
    height, width = (max(round(side * fit), 1) for side in image_size)
    # The tenth of a pixel decides on which side the odd pixel goes.
    top, left = (round((outer - inner) / 2 - 0.1) for outer, inner in zip(input_size, (height, width), strict=True))
    return Letterbox((height / image_size[0], width / image_size[1]), (height, width), top, left)


def square_input_size(num_anchors: int, strides: Sequence[float]) -> tuple[int, int]:
    """The square input whose feature maps have this many cells in all.

    Raises:
        InputError: no square input has as many, so the input was a rectangle, which must be named.
    """
    side = math.sqrt(num_anchors / sum(stride**-2 for stride in strides))
    coarsest = int(max(strides))
    size = round(side / coarsest) * coarsest
    if sum((size // int(stride)) ** 2 for stride in strides) != num_anchors:
        raise InputError(f"{num_anchors} predictions an image do not come from a square input; give input_size=(H, W)")
    return size, size


def post_process_object_detection(
    logits: Tensor,
    pred_boxes: Tensor,
    *,
    input_size: Sequence[int],
    threshold: float = 0.25,
    target_sizes: Tensor | Sequence[Sequence[int]] | None = None,
    iou_threshold: float = 0.7,
    max_detections: int = 300,
    multi_label: bool = False,
) -> list[dict[str, Tensor]]:
    """Confident boxes of each image after non-maximum suppression within each class.

    Args:
        logits: Class logits (B, A, C).
        pred_boxes: Boxes (B, A, 4) as centre x, centre y, width, height relative to the input.
        input_size: (height, width) of the network's input, into which the images were letterboxed.
        threshold: Scores must be above it.
        target_sizes: (height, width) of each original image. Boxes are moved to it and clipped; what lies in the grey
            bars altogether is dropped. Without it boxes stay relative to the input.
        iou_threshold: Of two boxes of a class that overlap more than this, the less confident one goes.
        max_detections: As many boxes an image at most, the most confident.
        multi_label: Let each prediction stand for every class above the threshold, not for its best class alone. COCO
            evaluation by ultralytics does so.

    Returns:
        For each image `scores` (n,) in descending order, `labels` (n,) int64, `boxes` (n, 4) left, top, right, bottom.

    Raises:
        InputError: `target_sizes` does not have one entry an image.
    """
    if target_sizes is not None:
        sizes = target_sizes.tolist() if isinstance(target_sizes, Tensor) else target_sizes
        if len(sizes) != len(logits):
            raise InputError(
                f"target_sizes has {len(sizes)} entries for {len(logits)} images; give (height, width) of each"
            )
    height, width = input_size
    pixels = pred_boxes.new_tensor([width, height, width, height], dtype=torch.float32)
    corners = box_convert(pred_boxes.detach().float(), "cxcywh", "xyxy") * pixels
    logits = logits.detach().float()

    results = []
    for index, (image_logits, image_boxes) in enumerate(zip(logits, corners, strict=True)):
        if multi_label:
            scores = image_logits.sigmoid()
            anchors, labels = (scores > threshold).nonzero(as_tuple=True)
            best = scores[anchors, labels]
        else:
            best, labels = image_logits.max(1)
            best = best.sigmoid()
            anchors = (best > threshold).nonzero(as_tuple=True)[0]
            best, labels = best[anchors], labels[anchors]
        if len(best) > MAX_CANDIDATES:
            best, kept = best.topk(MAX_CANDIDATES)
            anchors, labels = anchors[kept], labels[kept]
        boxes = image_boxes[anchors]
        keep = batched_nms(boxes, best, labels, iou_threshold)[:max_detections]
        boxes, best, labels = boxes[keep], best[keep], labels[keep]
        if target_sizes is None:
            boxes = boxes / pixels
        else:
            boxes = undo_letterbox(boxes, sizes[index], input_size)
            inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
            boxes, best, labels = boxes[inside], best[inside], labels[inside]
        results.append({"scores": best, "labels": labels, "boxes": boxes})
    return results


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
