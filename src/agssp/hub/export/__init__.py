"""Detectors in the forms that other programs open: ONNX, timm, ultralytics."""

from .onnx_runner import OnnxDetector

__all__ = ["OnnxDetector"]
