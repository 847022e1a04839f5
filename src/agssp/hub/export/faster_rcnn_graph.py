"""A Faster R-CNN that treats all images of a batch at once, so that its graph holds for any number of them.

torchvision's own code goes through the images one by one, with another number of proposals for each. Here every image
has as many rows, and those that are not needed carry the score `NEVER`. Weights, anchors and arithmetic are the
model's own; the results are the same.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import box_convert, clip_boxes_to_image, roi_align
from torchvision.ops.poolers import LevelMapper

from agssp.models.detection.faster_rcnn.modeling_faster_rcnn import NO_LOGIT

from .suppression import NEVER, suppress

SMALLEST_DETECTION = 1e-2
"""Boxes with a side shorter than this many pixels are left out, as torchvision does."""


class FasterRcnnGraph(nn.Module):
    """The prediction of a `FasterRcnnForObjectDetection`, for any batch of images of one size.

    Args:
        model: The detector, in eval mode.
        image_size: Side of the square input in pixels.
    """

    anchors: Tensor
    levels: Tensor

    def __init__(self, model: Any, image_size: int):
        super().__init__()
        self.model = model
        self.image_size = image_size
        with torch.no_grad():
            pyramid = self._pyramid(torch.zeros(1, 3, image_size, image_size))
        images = ImageList(torch.zeros(1, 3, image_size, image_size), [(image_size, image_size)])
        per_cell = model.rpn.anchor_generator.num_anchors_per_location()
        self.counts = [
            level.shape[2] * level.shape[3] * anchors for level, anchors in zip(pyramid, per_cell, strict=True)
        ]
        self.register_buffer("anchors", model.rpn.anchor_generator(images, pyramid)[0])
        levels = torch.arange(len(self.counts)).repeat_interleave(torch.tensor(self.counts))
        self.register_buffer("levels", levels.float())
        pool, strides = model.roi_heads.box_roi_pool, model.backbone.strides
        self.level_of = LevelMapper(
            int(math.log2(strides[0])), int(math.log2(strides[-1])), pool.canonical_scale, pool.canonical_level
        )

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Detections as the model gives them.

        Args:
            pixel_values: float32 (B, 3, S, S), normalised; S is `image_size`.

        Returns:
            `logits` (B, Q, C) and `pred_boxes` (B, Q, 4), see `FasterRcnnObjectDetectionOutput`.
        """
        pyramid = self._pyramid(pixel_values)
        proposals, real = self._proposals(pyramid)
        regions = self._pool(pyramid, proposals)
        return self._detections(regions, proposals, real)

    def _pyramid(self, pixel_values: Tensor) -> list[Tensor]:
        strides, maps = self.model.backbone.strides, self.model.backbone(pixel_values).feature_maps
        return list(self.model.fpn({str(stride): each for stride, each in zip(strides, maps, strict=True)}).values())

    def _proposals(self, pyramid: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The regions that may hold an object: boxes (B, K, 4) in pixels, and which of the rows are real (B, K)."""
        rpn, batch = self.model.rpn, pyramid[0].shape[0]
        flat_objectness, flat_deltas = concat_box_prediction_layers(*rpn.head(pyramid))
        objectness = flat_objectness.reshape(batch, -1)
        anchors = self.anchors.expand(batch, -1, -1).reshape(-1, 4)
        boxes = rpn.box_coder.decode_single(flat_deltas, anchors).reshape(batch, -1, 4)
        best, first = [], 0
        for scores in objectness.split(self.counts, 1):
            best.append(scores.topk(min(rpn.pre_nms_top_n(), scores.shape[1]), dim=1).indices + first)
            first += scores.shape[1]
        places = torch.cat(best, 1)
        boxes = clip_boxes_to_image(_take(boxes, places), (self.image_size, self.image_size))
        scores = objectness.gather(1, places).sigmoid().masked_fill(_small(boxes, rpn.min_size), NEVER)
        levels = self.levels.expand(batch, -1).gather(1, places)
        kept = suppress(self._apart(boxes, levels), scores, rpn.nms_thresh, rpn.post_nms_top_n())
        count = min(rpn.post_nms_top_n(), places.shape[1])
        scores, places = scores.masked_fill(~kept, NEVER).topk(count, dim=1)
        return _take(boxes, places), scores > NEVER / 2

    def _pool(self, pyramid: list[Tensor], proposals: Tensor) -> Tensor:
        """What the pyramid holds in each region, from the level that suits its size: (B * K, channels, side, side)."""
        pool = self.model.roi_heads.box_roi_pool
        batch, count, _ = proposals.shape
        boxes = proposals.reshape(-1, 4)
        images = torch.arange(batch, dtype=boxes.dtype)[:, None].expand(-1, count).reshape(-1, 1)
        regions, levels = torch.cat((images, boxes), 1), self.level_of([boxes])
        result = boxes.new_zeros((batch * count, pyramid[0].shape[1], *pool.output_size))
        for level, stride in enumerate(self.model.backbone.strides):
            rows = (levels == level).nonzero()[:, 0]
            part = roi_align(pyramid[level], regions[rows], pool.output_size, 1 / stride, pool.sampling_ratio)
            result = result.index_put((rows,), part)
        return result

    def _detections(self, regions: Tensor, proposals: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        heads, config = self.model.roi_heads, self.model.config
        batch, count, _ = proposals.shape
        class_logits, deltas = heads.box_predictor(heads.box_head(regions))
        # The first class is the background.
        scores = class_logits.softmax(1).reshape(batch, count, -1)[:, :, 1:]
        boxes = heads.box_coder.decode_single(deltas, proposals.reshape(-1, 4))
        boxes = boxes.reshape(batch, count, -1, 4)[:, :, 1:].reshape(batch, -1, 4)
        boxes = clip_boxes_to_image(boxes, (self.image_size, self.image_size))
        classes = torch.arange(scores.shape[2]).expand(batch, count, -1).reshape(batch, -1)
        possible = (scores > config.score_threshold) & real[:, :, None]
        scores = scores.masked_fill(~possible, NEVER).reshape(batch, -1)
        scores = scores.masked_fill(_small(boxes, SMALLEST_DETECTION), NEVER)
        kept = suppress(self._apart(boxes, classes), scores, config.nms_threshold, config.detections_per_image)
        rows = min(config.detections_per_image, scores.shape[1])
        scores, places = scores.masked_fill(~kept, NEVER).topk(rows, dim=1)
        found = scores > NEVER / 2
        ours = torch.arange(self.model.num_labels) == classes.gather(1, places)[:, :, None]
        logits = torch.where(ours & found[:, :, None], scores.logit(eps=1e-7)[:, :, None], NO_LOGIT)
        relative = box_convert(_take(boxes, places) / self.image_size, "xyxy", "cxcywh")
        return logits, relative * found[:, :, None]

    def _apart(self, boxes: Tensor, groups: Tensor) -> Tensor:
        """Boxes with a distance between groups (B, N), so that none overlaps one of another group."""
        return boxes + groups[:, :, None] * (self.image_size + 1.0)


def _take(boxes: Tensor, places: Tensor) -> Tensor:
    """(B, N, 4) at (B, K) -> (B, K, 4)."""
    return boxes.gather(1, places[:, :, None].expand(-1, -1, 4))


def _small(boxes: Tensor, side: float) -> Tensor:
    return (boxes[:, :, 2:] - boxes[:, :, :2] < side).any(2)
