"""Faster R-CNN on any backbone, as transformers models; importing this registers the Auto classes."""

from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection
from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES

from ..image_processing import LetterboxImageProcessor
from .configuration_faster_rcnn import FasterRcnnConfig
from .modeling_faster_rcnn import FasterRcnnForObjectDetection, FasterRcnnObjectDetectionOutput

AutoConfig.register(FasterRcnnConfig.model_type, FasterRcnnConfig, exist_ok=True)
AutoModelForObjectDetection.register(FasterRcnnConfig, FasterRcnnForObjectDetection, exist_ok=True)
AutoImageProcessor.register(FasterRcnnConfig, slow_image_processor_class=LetterboxImageProcessor, exist_ok=True)
# pipeline("object-detection") looks for the class here only, and otherwise prints an error although it works.
MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES[FasterRcnnConfig.model_type] = FasterRcnnForObjectDetection.__name__

__all__ = ["FasterRcnnConfig", "FasterRcnnForObjectDetection", "FasterRcnnObjectDetectionOutput"]
