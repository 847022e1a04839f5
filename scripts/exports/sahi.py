"""sahi: COCO beside a folder of images, with a box and a polygon."""

from pathlib import Path

from exports.common import BOXES, CLASSES, FLAT, SIZES, SMALL, SOUND, TRIANGLE, keep, pictures, xywh
from sahi.utils.coco import Coco, CocoAnnotation, CocoCategory, CocoImage
from sahi.utils.file import save_json

NAME = "sahi-0.12.8"


def write() -> None:
    names, images = (FLAT, SMALL, SOUND), {}
    pictures(Path(NAME, "images"), names)
    dataset = Coco()
    for number, label in enumerate(CLASSES):
        dataset.add_category(CocoCategory(id=number, name=label))
    for name in names:
        width, height = SIZES[name]
        image = CocoImage(file_name=name, width=width, height=height)
        for label, corners in BOXES[name]:
            box = CocoAnnotation(bbox=xywh(corners), category_id=CLASSES.index(label), category_name=label)
            image.add_annotation(box)
        if name == SMALL:
            outline = [[v for point in TRIANGLE for v in point]]
            image.add_annotation(CocoAnnotation(segmentation=outline, category_id=1, category_name="dent"))
        dataset.add_image(image)
        objects = [(row.category_name, row.bbox, row.iscrowd) for row in image.annotations]
        images[f"images/{name}"] = (width, height, objects)
    save_json(dataset.json, f"{NAME}/dataset.json")
    # Read back, sahi makes each box anew of the polygon, which it wrote in whole px.
    keep(NAME, "CocoAnnotation.bbox", {"": images}, because="numbers are written in full")
