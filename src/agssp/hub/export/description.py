"""The JSON beside every export: all that another program needs to know to use the file."""

import json
import os
from pathlib import Path
from typing import Any

from agssp.data.letterbox import GREY
from agssp.errors import InputError
from agssp.files import write_json
from agssp.hub.machine_traces import check_no_traces
from agssp.hub.paths import without_paths
from agssp.parsing import read_json
from agssp.version import __version__

INSTALL = "pip install 'agssp[export]'"

_OF_A_RUN = ("command", "objective", "teacher", "dataset", "epochs", "steps", "seed", "results", "versions", "hardware")


def description_file(path: str | os.PathLike) -> Path:
    """Where the description of an exported file or folder lies: its own name with `.json` after it."""
    return Path(path).with_name(Path(path).name + ".json")


def write_description(path: str | os.PathLike, description: dict[str, Any]) -> None:
    """Write the description of an exported file or folder beside it.

    Raises:
        InputError: it would name this machine.
    """
    file = description_file(path)
    check_no_traces(json.dumps(description, ensure_ascii=False).encode(), file.name)
    write_json(file, description)


def describe_detector(model: Any, image_size: int) -> dict[str, Any]:
    """What is to be known of a detector: its classes, what it expects of its input, and what its output means.

    Args:
        model: The detector.
        image_size: Side of the square input in px.
    """
    from agssp.models.detection import any_detector, catalogue
    from agssp.models.detection.transfer import detector_backbone
    from agssp.models.detection.yolo.image_processing_yolo import IOU_THRESHOLD, YoloImageProcessor

    family, licence = catalogue.family_of(model), catalogue.licence_line(model)
    backbone = detector_backbone(model)[1]
    suppressed = isinstance(any_detector.image_processor(model, image_size), YoloImageProcessor)
    return {
        "detector": {
            "family": family.title,
            "name": getattr(model.config, "variant", None) or model.config.model_type,
            "backbone": backbone.config.architecture,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        "labels": {str(index): name for index, name in sorted((model.config.id2label or {}).items())},
        **_describe_input(backbone, image_size),
        "letterbox": {
            "keeps_aspect_ratio": True,
            "placement": "centred, an odd pixel of padding on the right or below",
            "interpolation": "bilinear",
            "fill": GREY,
        },
        "suppression": {
            "iou_threshold": IOU_THRESHOLD if suppressed else None,
            "within": "each class",
            "end_to_end": any_detector.is_end_to_end(model),
        },
        "licence": _without_title(licence),
        "agssp": __version__,
    }


def describe_backbone(backbone: Any, licence: str | None = None) -> dict[str, Any]:
    """What is to be known of a backbone.

    Args:
        backbone: An `AgsspBackbone`.
        licence: What `catalogue.licence_line` says of the detector that it was trained in.
    """
    return {
        "backbone": {
            "architecture": backbone.config.architecture,
            "channels": [int(backbone.num_features[index]) for index in backbone.out_indices],
            "strides": list(backbone.strides),
            "out_indices": list(backbone.out_indices),
            "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        },
        **_describe_input(backbone, backbone.config.image_size),
        "licence": _without_title(licence),
        "agssp": __version__,
    }


def _without_title(licence: str | None) -> str | None:
    return licence and licence.removeprefix("licence: ")


def _describe_input(backbone: Any, image_size: int) -> dict[str, Any]:
    return {
        "input": {
            "name": "pixel_values",
            "dtype": "float32",
            "layout": "NCHW, RGB",
            "shape": ["batch", 3, image_size, image_size],
        },
        "normalisation": {
            "rule": "(pixel * scale - mean) / std, pixel in 0..255",
            "scale": 1 / 255,
            "mean": list(backbone.config.image_mean),
            "std": list(backbone.config.image_std),
        },
    }


def run_facts(source: str | os.PathLike) -> dict[str, Any] | None:
    """How a model came about, as the run.json of its folder says; paths of the machine are left out.

    Args:
        source: The model's folder or Hub id.

    Returns:
        None where nothing is recorded.
    """
    from agssp.models.backbone.saved_detectors import saved_file

    try:
        file = saved_file(source, "run.json")
        record = {} if file is None else read_json(file)
    # The Hub may not answer, or not be asked, where the weights lay in the cache.
    except (InputError, OSError, ValueError):
        return None
    if not isinstance(record, dict):
        return None
    return without_paths({name: record[name] for name in _OF_A_RUN if record.get(name) is not None}) or None
