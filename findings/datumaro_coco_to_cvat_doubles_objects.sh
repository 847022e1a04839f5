#!/usr/bin/env bash
# Datumaro turns each COCO object with a polygon or mask into two CVAT shapes.
# Expected: two annotations in a COCO file are two shapes in CVAT's XML.
# Seen: datumaro 1.13.12 reads each as its outline and a box besides, tied by a group number; CVAT's form has both as
#   objects of their own, and counting classes or training on the result counts each defect twice.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check datumaro==1.13.12
venv/bin/python - <<'PY'
import json
import logging
import re
from pathlib import Path

from datumaro import Dataset, DatasetItem
from datumaro.components.media import Image
from PIL import Image as Picture

Picture.new("L", (80, 60), 90).save("a.png")


def dataset(*annotations):
    item = DatasetItem(id="a", media=Image.from_file(path="a.png"), annotations=list(annotations))
    return Dataset.from_iterable([item], categories=["scratch", "dent"])


logging.disable()
Path("coco/annotations").mkdir(parents=True)
Path("coco/images/default").mkdir(parents=True)
Path("a.png").rename("coco/images/default/a.png")
rows = [
    {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [5, 5, 15, 10],
        "area": 150,
        "iscrowd": 0,
        "segmentation": [[5, 5, 20, 5, 20, 15, 5, 15]],
    },
    {
        "id": 2,
        "image_id": 1,
        "category_id": 1,
        "bbox": [40, 30, 20, 10],
        "area": 200,
        "iscrowd": 0,
        "segmentation": [[40, 30, 60, 30, 60, 40, 40, 40]],
    },
]
content = {"images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}], "annotations": rows}
content["categories"] = [{"id": 1, "name": "dent"}]
Path("coco/annotations/instances_default.json").write_text(json.dumps(content))
Dataset.import_from("coco", "coco_instances").export("cvat", "cvat")
shapes = re.findall(r"<(box|polygon|mask) ", Path("cvat/default.xml").read_text())
print("2 COCO annotations became", shapes)
assert sorted(shapes) == ["box", "box", "polygon", "polygon"]
PY
