"""Faster R-CNN as a transformers model: any backbone, torchvision's feature pyramid, proposals, heads and losses."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, box_convert
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from transformers import initialization as init
from transformers.utils import ModelOutput

from agssp.errors import InputError
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone

from ..detector import Detector
from ..features import COARSEST_STRIDE, check_input
from ..labels import check_labels
from ..transfer import TransferReport, carry_over, class_names, require_same
from . import weights
from .configuration_faster_rcnn import FasterRcnnConfig

NO_LOGIT = -1e4
"""Logit of a class that a detection does not have; its sigmoid is 0."""


@dataclass
class FasterRcnnObjectDetectionOutput(ModelOutput):
    """Output of `FasterRcnnForObjectDetection`. Q is `detections_per_image`.

    Attributes:
        loss: Scalar, the sum of `loss_dict`, a mean over the images of the batch; None without labels.
        loss_dict: torchvision's four losses, detached: `objectness` and `rpn_box_reg` of the proposals, `classifier`
            and `box_reg` of the detections; None without labels.
        logits: float32 (B, Q, C). Suppression within each class has been done, so a row is one detection of one class:
            there it holds the inverse sigmoid of the detection's score, elsewhere -10,000, as do the rows that are left
            when fewer than Q were found. Rows descend by score. None in training mode with labels.
        pred_boxes: float32 (B, Q, 4), centre x, centre y, width, height in 0..1 of the input; 0 in rows that are left.
            Without gradient. None in training mode with labels.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    pred_boxes: Tensor | None = None


class FasterRcnnForObjectDetection(Detector):
    """Faster R-CNN with a feature pyramid on an `AgsspBackbone`.

    Pyramid, proposal network, heads and losses are torchvision's classes (BSD-3-Clause), under their names:
    `fpn`, `rpn`, `roi_heads`. The loss looks at anchors and regions that are drawn with torch's random numbers, also in
    evaluation mode.

    Args:
        config: A `FasterRcnnConfig`.
    """

    config_class = FasterRcnnConfig

    def __init__(self, config: FasterRcnnConfig):
        super().__init__(config)
        self.num_labels = len(config.id2label or ())
        self.backbone = AgsspBackbone(config.backbone_config)
        self.fpn = FeaturePyramidNetwork(self.backbone.channels, config.pyramid_channels, LastLevelMaxPool())
        levels = [*self.backbone.strides, 2 * COARSEST_STRIDE]
        anchors = AnchorGenerator(
            tuple((config.anchor_scale * stride,) for stride in levels), (tuple(config.anchor_ratios),) * len(levels)
        )
        proposals = dict(zip(("training", "testing"), config.proposals, strict=True))
        self.rpn = RegionProposalNetwork(
            anchors,
            _ProposalHead(config.pyramid_channels, len(config.anchor_ratios)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=config.anchor_samples,
            positive_fraction=0.5,
            pre_nms_top_n=proposals,
            post_nms_top_n=proposals,
            nms_thresh=config.proposal_nms_threshold,
        )
        pool = MultiScaleRoIAlign([str(stride) for stride in self.backbone.strides], output_size=7, sampling_ratio=2)
        self.roi_heads = RoIHeads(
            pool,
            TwoMLPHead(config.pyramid_channels * 7 * 7, config.head_channels),
            # torchvision counts the background as class 0.
            _Predictor(config.head_channels, self.num_labels + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=config.region_samples or min(512, 512 * config.image_size // 640),
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=config.score_threshold,
            nms_thresh=config.nms_threshold,
            detections_per_img=config.detections_per_image,
        )
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Sequence[dict[str, Tensor]] | None = None,
        return_dict: bool | None = None,
    ) -> FasterRcnnObjectDetectionOutput | tuple:
        """Predict, or compute the loss, or both.

        Args:
            pixel_values: (B, 3, H, W), H and W multiples of 32, normalised with the backbone's mean and deviation.
            labels: For each image `class_labels` (n,) int64 and `boxes` (n, 4) as centre x, centre y, width, height
                in 0..1 of the input; n may be 0, such images count as negatives. In training mode detections are then
                left out, which would cost as much again.
            return_dict: False for a tuple without the empty entries.

        Raises:
            InputError: for an input size that 32 does not divide, or labels that do not fit the batch or the classes,
                or a box without area.
        """
        check_input(pixel_values)
        batch, _, height, width = pixel_values.shape
        maps = zip(self.backbone.strides, self.backbone(pixel_values).feature_maps, strict=True)
        pyramid = self.fpn({str(stride): feature_map for stride, feature_map in maps})
        # Anchors take the features' dtype, and bfloat16 has too few digits for a coordinate of 640 px.
        pyramid = {name: level.float() for name, level in pyramid.items()}
        images = ImageList(pixel_values, [(height, width)] * batch)
        output = FasterRcnnObjectDetectionOutput()
        if labels is not None:
            losses = self._losses(images, pyramid, labels)
            output.loss = torch.stack(list(losses.values())).sum()
            output.loss_dict = {name.removeprefix("loss_"): value.detach() for name, value in losses.items()}
        if labels is None or not self.training:
            output.logits, output.pred_boxes = self._detect(images, pyramid)
        if return_dict is None:
            return_dict = self.config.return_dict
        return output if return_dict else output.to_tuple()

    def _losses(
        self, images: ImageList, pyramid: dict[str, Tensor], labels: Sequence[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """torchvision's four losses."""
        targets = self._targets(images, labels)
        with _mode((self.rpn, self.roi_heads), training=True):
            proposals, losses = self.rpn(images, pyramid, targets)
            _, more = self.roi_heads(pyramid, proposals, images.image_sizes, targets)
        return losses | more

    @torch.no_grad()
    def _detect(self, images: ImageList, pyramid: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Detections in the rows of `logits` and `pred_boxes`."""
        with _mode((self.rpn, self.roi_heads), training=False):
            proposals, _ = self.rpn(images, pyramid)
            found, _ = self.roi_heads(pyramid, proposals, images.image_sizes)
        rows = self.config.detections_per_image
        logits = images.tensors.new_full((len(found), rows, self.num_labels), NO_LOGIT, dtype=torch.float32)
        boxes = images.tensors.new_zeros((len(found), rows, 4), dtype=torch.float32)
        height, width = images.image_sizes[0]
        for image, result in enumerate(found):
            count = len(result["scores"])
            row = torch.arange(count, device=logits.device)
            # A score that rounds to 1 must not become infinite.
            logits[image, row, result["labels"] - 1] = result["scores"].float().logit(eps=1e-7)
            relative = result["boxes"] / result["boxes"].new_tensor([width, height, width, height])
            boxes[image, :count] = box_convert(relative, "xyxy", "cxcywh")
        return logits, boxes

    def _targets(self, images: ImageList, labels: Sequence[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """transformers' labels as torchvision's: pixels, corners, and the background as class 0."""
        check_labels(labels, len(images.image_sizes), self.num_labels)
        device = images.tensors.device
        targets = []
        for (height, width), image in zip(images.image_sizes, labels, strict=True):
            boxes = image["boxes"].to(device, torch.float32)
            corners = box_convert(boxes, "cxcywh", "xyxy") * boxes.new_tensor([width, height, width, height])
            targets.append({"boxes": corners, "labels": image["class_labels"].to(device, torch.int64) + 1})
        corners = torch.cat([target["boxes"] for target in targets])
        if bool((corners[:, 2:] <= corners[:, :2]).any()):
            raise InputError("labels hold a box without width or height, whose size has no logarithm; leave it out")
        return targets

    @classmethod
    def from_torchvision(
        cls, file: str | os.PathLike, id2label: dict[int, str] | None = None, **options: Any
    ) -> "FasterRcnnForObjectDetection":
        """Build a detector from weights of torchvision's `fasterrcnn_resnet50_fpn`; see `weights.from_torchvision`."""
        return weights.from_torchvision(cls, file, id2label, **options)

    def transfer_from(self, model: "FasterRcnnForObjectDetection") -> TransferReport:
        """Take over another detector's weights: all but the last layers of class and box, where the classes differ.

        Equal numbers of classes with other names count as different classes.

        Args:
            model: Detector with the same backbone architecture, strides and widths.

        Raises:
            InputError: these differ.
        """
        ours, theirs = self.config, model.config
        require_same("backbone", ours.backbone_config.architecture, theirs.backbone_config.architecture)
        require_same("pyramid", ours.strides, theirs.strides)
        of_the_classes = []
        if class_names(self) != class_names(model):
            # Boxes are regressed for each class on its own.
            predictor = self.roi_heads.box_predictor
            predictor.cls_score.reset_parameters()
            predictor.bbox_pred.reset_parameters()
            of_the_classes = [f"roi_heads.box_predictor.{name}" for name in predictor.state_dict()]
        return carry_over(self, model, "Faster R-CNN", of_the_classes)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what no file of weights gave as torchvision does."""
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.Conv2d):
            if any(module is layer for layer in self.rpn.modules()):
                init.normal_(module.weight, std=0.01)
            else:
                init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                init.zeros_(module.bias)


class _ProposalHead(RPNHead):
    """torchvision's head of the proposal network, in float32 also where the layers run in half precision."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(x)
        return [level.float() for level in objectness], [level.float() for level in deltas]


class _Predictor(FastRCNNPredictor):
    """torchvision's last layers of class and box, in float32 also where the layers run in half precision."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = super().forward(x)
        return scores.float(), deltas.float()


@contextmanager
def _mode(modules: Sequence[nn.Module], training: bool) -> Iterator[None]:
    """Let modules take another mode for a while, their layers excepted: torchvision decides by it what to compute."""
    before = [module.training for module in modules]
    for module in modules:
        module.training = training
    try:
        yield
    finally:
        for module, mode in zip(modules, before, strict=True):
            module.training = mode
