"""Detectors in the forms that other programs open: ONNX, timm, ultralytics."""
