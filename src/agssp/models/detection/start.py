"""What a detector's training starts from: nothing, a backbone, another detector, a file of weights, or two of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from agssp.errors import InputError
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone

from . import catalogue
from .transfer import TransferReport, load_backbone

SCRATCH = "scratch:"
DEFAULT = "yolov8n"


def start_detector(
    source: str,
    detector: str | None,
    names: list[str],
    image_size: int,
    frozen_stages: int,
    backbone: str | None = None,
) -> tuple[Any, Any]:
    """A detector for these classes with the weights that `source` has for it, and the report of what was taken.

    Args:
        source: Detector or backbone folder or Hub id, safetensors file of ultralytics or torchvision, or
            `scratch:DETECTOR`.
        detector: What to build on a backbone, `DEFAULT` if None. Where `source` tells, it may be of the same family.
        names: Classes, in label order.
        image_size: Side of the input in px.
        frozen_stages: Of the backbone.
        backbone: Folder or Hub id of a backbone whose weights replace those of `source`.

    Raises:
        InputError: `source` is none of these, is of another family than `detector`, or does not fit the backbone.
    """
    id2label = dict(enumerate(names))
    if detector is not None:
        try:
            catalogue.family_named(detector)
        except InputError as error:
            raise InputError(f"--{error}") from error
    if source.startswith(SCRATCH):
        name = source.removeprefix(SCRATCH)
        _check_family(source, catalogue.family_named(name), detector)
        fitted = AgsspBackbone.from_pretrained(backbone).config if backbone is not None else None
        model = catalogue.build(name, fitted, id2label, image_size, frozen_stages)
        report: Any = "weights from scratch"
    elif Path(source).is_file() or source.endswith(".safetensors"):
        donor = catalogue.open_file(source)
        _check_family(source, catalogue.family_of(donor), detector)
        model, report = catalogue.for_classes(donor, id2label, image_size, frozen_stages)
    else:
        kind = catalogue.model_type_at(source, f"a detector, a backbone or {SCRATCH}{detector or DEFAULT}")
        if kind == AgsspBackbone.config_class.model_type:
            own = AgsspBackbone.from_pretrained(source)
            model = catalogue.build(detector or DEFAULT, own.config, id2label, image_size, frozen_stages)
            report = load_backbone(model, own)
        else:
            if kind in catalogue.FAMILIES:
                _check_family(source, catalogue.FAMILIES[kind], detector)
            donor = catalogue.open_folder(source)
            model, report = catalogue.for_classes(donor, id2label, image_size, frozen_stages)
    if backbone is not None:
        report = replace_backbone(model, report, source, backbone)
    return model, report


def replace_backbone(model: Any, report: Any, start: str, folder: str) -> str:
    """Give a detector the weights of another backbone.

    Args:
        model: The detector; its backbone is changed in place.
        report: What the detector took over before, from `start_detector`.
        start: Where that came from.
        folder: The backbone: folder or Hub id.

    Returns:
        The report of both: what neck and head hold, and what the backbone.

    Raises:
        InputError: there is no such backbone, or it is of another architecture.
    """
    backbone = AgsspBackbone.from_pretrained(folder)
    try:
        taken = load_backbone(model, backbone)
    except InputError as error:
        raise InputError(f"--backbone {folder} is not the backbone of --start {start}: {error}") from error
    if isinstance(report, TransferReport):  # a start from scratch has none
        report = replace(report, loaded=tuple(name for name in report.loaded if name not in taken.loaded))
    return f"neck and head of {start}: {report}\nbackbone of {folder}: {taken}"


def _check_family(source: str, family: catalogue.Family, detector: str | None) -> None:
    """Refuse a detector of another family than the start's, whose weights could not be used."""
    if detector is not None and catalogue.family_named(detector) is not family:
        raise InputError(
            f"{source} is a {family.title}, --detector {detector} is a {catalogue.family_named(detector).title}: leave "
            f"--detector out to go on from it, or start from a backbone (`agssp pretrain-detector --backbone BACKBONE "
            f"--detector {detector} ...`) or afresh (`agssp finetune {SCRATCH}{detector} ...`)"
        )
