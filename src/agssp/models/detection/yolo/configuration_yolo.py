"""What a YOLO detector is made of: its variant, its backbone, its classes and the weights of its loss."""

import copy
from typing import Any

from transformers import PreTrainedConfig

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.yolo_graphs import VARIANTS, neck_strides

from ..labels import with_class_names

BOX_LOSSES = ("ciou", "fimetal_iou")


class YoloConfig(PreTrainedConfig):
    """Configuration of `YoloForObjectDetection`.

    Args:
        variant: Graph that gives neck and head, with its scale as last letter: one of `VARIANTS`.
        backbone_config: `AgsspBackboneConfig` (or its dict) of a backbone with feature maps at strides 8, 16 and 32,
            for SLF-YOLO at stride 4 as well: one that names fewer maps is made to give its last ones. The variant's own
            backbone by default.
        image_size: Side in pixels of the square input that training and prediction use by default.
        class_channels: Width of the class branch. ultralytics derives it from the number of classes, so weights trained
            on other classes may have another width; `None` takes ultralytics' choice. Always set after building.
        box_gain: Weight of the box loss.
        cls_gain: Weight of the class (binary cross-entropy) loss.
        dfl_gain: Weight of the distribution focal loss, for YOLO26 of the L1 loss of the distances.
        box_loss: `ciou` or `fimetal_iou`; by default SLF-YOLO's own is the latter, all others' the former.
        kwargs: Fields common to all of transformers' models, `id2label` above all. One class, `defect`, by default.

    Raises:
        InputError: for an unknown variant or box loss, or an image size that the strides do not divide.
    """

    model_type = "agssp_yolo"
    sub_configs = {"backbone_config": AgsspBackboneConfig}

    def __init__(
        self,
        variant: str = "yolov8n",
        backbone_config: AgsspBackboneConfig | dict[str, Any] | None = None,
        image_size: int = 640,
        class_channels: int | None = None,
        box_gain: float = 7.5,
        cls_gain: float = 0.5,
        dfl_gain: float = 1.5,
        box_loss: str | None = None,
        **kwargs: Any,
    ):
        if variant not in VARIANTS:
            raise InputError(f"variant={variant!r}: expected one of {', '.join(VARIANTS)}")
        if image_size < 32 or image_size % 32:
            raise InputError(f"image_size={image_size}: expected a multiple of 32, the coarsest stride")
        if box_loss not in (None, *BOX_LOSSES):
            raise InputError(f"box_loss={box_loss!r}: expected one of {', '.join(BOX_LOSSES)}")
        self.variant = variant
        if backbone_config is None:
            backbone_config = AgsspBackboneConfig(architecture=variant)
        elif isinstance(backbone_config, dict):
            backbone_config = AgsspBackboneConfig(**backbone_config)
        self.backbone_config = _with_maps(backbone_config, len(neck_strides(variant)))
        self.image_size = image_size
        self.class_channels = class_channels
        self.box_gain = box_gain
        self.cls_gain = cls_gain
        self.dfl_gain = dfl_gain
        self.box_loss = box_loss or ("fimetal_iou" if variant.startswith("slf_yolo") else "ciou")
        super().__init__(**with_class_names(kwargs))


def _with_maps(backbone_config: AgsspBackboneConfig, count: int) -> AgsspBackboneConfig:
    """A backbone's configuration that gives this many feature maps at least, the coarsest of its network."""
    stages = len(backbone_config.stage_names)
    if len(backbone_config.out_indices) >= min(count, stages):
        return backbone_config
    widened = copy.deepcopy(backbone_config)
    widened.out_indices = list(range(stages - count, stages))
    return widened
