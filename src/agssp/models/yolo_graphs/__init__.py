"""Graphs of the YOLO family: ultralytics' own and SLF-YOLO's, described row by row and built into layers."""

from .graphs import (
    VARIANTS,
    Traits,
    as_list,
    build_layers,
    feature_layers,
    neck_inputs,
    neck_strides,
    read_graph,
    traits,
)

__all__ = [
    "VARIANTS",
    "Traits",
    "as_list",
    "build_layers",
    "feature_layers",
    "neck_inputs",
    "neck_strides",
    "read_graph",
    "traits",
]
