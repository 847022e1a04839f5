#!/usr/bin/env bash
# sahi writes a polygon in whole pixels beside a bbox that is not, and reads the box back from the polygon.
# Expected: bbox and segmentation of one annotation agree, and a file that was written and read gives the boxes that
#   were put in.
# Seen: sahi 0.12.8 cuts the decimals of the polygon and the area, keeps those of the bbox, and on reading makes the
#   box anew of the polygon: a thin defect loses its width.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check sahi==0.12.8
venv/bin/python - <<'PY'
import json
import logging
from pathlib import Path

logging.disable()
from sahi.utils.coco import Coco, CocoAnnotation, CocoCategory, CocoImage

outline = [[10.2, 10.9, 13.8, 10.9, 13.8, 30.7, 10.2, 30.7]]
image = CocoImage(file_name="a.png", width=80, height=60)
image.add_annotation(CocoAnnotation(segmentation=outline, category_id=0, category_name="scratch"))
dataset = Coco()
dataset.add_category(CocoCategory(id=0, name="scratch"))
dataset.add_image(image)
Path("coco.json").write_text(json.dumps(dataset.json))
(row,) = dataset.json["annotations"]
(again,) = Coco.from_coco_dict_or_path("coco.json").images[0].annotations
before, after = ([round(v, 2) for v in box] for box in (row["bbox"], again.bbox))
print("written:", before, row["segmentation"], "area", row["area"], "| read:", after)
assert before == [10.2, 10.9, 3.6, 19.8]
assert row["segmentation"] == [[10, 10, 13, 10, 13, 30, 10, 30]]
assert after == [10, 10, 3, 20]
PY
