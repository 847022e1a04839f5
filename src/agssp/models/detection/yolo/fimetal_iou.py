"""FIMetal-IoU, SLF-YOLO's box loss: the IoU of inner boxes, focused on an interval, in the place of CIoU's IoU.

What is known and what is decided here: the paper (Scientific Reports 15, 11105, 2025) names the loss and says that it
improves on IoU losses for fine and small defects. Its formula was not to be had, and its authors' published code trains
with CIoU. F and I are read as the two refinements that the name joins, Focaler-IoU (arXiv:2401.10525) and Inner-IoU
(arXiv:2311.02877), both of which say how they take the place of the IoU within CIoU (arXiv:1911.08287):

    L = 1 - focaler(IoU of the inner boxes) + centre distance + aspect ratio

with the last two terms as in CIoU. `YoloConfig(box_loss="ciou")` trains as the published code does.
"""

import math

import torch
from torch import Tensor, nn

INNER_RATIO = 1.15
"""Sides of the inner boxes in multiples of the boxes'. Decided here: above 1, because larger boxes still overlap where
small ones miss each other."""

FOCUS = (0.0, 0.95)
"""The interval of overlaps that the loss tells apart: below it all count as 0, above it as 1. Decided here."""


def fimetal_iou_loss(
    boxes: Tensor, targets: Tensor, inner_ratio: float = INNER_RATIO, focus: tuple[float, float] = FOCUS
) -> Tensor:
    """The loss of each box.

    Args:
        boxes: Predicted boxes (n, 4) as left, top, right, bottom.
        targets: Their targets (n, 4), in the same units.
        inner_ratio: Sides of the inner boxes in multiples of the boxes'.
        focus: Lowest and highest overlap that the loss tells apart.

    Returns:
        (n,), 0 for a perfect box and up to about 3 for one far away.
    """
    epsilon = 1e-7
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    target_centres, target_sizes = (targets[:, :2] + targets[:, 2:]) / 2, targets[:, 2:] - targets[:, :2]
    iou = _iou(centres, sizes, target_centres, target_sizes, epsilon)
    inner = _iou(centres, sizes * inner_ratio, target_centres, target_sizes * inner_ratio, epsilon)
    lowest, highest = focus
    focused = ((inner - lowest) / (highest - lowest)).clamp(0, 1)

    enclosing = torch.maximum(boxes[:, 2:], targets[:, 2:]) - torch.minimum(boxes[:, :2], targets[:, :2])
    distance = (centres - target_centres).square().sum(1) / (enclosing.square().sum(1) + epsilon)
    angle, target_angle = (torch.atan(side[:, 0] / (side[:, 1] + epsilon)) for side in (sizes, target_sizes))
    aspect = 4 / math.pi**2 * (target_angle - angle).square()
    with torch.no_grad():
        trade_off = aspect / (aspect - iou + 1 + epsilon)
    return 1 - focused + distance + trade_off * aspect


class FIMetalBoxLoss(nn.Module):
    """ultralytics' box loss with FIMetal-IoU in the place of CIoU; the distribution loss stays.

    Args:
        original: ultralytics' `BboxLoss`.
    """

    def __init__(self, original: nn.Module):
        super().__init__()
        self.original = original

    def forward(
        self,
        pred_dist: Tensor,
        pred_bboxes: Tensor,
        anchor_points: Tensor,
        target_bboxes: Tensor,
        target_scores: Tensor,
        target_scores_sum: Tensor,
        fg_mask: Tensor,
        *sizes: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Box and distribution loss, weighed as in `BboxLoss`: by the score that an assigned prediction should have."""
        _, distribution_loss = self.original(
            pred_dist, pred_bboxes, anchor_points, target_bboxes, target_scores, target_scores_sum, fg_mask, *sizes
        )
        weight = target_scores[fg_mask].sum(-1)
        losses = fimetal_iou_loss(pred_bboxes[fg_mask], target_bboxes[fg_mask])
        return (losses * weight).sum() / target_scores_sum, distribution_loss


def _iou(centres: Tensor, sizes: Tensor, target_centres: Tensor, target_sizes: Tensor, epsilon: float) -> Tensor:
    """Intersection over union (n,) of boxes given by centre and size."""
    nearest = torch.minimum(centres + sizes / 2, target_centres + target_sizes / 2)
    farthest = torch.maximum(centres - sizes / 2, target_centres - target_sizes / 2)
    overlap = (nearest - farthest).clamp(min=0).prod(1)
    return overlap / (sizes.prod(1) + target_sizes.prod(1) - overlap + epsilon)
