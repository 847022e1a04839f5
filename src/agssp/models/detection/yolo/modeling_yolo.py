"""YOLOs as a transformers model: any backbone with the strides of a neck, ultralytics' neck, head and loss."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from agssp.errors import InputError
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.yolo_graphs import neck_strides

from ..detector import Detector
from ..features import check_input
from ..image_processing import LetterboxImageProcessor
from ..transfer import TransferReport
from . import weights
from .configuration_yolo import YoloConfig
from .image_processing_yolo import IOU_THRESHOLD, YoloImageProcessor
from .loss import detection_loss, flat_targets, make_criterion, set_progress
from .neck_and_head import (
    Head,
    build_neck_and_head,
    class_width,
    decode_boxes,
    is_end_to_end,
    prior_biases,
    run_head,
    run_neck,
    square_input_size,
)


@dataclass
class YoloObjectDetectionOutput(ModelOutput):
    """Output of `YoloForObjectDetection`. A is the number of predictions: the cells of the three feature maps.

    Attributes:
        loss: Scalar, the mean over the images of the batch; None without labels. ultralytics trains on the sum over
            its nominal batch of 64 images, so its learning rates for SGD suppose 64 times this gradient (clipped to
            a norm of 10).
        loss_dict: The scalar parts that add up to it, detached: `box`, `cls`, and `dfl` or (YOLO26) `l1`; None without
            labels.
        logits: Class logits (B, A, C), one sigmoid a class; of YOLO26 those of the branch that finds an object once.
        pred_boxes: float32 (B, A, 4), centre x, centre y, width, height in 0..1 of the input. Without gradient when
            labels were given, because the loss reads the distributions behind them.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    pred_boxes: Tensor | None = None


class YoloForObjectDetection(Detector):
    """A YOLO detector on an `AgsspBackbone`.

    Neck, head, loss (and the variants' own backbones) are built from the modules of the package `ultralytics`, which is
    licensed under **AGPL-3.0**. Our own code is Apache-2.0, but a program that uses this class is combined with AGPL
    code: who distributes such a program, or lets others use it over a network, must offer them the complete source of
    the whole under the AGPL, or buy a commercial licence from Ultralytics. Ultralytics claims the same for weights
    trained with its code. The rest of this package (maps, boxes, timm backbones and their pretraining, the other
    detectors) does not touch `ultralytics`.

    Args:
        config: A `YoloConfig`.

    Raises:
        InputError: the backbone does not give feature maps at the strides of the neck, or `ultralytics` is missing.
    """

    config_class = YoloConfig
    image_processor_class: type[LetterboxImageProcessor] = YoloImageProcessor

    def __init__(self, config: YoloConfig):
        super().__init__(config)
        self.num_labels = len(config.id2label or ())
        self.backbone = AgsspBackbone(config.backbone_config)
        strides, channels = tuple(self.backbone.strides), tuple(self.backbone.channels)
        needed = neck_strides(config.variant)
        if strides != needed:
            raise InputError(
                f"backbone {config.backbone_config.architecture} with out_indices={config.backbone_config.out_indices} "
                f"has strides {strides}; {config.variant} takes {', '.join(map(str, needed[:-1]))} and {needed[-1]}, "
                "so choose the stages that have them"
            )
        self.head: Head
        self.neck, self.head, self.taps = build_neck_and_head(
            config.variant, channels, strides, self.num_labels, config.class_channels
        )
        # Pixels of the input per cell of each of the head's feature maps; plain numbers, which tracing can rely on.
        self.strides = tuple(int(stride) for stride in self.head.stride)
        config.class_channels = class_width(self.head)
        if is_end_to_end(self.head):
            # Nothing need be suppressed among its predictions.
            self.image_processor_class = LetterboxImageProcessor
        self._training_progress = 0.0
        self.post_init()

    def set_training_progress(self, progress: float) -> None:
        """Tell an end-to-end model (YOLO26) how far its training is, which shifts the weights of its two branches.

        ultralytics does so after every epoch. Without it the branches keep the weights of the beginning; other models
        take no notice.

        Args:
            progress: From 0 at the beginning to 1 at the end.

        Raises:
            InputError: a number outside of 0..1.
        """
        if not 0 <= progress <= 1:
            raise InputError(f"training progress {progress}: expected a number from 0 to 1")
        self._training_progress = float(progress)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Sequence[dict[str, Tensor]] | None = None,
        return_dict: bool | None = None,
    ) -> YoloObjectDetectionOutput | tuple:
        """Predict, and compute the loss when labels are given.

        Args:
            pixel_values: (B, 3, H, W), H and W multiples of 32, normalised with the backbone's mean and deviation
                (CSPDarknet: 0..1 as they are).
            labels: For each image `class_labels` (n,) int64 and `boxes` (n, 4) as centre x, centre y, width, height
                in 0..1 of the input; n may be 0, such images count as negatives.
            return_dict: False for a tuple without the empty entries.

        Raises:
            InputError: for an input size that 32 does not divide, or labels that do not fit the batch or the classes.
        """
        check_input(pixel_values)
        feature_maps = run_neck(self.neck, self.head, self.taps, self.backbone(pixel_values).feature_maps)
        chosen = "one2one" if is_end_to_end(self.head) else "one2many"
        raw = run_head(self.head, feature_maps, chosen)
        loss = loss_dict = None
        if labels is not None:
            branches = {chosen: raw}
            if chosen != "one2many":
                branches["one2many"] = run_head(self.head, feature_maps, "one2many")
            loss, loss_dict = self._loss(branches, labels, len(pixel_values))
        sizes = [(feature_map.shape[2], feature_map.shape[3]) for feature_map in feature_maps]
        with torch.no_grad() if labels is not None else contextlib.nullcontext():
            pred_boxes = decode_boxes(raw["boxes"], sizes, self.strides)
        output = YoloObjectDetectionOutput(
            loss=loss, loss_dict=loss_dict, logits=raw["scores"].transpose(1, 2), pred_boxes=pred_boxes
        )
        if return_dict is None:
            return_dict = self.config.return_dict
        return output if return_dict else output.to_tuple()

    def _loss(
        self, branches: dict[str, dict[str, Any]], labels: Sequence[dict[str, Tensor]], batch: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """ultralytics' loss of the raw predictions, divided by the batch that it is multiplied with."""
        device = branches["one2many"]["scores"].device
        settings = (self.config.box_gain, self.config.cls_gain, self.config.dfl_gain, self.config.box_loss)
        key = (device, self.head.nc, *settings)
        cached = self.__dict__.get("_cached_criterion")
        if cached is None or cached[0] != key:
            cached = (key, make_criterion(self.head, *settings))
            # It keeps tensors on one device and has nothing to save: it must not become a submodule.
            object.__setattr__(self, "_cached_criterion", cached)
        set_progress(cached[1], self._training_progress)
        parts = detection_loss(cached[1], branches, flat_targets(labels, batch, self.num_labels, device)) / batch
        names = ("box", "cls", "dfl" if self.head.reg_max > 1 else "l1")
        return parts.sum(), dict(zip(names, parts.detach(), strict=True))

    def post_process_object_detection(
        self,
        outputs: Any,
        threshold: float = 0.25,
        target_sizes: Tensor | Sequence[Sequence[int]] | None = None,
        iou_threshold: float | None = IOU_THRESHOLD,
        max_detections: int = 300,
        *,
        input_size: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> list[dict[str, Tensor]]:
        """Boxes on the original images; see `Detector.post_process_object_detection`.

        End-to-end models (YOLO26) find an object once, so nothing is suppressed and `iou_threshold` has no effect.
        `input_size` is told from the number of predictions where the input was a square.

        Raises:
            InputError: `target_sizes` does not have one entry an image, or the input was not a square and not named.
        """
        return super().post_process_object_detection(
            outputs,
            threshold,
            target_sizes,
            None if is_end_to_end(self.head) else iou_threshold,
            max_detections,
            input_size=input_size or square_input_size(outputs["logits"].shape[1], self.strides),
            multi_label=multi_label,
        )

    @classmethod
    def from_ultralytics(
        cls,
        file: str | os.PathLike,
        variant: str | None = None,
        id2label: dict[int, str] | None = None,
        **config: Any,
    ) -> "YoloForObjectDetection":
        """Build a detector from ultralytics' weights; see `weights.from_ultralytics`."""
        return weights.from_ultralytics(cls, file, variant, id2label, **config)

    def to_ultralytics(self) -> dict[str, Tensor]:
        """State dict under ultralytics' names; see `weights.to_ultralytics`."""
        return weights.to_ultralytics(self)

    def transfer_from(self, model: "YoloForObjectDetection", keep_class_head: bool = False) -> TransferReport:
        """Take over everything but the final class convolutions; see `weights.transfer_from`."""
        return weights.transfer_from(self, model, keep_class_head)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what no file of weights gave as ultralytics does, the head's prior biases included."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                # transformers passes only modules with tensors of their own, so the head cannot be done as a whole.
                init.constant_(module.bias, prior_biases(self.head).get(module, 0.0))
        elif isinstance(module, nn.BatchNorm2d):
            super()._init_weights(module)
