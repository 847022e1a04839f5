"""globox: the JSON of VIA, the VGG Image Annotator."""

from pathlib import Path

from exports.common import BOXES, SIZES, keep_refused, pictures
from globox import Annotation, AnnotationSet, BoundingBox

NAME = "globox-2.9.0-via"


def write() -> None:
    pictures(Path(NAME))
    found = AnnotationSet()
    for name, boxes in BOXES.items():
        rows = [BoundingBox(label=label, xmin=a, ymin=b, xmax=c, ymax=d) for label, (a, b, c, d) in boxes]
        found.add(Annotation(name, SIZES[name], rows))
    found.save_via_json(f"{NAME}/via_region_data.json", image_folder=Path(NAME))
    keep_refused(NAME, "via_region_data.json")
