"""Datumaro: CVAT's XML 1.1, COCO, YOLO 1.1, the Ultralytics form, Pascal VOC, and its own JSON."""

import os
from pathlib import Path

import numpy as np
from datumaro import Dataset, DatasetItem
from datumaro.components.annotation import AnnotationType, Bbox, Mask, Polygon, RotatedBbox
from datumaro.components.media import Image
from exports.common import BOXES, CLASSES, SMALL, TRIANGLE, keep, keep_refused, pictures, xywh

TOOL = "datumaro-1.13.12"
WHOLE, PARTS = ("default",) * 4, ("train", "val") * 2
OF_2_DIGITS, OF_6_DIGITS = "numbers of 2 digits, read as such", "fractions of 6 digits"


def more() -> tuple[RotatedBbox, Polygon, Mask]:
    pixels = np.zeros((60, 80), bool)
    pixels[10:20, 40:55] = True
    outline = Polygon([v for point in TRIANGLE for v in point], label=1)
    return RotatedBbox(30, 40, 30, 8, 30, label=0), outline, Mask(pixels, label=1)


def data(files: list[str], subsets: tuple, further: list) -> Dataset:
    """All boxes, and further objects in SMALL."""
    items = []
    for file, subset in zip(files, subsets, strict=True):
        boxes = [Bbox(*xywh(corners), label=CLASSES.index(label)) for label, corners in BOXES[Path(file).name]]
        boxes += further if file.endswith(SMALL) else []
        image = Image.from_file(path=file)
        items.append(DatasetItem(id=Path(file).stem, subset=subset, media=image, annotations=boxes))
    return Dataset.from_iterable(items, categories=CLASSES)


def read(name: str, form: str, because: str) -> None:
    """Keep what datumaro reads in its own export."""
    found = Dataset.import_from(name, form)
    labels = [label.name for label in found.categories()[AnnotationType.label]]
    splits: dict[str, dict] = {}
    for item in found:
        height, width = item.media.size
        # Of COCO, an outline or a mask is given a second time, as a Bbox.
        shapes = [shape for shape in item.annotations if form != "coco" or isinstance(shape, Bbox)]
        objects = [(labels[shape.label], shape.get_bbox(), shape.attributes.get("is_crowd", 0)) for shape in shapes]
        path = os.path.relpath(item.media.path, Path(name).resolve())
        splits.setdefault(item.subset.replace("default", ""), {})[path] = (width, height, objects)
    classes = [label for label in labels if label != "background"]
    keep(name, f"Dataset.import_from({form!r}), get_bbox", splits, classes=classes, because=because)


def write() -> None:
    files = pictures(Path("in"))
    turned, outline, mask = more()
    data(files, WHOLE, [turned, outline, mask]).export(f"{TOOL}-cvat", "cvat", save_media=True)
    read(f"{TOOL}-cvat", "cvat", OF_2_DIGITS)
    data(files, WHOLE, [outline, mask]).export(f"{TOOL}-coco", "coco_instances", save_media=True)
    read(f"{TOOL}-coco", "coco", OF_2_DIGITS)
    found = data(files, WHOLE, [outline]).transform("boxes_to_masks").transform("polygons_to_masks")
    found.export(f"{TOOL}-coco-masks", "coco_instances", save_media=True)
    read(f"{TOOL}-coco-masks", "coco", "whole px of the masks")
    data(files, PARTS, []).export(f"{TOOL}-yolo", "yolo", save_media=True)
    read(f"{TOOL}-yolo", "yolo", OF_6_DIGITS)
    data(files, PARTS, []).export(f"{TOOL}-yolo-ultralytics", "yolo_ultralytics", save_media=True)
    read(f"{TOOL}-yolo-ultralytics", "yolo", OF_6_DIGITS)
    data(files, PARTS, []).export(f"{TOOL}-voc", "voc_detection", save_media=True)
    read(f"{TOOL}-voc", "voc", OF_2_DIGITS)
    data(files, WHOLE, [outline]).export(f"{TOOL}-datumaro", "datumaro", save_media=True)
    keep_refused(f"{TOOL}-datumaro", "default.json")
