"""Boxes and outlines that a source keeps in files of their own: VOC, YOLO, labelme, COCO, run lengths in CSV.

A source's `labels` gives `format` and, for one file an image, `file`, a path with the groups of the image's name
(`lable/{stem}.xml`); for one file of many images `tables`, each with `file` and, where they apply, `images` (the folder
of its images) and `split`.

The files are read by the readers of `--dataset`, and what they state is held against the images in the same way. What
the labels of photos that EXIF turns are of is decided for the source as a whole, what boxes marked as crowds are for
each of its tables.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agssp.data.readers.coco import is_upright, parse_coco
from agssp.data.readers.frames import read_frame
from agssp.data.readers.geometry import (
    StatedLabels,
    check_pixels,
    labels_are_stored,
    move_of,
    place_boxes,
    settle_crowds,
)
from agssp.data.readers.labelme import read_labelme_file
from agssp.data.readers.listing import path_inside, read_text
from agssp.data.readers.records import Box, Label, check_names
from agssp.data.readers.report import ReadReport
from agssp.data.readers.voc import read_objects
from agssp.data.readers.yolo_labels import Classes, read_labels
from agssp.errors import InputError
from agssp.parsing import parse_json
from agssp.sources.defects import Mask, MaskRuns, MaskShape
from agssp.sources.outlines import move_outline
from agssp.sources.table import Source

ONE_FILE = ("voc", "yolo", "labelme")
TABLES = ("coco", "runs")


@dataclass
class Told:
    """What the files of a source tell of one image, before it is looked at.

    Attributes:
        labels: as the file states them, classes as the source calls them; None where the format has none, or its file
            has no annotations.
        outlines: of each label, in COCO's form; None where it has none.
        size: (width, height) px of the image that labels and outlines are for; None where that is not stated.
        fractions: whether the labels are fractions of the image instead of px.
        upright: whether the labels are of the upright image, though the stated size may be that of the stored pixels.
        masks: of a format that has masks in place of labels.
        annotated: whether anything is annotated, also what is dropped here; if not, the image has no defects. None:
            nobody has said.
        table: the file, where it is one of many images.
        split: None where the format tells none.
    """

    labels: Sequence[Label] | None = None
    outlines: Sequence[Any] = ()
    size: tuple[float, float] | None = None
    fractions: bool = False
    upright: bool = False
    masks: list[Mask] = field(default_factory=list)
    annotated: bool | None = False
    table: str = ""
    split: str | None = None


@dataclass
class Labels:
    """What is known of one image.

    Attributes:
        boxes: COCO xywh px of the upright image; None where they are not known.
        masks: outlines.
        split: None where the format tells none.
        annotated: as of `Told`.
    """

    boxes: list[Box] | None = None
    masks: list[Mask] = field(default_factory=list)
    split: str | None = None
    annotated: bool | None = False


def read_told(
    source: Source, root: Path, images: Sequence[tuple[Path, Mapping[str, str]]], report: ReadReport
) -> list[Told | None]:
    """Read all label files of a source.

    Args:
        source: the source.
        root: its folder.
        images: path of each image and the groups of its name.
        report: gets a note of what was changed or left out.

    Returns:
        What is told of each image; None where that is nothing.

    Raises:
        InputError: a file is missing or malformed, or the source's entry names no such format.
    """
    kind = source.labels.get("format")
    if kind is None:
        return [None] * len(images)
    report.layout = kind
    if kind in ONE_FILE:
        files = [path_inside(root, source.labels["file"].format(**groups), f"source {source.name}")
                 for _, groups in images]  # fmt: skip
        there = [file for file in dict.fromkeys(files) if file.is_file()]
        by_file = dict(zip(there, _read_files(source, kind, there, report), strict=True))
        report.labels_from = min((file.relative_to(root).as_posix() for file in there), default="")
        told = [by_file.get(file) for file in files]
    elif kind in TABLES:
        by_image: dict[Path, Told] = {}
        for entry in source.labels["tables"]:
            read = _read_coco if kind == "coco" else _read_runs
            for image, found in read(source, root, entry, report).items():
                by_image.setdefault(image, found)
        report.labels_from = source.labels["tables"][0]["file"]
        paths = {path for path, _ in images}
        missing = [path for path in by_image if path not in paths and not path.is_file()]
        report.note_all("missing_images", [path.relative_to(root).as_posix() for path in missing])
        told = [by_image.get(path) for path, _ in images]
    else:
        expected = f"{', '.join(ONE_FILE)}, {' or '.join(TABLES)}"
        raise InputError(f"source {source.name}: labels of format {kind!r}: expected {expected}")
    return told


def settle_labels(
    source: Source, images: Sequence[tuple[str, Path, Told | None]], report: ReadReport, crowds: str = "auto"
) -> list[Labels | None]:
    """Bring what is told of a source's images to boxes and outlines in px of the upright images.

    Args:
        source: the source.
        images: id and path of each image, and what is told of it.
        report: gets a note of every change.
        crowds: what boxes marked as crowds are, see `resolve_crowds`.

    Returns:
        What is known of each image, under the names of classes that are used here; None where nothing is told.

    Raises:
        InputError: as `settle_boxes`.
    """
    rows = [_stated(image_id, path, told, report) for image_id, path, told in images]
    stored = labels_are_stored(rows, report)
    check_pixels(rows)
    boxes = [place_boxes(row, stored, report) for row in rows]
    by_table: dict[str, list[int]] = defaultdict(list)
    for index, (_, _, told) in enumerate(images):
        if told is not None and told.labels is not None:
            by_table[told.table].append(index)
    for indices in by_table.values():
        settled = settle_crowds([boxes[index] for index in indices], crowds, report)
        for index, each in zip(indices, settled, strict=True):
            boxes[index] = each
    return [
        None
        if told is None
        else Labels(
            boxes=None if placed is None else _renamed_boxes(source, placed),
            masks=told.masks or _shapes(source, told, row, stored, report),
            split=told.split,
            annotated=told.annotated,
        )
        for (_, _, told), row, placed in zip(images, rows, boxes, strict=True)
    ]


def renamed(source: Source, name: str) -> str | None:
    """The name of a class here; None where it is dropped."""
    return source.names.get(name, name)


def _stated(image_id: str, path: Path, told: Told | None, report: ReadReport) -> StatedLabels:
    if told is None:
        return StatedLabels(image_id, None, None)
    frame = read_frame(path, str(path), report) if told.labels or told.masks else None
    return StatedLabels(image_id, told.labels, frame, told.size, told.fractions, told.upright)


def _shapes(source: Source, told: Told, row: StatedLabels, stored: bool, report: ReadReport) -> list[Mask]:
    """Outlines of an image; none where some of its boxes have none: a part of the defects is no mask of the image."""
    named = [
        (outline, name, label.where)
        for label, outline in zip(told.labels or (), told.outlines, strict=bool(told.outlines))
        if (name := renamed(source, label.defect_type)) is not None
    ]
    if not all(outline for outline, _, _ in named):
        # COCO files without any outlines are what most are.
        if any(outline for outline, _, _ in named) or source.labels["format"] == "labelme":
            report.note("part_of_outlines", row.image_id)
        return []
    move = None if row.frame is None else move_of(row, row.frame, stored)
    return [
        MaskShape(outline if move is None else move_outline(outline, move), name, where)
        for outline, name, where in named
    ]


def _renamed_boxes(source: Source, boxes: Sequence[Box]) -> list[Box]:
    """Boxes of the classes that are kept; two of one place and class, which had two names there, are one."""
    kept: dict[Any, Box] = {}
    for box in boxes:
        name = renamed(source, box.defect_type)
        if name is not None:
            kept.setdefault((*box.bbox, name, box.iscrowd), Box(box.bbox, name, box.score, box.iscrowd))
    return list(kept.values())


def _check_classes(source: Source, labels: Sequence[Label]) -> None:
    if source.classes:
        for label in labels:
            name = renamed(source, label.defect_type)
            check_names([] if name is None else [name], source.classes, label.where)


def _read_files(source: Source, kind: str, files: Sequence[Path], report: ReadReport) -> list[Told]:
    """What each label file of one image tells."""
    if kind == "yolo":
        classes = Classes(dict(enumerate(source.classes)), f"the classes of source {source.name}")
        told = [Told(labels, fractions=True) for labels in read_labels(files, classes, report)]
    else:
        told = [_read_labelme(file, report) if kind == "labelme" else _read_voc(file, report) for file in files]
    for found in told:
        _check_classes(source, found.labels or [])
        found.annotated = found.annotated or bool(found.labels)
    return told


def _read_voc(file: Path, report: ReadReport) -> Told:
    labels, size = read_objects(file, report)
    return Told(labels, size=size)


def _read_labelme(file: Path, report: ReadReport) -> Told:
    found = read_labelme_file(file, report)
    # Whoever has set points or a flag in an image does not say that it has no defects.
    return Told(found.labels, found.outlines, found.size, annotated=bool(found.without_area or found.flags))


def _read_coco(source: Source, root: Path, entry: dict[str, str], report: ReadReport) -> dict[Path, Told]:
    file = path_inside(root, entry["file"], f"source {source.name}")
    content = parse_json(_text(file), str(file))
    images, _ = parse_coco(content, str(file), report)
    told: dict[Path, Told] = {}
    for image in images.values():
        path = path_inside(root / entry.get("images", "."), image.file_name, str(file))
        if path in told:
            raise InputError(f"{file}: lists the image {image.file_name!r} twice; expected it once, with all its boxes")
        _check_classes(source, image.labels or [])
        told[path] = Told(
            image.labels,
            image.outlines,
            image.size,
            upright=is_upright(content),
            annotated=None if image.labels is None else bool(image.labels),
            table=entry["file"],
            split=entry.get("split"),
        )
    return told


def _read_runs(source: Source, root: Path, entry: dict[str, str], report: ReadReport) -> dict[Path, Told]:
    """A CSV with ImageId, ClassId and EncodedPixels, or, as first distributed, ImageId_ClassId and EncodedPixels."""
    file = path_inside(root, entry["file"], f"source {source.name}")
    columns, rows = _csv_table(file)
    if "EncodedPixels" not in columns or not ({"ImageId", "ClassId"} <= columns or "ImageId_ClassId" in columns):
        raise InputError(f"{file}: expected the columns ImageId, ClassId, EncodedPixels; got {', '.join(columns)}")
    told: dict[Path, Told] = {}
    for number, row in enumerate(rows, 2):
        where = f"{file}:{number}"
        both = (row.get("ImageId_ClassId") or "").rsplit("_", 1)
        name, label = (row["ImageId"], row["ClassId"]) if "ImageId" in columns else (both[0], both[-1])
        path = path_inside(root / entry.get("images", "."), name or "", where)
        found = told.setdefault(path, Told(table=entry["file"], split=entry.get("split")))
        class_name = renamed(source, label or "")
        if not (row["EncodedPixels"] or "").strip():
            continue
        found.annotated = True
        if class_name is not None:
            if source.classes:
                check_names([class_name], source.classes, where)
            found.masks.append(MaskRuns(row["EncodedPixels"].strip(), class_name, where))
    return told


def _csv_table(file: Path) -> tuple[set[str], list[dict[str, str]]]:
    """Names of a CSV's columns, and its rows; a field of more than 128 KiB, Python's own limit, is no run lengths."""
    try:
        rows = csv.DictReader(_text(file).splitlines())
        return set(rows.fieldnames or []), list(rows)
    except csv.Error as error:
        raise InputError(f"{file}: not a valid CSV: {error}") from error


def _text(file: Path) -> str:
    if not file.is_file():
        raise InputError(f"{file}: no such file; the source's labels should be there")
    return read_text(file)
