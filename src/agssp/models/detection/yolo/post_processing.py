"""From a YOLO's dense predictions to boxes on the original images: threshold and suppression within each class."""

import math
from collections.abc import Sequence

from torch import Tensor
from torchvision.ops import batched_nms

from agssp.errors import InputError

from ..post_processing import image_sizes, input_corners, on_image

# As many candidates enter the suppression at most; ultralytics has the same limit.
MAX_CANDIDATES = 30_000


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
    sizes = image_sizes(target_sizes, len(logits))
    corners = input_corners(pred_boxes, input_size)
    logits = logits.detach().float()

    results = []
    for image_logits, image_boxes, size in zip(logits, corners, sizes, strict=True):
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
        results.append(on_image(boxes[keep], best[keep], labels[keep], size, input_size))
    return results
