"""Which detectors there are, by the names that `--detector` takes; and how each is built, opened and given classes."""

import contextlib
import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from agssp.errors import InputError
from agssp.files import restore_folder
from agssp.hub_client.names import is_hub_id, near_hint
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.loading import opening, saved_config
from agssp.models.ultralytics import import_ultralytics
from agssp.models.yolo_graphs import VARIANTS, neck_strides
from agssp.saved_configs import refuse_code
from agssp.tensor_files import open_tensors

from . import detr, detr_checkpoints
from .detector import Detector
from .dino import DinoConfig, DinoForObjectDetection
from .faster_rcnn import FasterRcnnConfig, FasterRcnnForObjectDetection
from .features import with_strides
from .yolo import YoloConfig, YoloForObjectDetection


@dataclass(frozen=True)
class Family:
    """Detectors that are made alike.

    Attributes:
        title: What prose calls them.
        model_class: What opens their folders.
        names: As `--detector` takes them.
        backbone: Architecture where none is given; None: each has its own.
        strides: Of the backbone's features that are taken; None: those of 4 to 32 that it has, or (YOLO) the neck's.
        agpl: Whether they are made of `ultralytics`, under AGPL-3.0.
    """

    title: str
    model_class: Any
    names: tuple[str, ...]
    backbone: str | None = "resnet50"
    strides: tuple[int, ...] | None = (8, 16, 32)
    agpl: bool = False


FAMILIES = {
    "agssp_yolo": Family("YOLO", YoloForObjectDetection, VARIANTS, backbone=None, strides=None, agpl=True),
    "agssp_faster_rcnn": Family("Faster R-CNN", FasterRcnnForObjectDetection, ("faster_rcnn",), strides=None),
    "agssp_dino": Family("DINO", DinoForObjectDetection, ("dino",)),
    "rt_detr_v2": Family("RT-DETR v2", detr.CLASSES["rt_detr_v2"], ("rtdetr_v2_s", "rtdetr_v2_l")),
    "d_fine": Family("D-FINE", detr.CLASSES["d_fine"], ("dfine_s", "dfine_l")),
}
"""model_type of a configuration -> its family."""

NAMES = tuple(name for family in FAMILIES.values() for name in family.names)
"""All that `--detector` takes."""

FILES: dict[str, Any] = {
    "model.0.conv.weight": YoloForObjectDetection.from_ultralytics,
    "roi_heads.box_predictor.cls_score.weight": FasterRcnnForObjectDetection.from_torchvision,
}
"""A tensor that tells whose weights a file holds -> what opens it."""


def family_named(name: str) -> Family:
    """The family of a detector's name.

    Raises:
        InputError: there is no such detector.
    """
    for family in FAMILIES.values():
        if name in family.names:
            return family
    raise InputError(f"detector {name!r}: expected one of {', '.join(NAMES)}")


def family_of(model: Any) -> Family:
    """The family of a model."""
    return FAMILIES[model.config.model_type]


def is_ours(model: Any) -> bool:
    """Whether a detector has methods for what functions of `detr` do for transformers' own."""
    return isinstance(model, Detector)


def licence_line(model: Any) -> str | None:
    """What a user should know of a detector's licence before training it; None for permissive ones."""
    if not family_of(model).agpl:
        return None
    free = ", ".join(family.names[0] for family in FAMILIES.values() if not family.agpl)
    return (
        f"licence: {model.config.variant} is made of ultralytics' modules, AGPL-3.0: a program that uses it, over a "
        f"network too, must come with its whole source. Not so {free}"
    )


def taken_features(name: str, backbone_config: AgsspBackboneConfig | None = None) -> AgsspBackboneConfig:
    """A copy of a backbone's configuration that returns what a detector takes.

    Args:
        name: One of `NAMES`.
        backbone_config: The detector's default backbone if left out.

    Raises:
        InputError: there is no such detector, `ultralytics` is missing, or the backbone has no features of the strides.
    """
    family = family_named(name)
    if family.agpl:
        import_ultralytics()
    if backbone_config is None:
        backbone_config = AgsspBackboneConfig(architecture=family.backbone or name)
    try:
        return with_strides(backbone_config, _strides(name))
    except InputError as error:
        raise InputError(
            f"--detector {name} does not fit this backbone: {error}. Choose a backbone whose features halve step by "
            "step, as in `agssp pretrain-backbone --backbone resnet50 --dataset IMAGES --maps MAPS --output backbone`"
        ) from error


def takers(backbone_config: AgsspBackboneConfig) -> list[str]:
    """Detectors that take a backbone, one a family and YOLO first; a YOLO's own backbone is for that YOLO."""
    if backbone_config.architecture in NAMES:
        return [backbone_config.architecture]
    found = []
    for name in ("yolov8s", *(family.names[0] for family in FAMILIES.values() if not family.agpl)):
        with contextlib.suppress(InputError):
            with_strides(backbone_config, _strides(name))
            found.append(name)
    return found


def _strides(name: str) -> tuple[int, ...] | None:
    family = family_named(name)
    return neck_strides(name) if family.agpl else family.strides


def build(
    name: str,
    backbone_config: AgsspBackboneConfig | None = None,
    id2label: Mapping[int, str] | None = None,
    image_size: int = 640,
    frozen_stages: int = 0,
) -> Any:
    """Build a detector with random weights.

    Args:
        name: One of `NAMES`.
        backbone_config: Its backbone; by default its own, or ResNet50. Which features it returns is chosen here.
        id2label: Names of the classes; one, `defect`, by default.
        image_size: Side in px of its square input, a multiple of 32.
        frozen_stages: Of the backbone.

    Returns:
        A `Detector`, or a model of transformers' made ready by `detr.ready_for_training`.

    Raises:
        InputError: no such detector, or name, backbone and size do not fit together.
    """
    backbone_config = taken_features(name, backbone_config)
    backbone_config = AgsspBackboneConfig(**{**backbone_config.to_dict(), "frozen_stages": frozen_stages})
    fields: dict[str, Any] = {
        "backbone_config": backbone_config,
        "id2label": None if id2label is None else dict(id2label),
        "image_size": image_size,
    }
    family = family_named(name)
    if family.agpl:
        return YoloForObjectDetection(YoloConfig(variant=name, **fields))
    if name == "faster_rcnn":
        return FasterRcnnForObjectDetection(FasterRcnnConfig(**fields))
    if name == "dino":
        return DinoForObjectDetection(DinoConfig(**fields))
    return detr.build_detr(name, **fields)


def for_classes(donor: Any, id2label: Mapping[int, str], image_size: int, frozen_stages: int) -> Any:
    """A detector like another one, for other classes and images, with all of its weights that these leave.

    Args:
        donor: The other one.
        id2label: Names of the classes.
        image_size: Side in px of the square input.
        frozen_stages: Of the backbone.

    Returns:
        The detector, and the `TransferReport`.
    """
    config = copy.deepcopy(donor.config)
    config.id2label, config.label2id = dict(id2label), {name: index for index, name in id2label.items()}
    config.backbone_config.frozen_stages = frozen_stages
    config.backbone_config.frozen_index()
    if is_ours(donor):
        config.image_size = image_size
        model = type(donor)(config)
        return model, model.transfer_from(donor)
    strides = config.feat_strides
    if config.num_queries == min(detr.MOST_QUERIES, detr.cells(config.image_size, config.image_size, strides)):
        config.num_queries = detr.MOST_QUERIES
    config.num_queries = min(config.num_queries, detr.cells(image_size, image_size, strides))
    config.image_size = image_size
    model = detr.ready_for_training(type(donor)(config))
    return model, detr.transfer(model, donor)


def model_type_at(source: str | os.PathLike, expected: str) -> str:
    """Kind of the model in a folder or on the Hub.

    Args:
        source: Folder or Hub id.
        expected: What it should be, for the messages.

    Raises:
        InputError: there is none, or its configuration cannot be read.
    """
    path = Path(source)
    restore_folder(path)
    if not path.exists() and not is_hub_id(source):
        raise InputError(f"{source}: no such folder or file; expected {expected}{near_hint(source)}")
    if path.is_dir() and not (path / "config.json").is_file():
        names = sorted(entry.name for entry in path.iterdir())
        raise InputError(
            f"{source}: holds no config.json; is its training finished? Expected {expected}; it holds "
            f"{', '.join(names[:8]) or 'nothing'}{' ...' if len(names) > 8 else ''}"
        )
    try:
        with opening("model", source):
            config = saved_config(source, {})
    except InputError as error:
        nowhere = "" if path.is_dir() else f"{source}: no such folder, and nothing on the Hub that opens: "
        raise InputError(f"{nowhere}{error}; expected {expected}") from error
    refuse_code(config, f"model {str(source)!r}")
    return str(config.get("model_type"))


def open_folder(source: str | os.PathLike) -> Any:
    """Open a saved detector of any family, in eval mode and float32.

    Args:
        source: Folder or Hub id.

    Raises:
        InputError: it holds no detector of ours, or its weights do not fit.
    """
    kind = model_type_at(source, "a detector's folder or Hub id")
    if kind not in FAMILIES:
        titles = ", ".join(family.title for family in FAMILIES.values())
        raise InputError(
            f"{source}: a model of type {kind!r}, expected a detector ({titles}); pretrained backbones become one with "
            "`agssp pretrain-detector` or `agssp finetune`"
        )
    try:
        if issubclass(FAMILIES[kind].model_class, Detector):
            # NumPy has no bfloat16, and numbers should not depend on the precision that the weights were saved in.
            return FAMILIES[kind].model_class.from_pretrained(source, dtype=torch.float32).eval()
        backbone = saved_config(source, {}).get("backbone_config")
        if not isinstance(backbone, dict) or backbone.get("model_type") != AgsspBackboneConfig.model_type:
            return detr_checkpoints.open_checkpoint(source)
        return detr.open_detr(source).float().eval()
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{source}: cannot load its weights: {error}") from error


def open_file(file: str | os.PathLike) -> Any:
    """Build a detector from a safetensors file with the key names of ultralytics or of torchvision's Faster R-CNN.

    Raises:
        InputError: there is no such file, or it holds neither.
    """
    if not Path(file).is_file():
        raise InputError(f"{file}: no such file; expected weights as safetensors")
    if str(file).endswith(".index.json"):
        raise InputError(
            f"{file}: the index of weights in several files; give the folder it lies in, which is opened as a detector"
        )
    with open_tensors(file) as weights:
        names = set(weights.keys())
    for name, opener in FILES.items():
        if name in names:
            return opener(file)
    raise InputError(
        f"{file}: no tensor {' or '.join(FILES)}; expected the key names of an ultralytics detector or of "
        "torchvision's Faster R-CNN"
    )
