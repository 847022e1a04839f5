"""Graphs of the YOLO family: ultralytics' own and SLF-YOLO's, described row by row and built into layers."""

from .graphs import VARIANTS, build_layers, feature_layers, neck_inputs, read_graph, traits

__all__ = ["VARIANTS", "build_layers", "feature_layers", "neck_inputs", "read_graph", "traits"]
