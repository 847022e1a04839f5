#!/usr/bin/env bash
# Datumaro's COCO form can hold two annotations of one id, of which pycocotools finds one by id.
# Expected: ids that were given are kept, and those that were not given are chosen so that all differ.
# Seen: datumaro 1.13.12 begins to count at the highest given id itself, which a mask or polygon further on then has
#   too.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check datumaro==1.13.12 pycocotools==2.0.11
venv/bin/python - <<'PY'
import json
from pathlib import Path

from datumaro import Dataset, DatasetItem
from datumaro.components.annotation import Bbox, Polygon
from datumaro.components.media import Image
from PIL import Image as Picture

Picture.new("L", (80, 60), 90).save("a.png")


def dataset(*annotations):
    item = DatasetItem(id="a", media=Image.from_file(path="a.png"), annotations=list(annotations))
    return Dataset.from_iterable([item], categories=["scratch", "dent"])


import contextlib
import io

from pycocotools.coco import COCO

outline = Polygon([5, 5, 20, 5, 20, 15, 5, 15], label=0, id=12, group=12)
dataset(Bbox(40, 30, 20, 10, label=1), outline).export("coco", "coco_instances")
file = "coco/annotations/instances_default.json"
ids = [row["id"] for row in json.loads(Path(file).read_text())["annotations"]]
with contextlib.redirect_stdout(io.StringIO()):
    read = COCO(file)
print("ids written:", ids, "| annotations by id in pycocotools:", len(read.anns))
assert ids == [12, 12]
assert len(read.anns) == 1
PY
