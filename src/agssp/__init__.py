"""Anomaly-guided pretraining: defect detectors from unlabelled factory images and few labels.

The names below are imported when first used, so that `import agssp` costs nothing. transformers' Auto classes and
pipelines know our models from then on.
"""

import importlib
from typing import Any

from .auto_classes import announce_models
from .telemetry import switch_off
from .version import __version__ as __version__

_PUBLIC = {
    "AgsspBackbone": "agssp.models.backbone.modeling_agssp_backbone",
    "AgsspBackboneConfig": "agssp.models.backbone.configuration_agssp_backbone",
    "AgsspForPreTraining": "agssp.models.pretraining.modeling_agssp_pretraining",
    "AgsspPreTrainingConfig": "agssp.models.pretraining.configuration_agssp_pretraining",
    "DinoConfig": "agssp.models.detection.dino.configuration_dino",
    "DinoForObjectDetection": "agssp.models.detection.dino.modeling_dino",
    "FasterRcnnConfig": "agssp.models.detection.faster_rcnn.configuration_faster_rcnn",
    "FasterRcnnForObjectDetection": "agssp.models.detection.faster_rcnn.modeling_faster_rcnn",
    "InputError": "agssp.errors",
    "KeAD": "agssp.maps.modeling_kead",
    "KnowledgeBase": "agssp.maps.knowledge_base",
    "MapStore": "agssp.maps.store",
    "YoloConfig": "agssp.models.detection.yolo.configuration_yolo",
    "YoloForObjectDetection": "agssp.models.detection.yolo.modeling_yolo",
    "cut_boxes": "agssp.steps.cut_boxes",
    "evaluate": "agssp.steps.evaluate",
    "evaluate_maps": "agssp.steps.evaluate_maps",
    "pseudo_boxes": "agssp.boxes.extraction",
    "read_dataset": "agssp.data.readers",
}
__all__ = sorted(_PUBLIC)

announce_models()


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'agssp' has no attribute {name!r}")
    switch_off()
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
