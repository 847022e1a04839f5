"""labelme: JSON beside the images, with each kind of shape that has an area."""

import os
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"
import numpy as np
from exports.common import BOXES, FLAT, SMALL, SOUND, TRIANGLE, TURNED, keep, pictures, xywh
from labelme import utils
from labelme._label_file import LabelFile, read_image_file
from labelme._shape import Shape, bounds
from labelme.app import _shape_to_dict
from PyQt5.QtCore import QPointF

NAME = "labelme-6.3.1"


def drawn() -> dict[str, list]:
    """The shapes by image: label, type, points, mask."""
    mask = np.zeros((10, 15), bool)
    mask[:, 5:] = True
    (_, (left, top, right, bottom)), (_, (left2, top2, right2, bottom2)) = BOXES[FLAT]
    (_, corners) = BOXES[TURNED][0]
    return {
        FLAT: [
            ("dent", "rectangle", [(right, bottom), (left, top)], None),
            ("scratch", "rectangle", [(left2, bottom2), (right2, top2)], None),
            ("pit", "circle", [(80.5, 20.25), (84.5, 23.25)], None),
        ],
        SMALL: [
            ("stain", "polygon", TRIANGLE, None),
            ("scratch", "oriented_rectangle", [(20, 10), (40, 25), (37, 29), (17, 14)], None),
            ("rust", "mask", [(5, 40), (19, 49)], mask),
        ],
        SOUND: [],
        TURNED: [("dent", "rectangle", [corners[:2], corners[2:]], None)],
    }


def shape_of(label: str, kind: str, points, mask=None) -> Shape:
    shape = Shape(label=label, shape_type=kind, flags={}, description="", mask=mask)
    for point in points:
        shape.add_point(QPointF(*point))
    return shape


def box_of(row: dict, width: int, height: int) -> list[float]:
    """xywh in px of a shape that labelme read."""
    if row["shape_type"] == "mask":
        _, instances = utils.shapes_to_label((height, width), [row], {row["label"]: 1})
        top, left, bottom, right = utils.masks_to_bboxes(instances[None] == 1)[0]
        return xywh((left, top, right, bottom))
    return bounds(shape=shape_of(row["label"], row["shape_type"], row["points"])).normalized().getRect()


def write() -> None:
    pictures(Path(NAME))
    images = {}
    for name, shapes in drawn().items():
        content = read_image_file(f"{NAME}/{name}")
        width, height = utils.img_data_to_pil(content).size
        file = f"{NAME}/{Path(name).stem}.json"
        rows = [_shape_to_dict(shape_of(*shape)) for shape in shapes]
        LabelFile().save(file, rows, name, height, width, image_data=content if name == TURNED else None)
        objects = [(row["label"], box_of(row, width, height), 0) for row in LabelFile(file).shapes]
        images[name] = (width, height, objects)
    read_by = "_shape.bounds of LabelFile.shapes; for the mask utils.shapes_to_label, masks_to_bboxes"
    classes = ["dent", "pit", "rust", "scratch", "stain"]
    keep(NAME, read_by, {"": images}, classes=classes, because="numbers are written in full")
