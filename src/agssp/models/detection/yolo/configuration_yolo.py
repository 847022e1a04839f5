"""What a YOLO detector is made of: its variant, its backbone, its classes and the weights of its loss."""

from typing import Any

from transformers import PreTrainedConfig

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig

# Each name is a graph that ultralytics describes under the same name. Other graphs that end in the same kind of head
# (YOLO11, YOLO12) differ in their layers only, which are read from ultralytics' own description.
VARIANTS = ("yolov8n", "yolov8s")


class YoloConfig(PreTrainedConfig):
    """Configuration of `YoloForObjectDetection`.

    Args:
        variant: Graph that gives neck and head, with its scale: `yolov8n` or `yolov8s`.
        backbone_config: `AgsspBackboneConfig` (or its dict) of a backbone with feature maps at strides 8, 16 and 32.
            The variant's own CSPDarknet by default.
        image_size: Side in pixels of the square input that training and prediction use by default.
        class_channels: Width of the class branch. ultralytics derives it from the number of classes, so weights trained
            on other classes may have another width; `None` takes ultralytics' choice. Always set after building.
        box_gain: Weight of the box (CIoU) loss.
        cls_gain: Weight of the class (binary cross-entropy) loss.
        dfl_gain: Weight of the distribution focal loss.
        kwargs: Fields common to all of transformers' models, `id2label` above all. One class, `defect`, by default.

    Raises:
        InputError: for an unknown variant or an image size that the strides do not divide.
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
        **kwargs: Any,
    ):
        if variant not in VARIANTS:
            raise InputError(f"variant={variant!r}: expected one of {', '.join(VARIANTS)}")
        if image_size < 32 or image_size % 32:
            raise InputError(f"image_size={image_size}: expected a multiple of 32, the coarsest stride")
        self.variant = variant
        if backbone_config is None:
            backbone_config = AgsspBackboneConfig(architecture=variant)
        elif isinstance(backbone_config, dict):
            backbone_config = AgsspBackboneConfig(**backbone_config)
        self.backbone_config = backbone_config
        self.image_size = image_size
        self.class_channels = class_channels
        self.box_gain = box_gain
        self.cls_gain = cls_gain
        self.dfl_gain = dfl_gain
        if kwargs.get("id2label") is None and "num_labels" not in kwargs:
            kwargs |= {"id2label": {0: "defect"}, "label2id": {"defect": 0}}
        elif kwargs.get("id2label") is not None and kwargs.get("label2id") is None:
            kwargs["label2id"] = {name: int(index) for index, name in kwargs["id2label"].items()}
        super().__init__(**kwargs)
