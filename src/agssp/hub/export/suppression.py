"""Suppression of overlapping boxes for a whole batch at once, as one operator that torch traces and ONNX has too."""

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms

NEVER = -1.0
"""Score of a box that is out of the race: it is not kept, and nothing is suppressed for it."""


@torch.library.custom_op("agssp::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    """Which boxes are left when of two that overlap too much the less confident one goes.

    Args:
        boxes: float32 (B, N, 4) as left, top, right, bottom. To keep groups apart, shift each by a distance of its own.
        scores: float32 (B, N) in 0..1, or `NEVER`.
        iou_threshold: Overlap (IoU) above which one of two boxes goes.
        most: As many boxes an image are kept at most, the most confident ones.

    Returns:
        bool (B, N).
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for image, (image_boxes, image_scores) in enumerate(zip(boxes, scores, strict=True)):
        places = (image_scores > NEVER / 2).nonzero()[:, 0]
        kept[image, places[nms(image_boxes[places], image_scores[places], iou_threshold)[:most]]] = True
    return kept


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def onnx_suppress(boxes: Any, scores: Any, iou_threshold: float, most: int) -> Any:
    """`suppress` as ONNX operators, for `torch.onnx.export(custom_translation_table=...)`."""
    import onnx
    import onnxscript

    op: Any = onnxscript.opset18  # typed for tensors of each kind, not for Python's numbers
    chosen = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),
        op.Constant(value_ints=[most]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[NEVER / 2]),
    )
    # A row is image, class, box; there is one class.
    places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    yes, no = (op.Cast(op.Constant(value_ints=[value]), to=onnx.TensorProto.BOOL) for value in (1, 0))
    rows = op.Slice(
        op.Shape(places), op.Constant(value_ints=[0]), op.Constant(value_ints=[1]), op.Constant(value_ints=[0])
    )
    return op.ScatterND(op.Expand(no, op.Shape(scores)), places, op.Expand(yes, rows))


TRANSLATIONS: dict[Any, Any] = {torch.ops.agssp.suppress.default: onnx_suppress}
