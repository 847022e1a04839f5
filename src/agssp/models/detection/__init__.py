"""Detectors in transformers' form; importing this lets transformers' Auto classes open their folders."""

from .detector import Detector
from .faster_rcnn import FasterRcnnConfig, FasterRcnnForObjectDetection
from .image_processing import LetterboxImageProcessor
from .transfer import TransferReport
from .yolo import YoloConfig, YoloForObjectDetection, YoloImageProcessor

__all__ = [
    "Detector",
    "FasterRcnnConfig",
    "FasterRcnnForObjectDetection",
    "LetterboxImageProcessor",
    "TransferReport",
    "YoloConfig",
    "YoloForObjectDetection",
    "YoloImageProcessor",
]
