"""DINO on any backbone, as transformers models; importing this registers the Auto classes."""

from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection
from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES

from ..image_processing import LetterboxImageProcessor
from .configuration_dino import DinoConfig
from .modeling_dino import DinoForObjectDetection, DinoObjectDetectionOutput

AutoConfig.register(DinoConfig.model_type, DinoConfig, exist_ok=True)
AutoModelForObjectDetection.register(DinoConfig, DinoForObjectDetection, exist_ok=True)
AutoImageProcessor.register(DinoConfig, slow_image_processor_class=LetterboxImageProcessor, exist_ok=True)
# pipeline("object-detection") looks for the class here only, and otherwise prints an error although it works.
MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES[DinoConfig.model_type] = DinoForObjectDetection.__name__

__all__ = ["DinoConfig", "DinoForObjectDetection", "DinoObjectDetectionOutput"]
