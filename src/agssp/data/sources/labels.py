"""Boxes and outlines that a source keeps in files of their own: VOC, YOLO, labelme, COCO, run lengths in CSV.

A source's `labels` gives `format` and, for one file an image, `file`, a path with the groups of the image's name
(`lable/{stem}.xml`); for one file of many images `tables`, each with `file` and, where they apply, `images` (the folder
of its images) and `split`.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agssp.data.readers.crowds import crowd_flag, crowd_line
from agssp.data.readers.records import Box, ReadReport, check_names, clean_box, path_inside, read_text, readable_size
from agssp.data.readers.voc import read_boxes as read_voc_boxes
from agssp.data.readers.yolo import read_labels as read_yolo_labels
from agssp.data.sources.defects import Mask, MaskRuns, MaskShape
from agssp.data.sources.table import Source
from agssp.errors import InputError


@dataclass
class Labels:
    """What is told of one image.

    Attributes:
        boxes: COCO xywh px; None where the format has none.
        masks: outlines.
        split: None where the format tells none.
        annotated: whether anything is annotated, also what is dropped here; if not, the image has no defects.
    """

    boxes: list[Box] | None = None
    masks: list[Mask] = field(default_factory=list)
    split: str | None = None
    annotated: bool = False


# Path of an image and the groups of its name -> its labels; None where there are none.
LabelReader = Callable[[Path, dict[str, str]], Labels | None]


def label_reader(source: Source, root: Path, report: ReadReport) -> LabelReader:
    """What reads the labels of a source's images.

    Args:
        source: the source.
        root: its folder.
        report: gets the boxes that were changed or dropped.

    Raises:
        InputError: a table is missing or malformed, or the source's entry names no such format.
    """
    kind = source.labels.get("format")
    if kind is None:
        return lambda image, groups: None
    if kind in ("voc", "yolo", "labelme"):
        return lambda image, groups: _of_one_file(source, kind, _label_file(source, root, groups), image, report)
    if kind in ("coco", "runs"):
        read = _read_coco if kind == "coco" else _read_runs
        told: dict[Path, Labels] = {}
        for entry in source.labels["tables"]:
            for image, labels in read(source, root, entry, report).items():
                told.setdefault(image, labels)
        return lambda image, groups: told.get(image)
    raise InputError(f"source {source.name}: labels of format {kind!r}: expected voc, yolo, labelme, coco or runs")


def renamed(source: Source, name: str) -> str | None:
    """The name of a class here; None where it is dropped."""
    return source.names.get(name, name)


def _label_file(source: Source, root: Path, groups: dict[str, str]) -> Path:
    return path_inside(root, source.labels["file"].format(**groups), f"source {source.name}")


def _of_one_file(source: Source, kind: str, file: Path, image: Path, report: ReadReport) -> Labels | None:
    if not file.is_file():
        return None
    if kind == "labelme":
        return _read_labelme(source, file, image, report)
    dropped = len(report.dropped)
    if kind == "voc":
        boxes = read_voc_boxes(file, image, report)
    else:
        boxes = read_yolo_labels(file, image, source.classes, report)
    annotated = bool(boxes) or len(report.dropped) > dropped
    return Labels(boxes=_renamed_boxes(source, boxes, str(file)), annotated=annotated)


def _renamed_boxes(source: Source, boxes: list[Box], where: str) -> list[Box]:
    kept = []
    for box in boxes:
        name = renamed(source, box.defect_type)
        if name is not None:
            if source.classes:
                check_names([name], source.classes, where)
            kept.append(Box(box.bbox, name, box.score, box.iscrowd))
    return kept


def _read_labelme(source: Source, file: Path, image: Path, report: ReadReport) -> Labels:
    content = _read_json(file)
    boxes, masks = [], []
    for index, shape in enumerate(content.get("shapes", [])):
        where = f"{file} shape {index}"
        try:
            points = [(float(x), float(y)) for x, y in shape["points"]]
            name = str(shape["label"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: expected a label and points [[x, y], ...], got {str(shape)[:60]}") from error
        if shape.get("shape_type") == "rectangle" and len(points) == 2:
            (left, top), (right, bottom) = points
            points = [(left, top), (right, top), (right, bottom), (left, bottom)]
        if len(points) < 3:
            raise InputError(f"{where}: expected a polygon of 3 points or more, or a rectangle of 2, got {len(points)}")
        xs, ys = [x for x, _ in points], [y for _, y in points]
        boxes.append((Box((min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), name), where))
        class_name = renamed(source, name)
        if class_name is not None:
            masks.append(MaskShape([[value for point in points for value in point]], class_name, where))
    return Labels(_cleaned(source, boxes, image, report), list(masks), annotated=bool(boxes))


def _read_coco(source: Source, root: Path, entry: dict[str, str], report: ReadReport) -> dict[Path, Labels]:
    file = path_inside(root, entry["file"], f"source {source.name}")
    content = _read_json(file)
    folder = root / entry.get("images", ".")
    try:
        images = {row["id"]: path_inside(folder, str(row["file_name"]), str(file)) for row in content["images"]}
        names = {row["id"]: str(row["name"]) for row in content["categories"]}
        annotations = list(content.get("annotations", []))
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: expected a COCO file with images, annotations and categories: {error!r}") from error
    boxes: dict[Any, list[tuple[Box, str]]] = {key: [] for key in images}
    masks: dict[Any, list[Mask]] = {key: [] for key in images}
    whole = annotations and all(
        isinstance(row, dict) and crowd_flag(row.get("iscrowd"), str(file)) for row in annotations
    )
    if whole:
        report.sentences.append(f"{file.name}: {crowd_line(len(annotations), len(annotations), 'auto')}")
    for index, row in enumerate(annotations):
        where = f"{file} annotation {row.get('id', index) if isinstance(row, dict) else index}"
        try:
            key, name = row["image_id"], names[row["category_id"]]
            x, y, w, h = map(float, row["bbox"])
            iscrowd = not whole and crowd_flag(row.get("iscrowd"), where)
            boxes[key].append((Box((x, y, w, h), name, iscrowd=iscrowd), where))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{where}: expected image_id and category_id of the file and bbox = [x, y, width, height]: {error!r}"
            ) from error
        class_name = renamed(source, name)
        if row.get("segmentation") and class_name is not None:
            masks[key].append(MaskShape(row["segmentation"], class_name, where))
    return {
        path: Labels(_cleaned(source, boxes[key], path, report), masks[key], entry.get("split"), bool(boxes[key]))
        for key, path in images.items()
    }


def _read_runs(source: Source, root: Path, entry: dict[str, str], report: ReadReport) -> dict[Path, Labels]:
    """A CSV with ImageId, ClassId and EncodedPixels, or, as first distributed, ImageId_ClassId and EncodedPixels."""
    file = path_inside(root, entry["file"], f"source {source.name}")
    rows = csv.DictReader(_text(file).splitlines())
    columns = set(rows.fieldnames or [])
    if "EncodedPixels" not in columns or not ({"ImageId", "ClassId"} <= columns or "ImageId_ClassId" in columns):
        raise InputError(f"{file}: expected the columns ImageId, ClassId, EncodedPixels; got {', '.join(columns)}")
    told: dict[Path, Labels] = {}
    for number, row in enumerate(rows, 2):
        where = f"{file}:{number}"
        both = (row.get("ImageId_ClassId") or "").rsplit("_", 1)
        name, label = (row["ImageId"], row["ClassId"]) if "ImageId" in columns else (both[0], both[-1])
        path = path_inside(root / entry.get("images", "."), name or "", where)
        labels = told.setdefault(path, Labels(split=entry.get("split")))
        class_name = renamed(source, label or "")
        if not (row["EncodedPixels"] or "").strip():
            continue
        labels.annotated = True
        if class_name is not None:
            if source.classes:
                check_names([class_name], source.classes, where)
            labels.masks.append(MaskRuns(row["EncodedPixels"].strip(), class_name, where))
    return told


def _cleaned(source: Source, boxes: list[tuple[Box, str]], image: Path, report: ReadReport) -> list[Box]:
    """Boxes clipped to their image, with the names that are used here."""
    if not boxes or not image.is_file():
        return []
    size = readable_size(image, report)
    if size is None:
        return []
    cleaned = [(clean_box(box, *size, where, report), where) for box, where in boxes]
    return [kept for box, where in cleaned if box is not None for kept in _renamed_boxes(source, [box], where)]


def _text(file: Path) -> str:
    if not file.is_file():
        raise InputError(f"{file}: no such file; the source's labels should be there")
    return read_text(file)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a JSON object, got {type(content).__name__}")
    return content
