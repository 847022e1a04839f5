"""LabelImg: Pascal VOC, YOLO and CreateML, all beside the images."""

import os
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"
from exports.common import BOXES, keep, keep_refused, pictures, xywh
from libs.labelFile import LabelFile
from libs.pascal_voc_io import PascalVocReader
from libs.yolo_io import YoloReader
from PyQt5.QtGui import QImage, QImageReader

TOOL = "labelImg-1.8.6"


def opened(file: str) -> QImage:
    """An image as the tool's window opens it: upright."""
    reader = QImageReader(file)
    reader.setAutoTransform(True)
    return reader.read()


def shapes_of(name: str) -> list[dict]:
    return [
        {"label": label, "points": [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], "difficult": False}
        for label, (x0, y0, x1, y1) in BOXES[name]
    ]


def entry(image: QImage, found: list) -> tuple:
    return image.width(), image.height(), [(label, xywh((*points[0], *points[2])), 0) for label, points, *_ in found]


def write() -> None:
    # The tool writes the absolute path of each image into its XML: here one of no machine.
    voc, yolo, classes = {}, {}, []
    for file in pictures(Path(f"{TOOL}-voc")):
        name, image, target = Path(file).name, opened(file), str(Path(file).with_suffix(".xml"))
        LabelFile().save_pascal_voc_format(target, shapes_of(name), f"/data/line/{name}", image)
        voc[name] = entry(image, PascalVocReader(target).get_shapes())
    keep(f"{TOOL}-voc", "libs.pascal_voc_io.PascalVocReader", {"": voc}, because="whole px are written")
    for file in pictures(Path(f"{TOOL}-yolo")):
        name, image, target = Path(file).name, opened(file), str(Path(file).with_suffix(".txt"))
        LabelFile().save_yolo_format(target, shapes_of(name), file, image, classes)
        yolo[name] = entry(image, YoloReader(target, image).get_shapes())
    because = "whole px are written, as fractions of 6 digits"
    keep(f"{TOOL}-yolo", "libs.yolo_io.YoloReader", {"": yolo}, classes=classes, because=because)
    for file in pictures(Path(f"{TOOL}-createml")):
        target = f"{TOOL}-createml/line.json"
        LabelFile().save_create_ml_format(target, shapes_of(Path(file).name), file, None, classes)
    keep_refused(f"{TOOL}-createml", "line.json")
