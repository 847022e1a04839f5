#!/usr/bin/env bash
# In Datumaro's COCO form iscrowd says how an object was drawn, not whether it is a crowd.
# Expected: iscrowd is 1 where the attribute is_crowd is true and 0 elsewhere.
# Seen: datumaro 1.13.12 writes 1 for each single object drawn as a mask, which COCO's evaluation then ignores, and 0
#   for a box whose is_crowd is true.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check datumaro==1.13.12
venv/bin/python - <<'PY'
import json
from pathlib import Path

import numpy as np
from datumaro import Dataset, DatasetItem
from datumaro.components.annotation import Bbox, Mask
from datumaro.components.media import Image
from PIL import Image as Picture

Picture.new("L", (80, 60), 90).save("a.png")


def dataset(*annotations):
    item = DatasetItem(id="a", media=Image.from_file(path="a.png"), annotations=list(annotations))
    return Dataset.from_iterable([item], categories=["scratch", "dent"])


pixels = np.zeros((60, 80), bool)
pixels[10:20, 40:55] = True
crowd = Bbox(5, 30, 15, 10, label=0, attributes={"is_crowd": True})
dataset(Mask(pixels, label=1), crowd).export("coco", "coco_instances")
rows = json.loads(Path("coco/annotations/instances_default.json").read_text())["annotations"]
found = {row["category_id"]: row["iscrowd"] for row in rows}
print("iscrowd of a mask of one object:", found[2], "| of a box with is_crowd true:", found[1])
assert found == {1: 0, 2: 1}
PY
