"""What a Faster R-CNN is made of: its backbone and pyramid, its anchors, its samples, and what it lets through."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig

from ..features import COARSEST_STRIDE, taken_strides, with_strides
from ..labels import with_class_names


class FasterRcnnConfig(PreTrainedConfig):
    """Configuration of `FasterRcnnForObjectDetection`. Numbers without another word are torchvision's.

    Args:
        backbone_config: `AgsspBackboneConfig` (or its dict). Which of its stages are used is set by `strides`. ResNet50
            by default.
        image_size: Side in pixels of the square input that training and prediction use by default.
        strides: Strides of the feature maps that the pyramid is built on, each twice the one before, the last one 32.
            `None` takes those of 4, 8, 16, 32 that the backbone has. Always set after building.
        pyramid_channels: Width of the pyramid.
        head_channels: Width of the two layers between a pooled region and its class and box.
        anchor_scale: Side of a square anchor in strides of its level: 8 gives 32 px at stride 4 to 512 px at stride 64,
            the level that is pooled from the last. Smaller ones suit smaller defects.
        anchor_ratios: Heights of the anchors by their widths.
        proposals: Proposals of an image at most, (in training, in prediction).
        proposal_nms_threshold: Of two proposals that overlap more than this (IoU), the less confident one goes.
        anchor_samples: Anchors of an image that the loss of the proposals looks at, half of them positive at most.
        region_samples: Regions of an image that the loss of classes and boxes looks at, a quarter positive at most.
            `None` takes torchvision's 512 from 640 px on, and fewer of smaller images in proportion to their side, as
            these have fewer places: at 160 px, 512 regions are four fifths of a step's work.
        score_threshold: Detections have a higher score. Low, so that precision is measured at every recall;
            torchvision's 0.05 is for showing.
        nms_threshold: Of two detections of a class that overlap more than this (IoU), the less confident one goes.
        detections_per_image: Detections of an image at most.
        kwargs: Fields common to all of transformers' models, `id2label` above all. One class, `defect`, by default.

    Raises:
        InputError: the image size is no multiple of 32, or the backbone has no features at the strides.
    """

    model_type = "agssp_faster_rcnn"
    sub_configs = {"backbone_config": AgsspBackboneConfig}

    def __init__(
        self,
        backbone_config: AgsspBackboneConfig | dict[str, Any] | None = None,
        image_size: int = 640,
        strides: Sequence[int] | None = None,
        pyramid_channels: int = 256,
        head_channels: int = 1024,
        anchor_scale: int = 8,
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        proposals: Sequence[int] = (2000, 1000),
        proposal_nms_threshold: float = 0.7,
        anchor_samples: int = 256,
        region_samples: int | None = None,
        score_threshold: float = 0.001,
        nms_threshold: float = 0.5,
        detections_per_image: int = 100,
        **kwargs: Any,
    ):
        if image_size < COARSEST_STRIDE or image_size % COARSEST_STRIDE:
            raise InputError(f"image_size={image_size}: expected a multiple of {COARSEST_STRIDE}")
        self.backbone_config = with_strides(backbone_config or {}, strides)
        self.image_size = image_size
        self.strides = taken_strides(self.backbone_config)
        self.pyramid_channels = pyramid_channels
        self.head_channels = head_channels
        self.anchor_scale = anchor_scale
        self.anchor_ratios = list(anchor_ratios)
        self.proposals = list(proposals)
        self.proposal_nms_threshold = proposal_nms_threshold
        self.anchor_samples = anchor_samples
        self.region_samples = region_samples
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.detections_per_image = detections_per_image
        super().__init__(**with_class_names(kwargs))
