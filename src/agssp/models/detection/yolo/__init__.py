"""The YOLO family on any backbone, as transformers models; importing this registers the Auto classes."""

from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection
from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES

from .configuration_yolo import YoloConfig
from .image_processing_yolo import YoloImageProcessor
from .modeling_yolo import YoloForObjectDetection, YoloObjectDetectionOutput

AutoConfig.register(YoloConfig.model_type, YoloConfig, exist_ok=True)
AutoModelForObjectDetection.register(YoloConfig, YoloForObjectDetection, exist_ok=True)
AutoImageProcessor.register(YoloConfig, slow_image_processor_class=YoloImageProcessor, exist_ok=True)
# pipeline("object-detection") looks for the class here only, and otherwise prints an error although it works.
MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES[YoloConfig.model_type] = YoloForObjectDetection.__name__

__all__ = ["YoloConfig", "YoloForObjectDetection", "YoloImageProcessor", "YoloObjectDetectionOutput"]
