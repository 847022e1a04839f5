"""Detectors in transformers' form; importing this lets transformers' Auto classes open their folders."""

from .transfer import TransferReport
from .yolo import YoloConfig, YoloForObjectDetection, YoloImageProcessor

__all__ = ["TransferReport", "YoloConfig", "YoloForObjectDetection", "YoloImageProcessor"]
