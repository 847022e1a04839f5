"""Detectors in transformers' form; importing this lets transformers' Auto classes open their folders."""

from .detector import Detector
from .dino import DinoConfig, DinoForObjectDetection
from .faster_rcnn import FasterRcnnConfig, FasterRcnnForObjectDetection
from .image_processing import LetterboxImageProcessor
from .transfer import TransferReport
from .yolo import YoloConfig, YoloForObjectDetection, YoloImageProcessor

__all__ = [
    "Detector",
    "DinoConfig",
    "DinoForObjectDetection",
    "FasterRcnnConfig",
    "FasterRcnnForObjectDetection",
    "LetterboxImageProcessor",
    "TransferReport",
    "YoloConfig",
    "YoloForObjectDetection",
    "YoloImageProcessor",
]
