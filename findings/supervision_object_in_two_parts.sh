#!/usr/bin/env bash
# One object whose mask is in two parts is a crowd in supervision's COCO form and two objects in its YOLO form.
# Expected: one object stays one object with iscrowd 0; COCO's polygons may have several parts, and iscrowd 1 means a
#   region to ignore.
# Seen: supervision 0.31.2 writes the mask as RLE with iscrowd 1, which COCO's evaluation leaves out of the count, and
#   in YOLO a row for each part, which it reads back as two objects.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check supervision==0.31.2
venv/bin/python - <<'PY'
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

warnings.simplefilter("ignore")
import supervision as sv

mask = np.zeros((1, 60, 80), bool)
mask[0, 40:50, 5:20] = mask[0, 40:50, 25:35] = True  # a scratch with a gap
found = sv.Detections(xyxy=sv.mask_to_xyxy(mask), mask=mask, class_id=np.array([0]))
Path("in").mkdir()
Image.new("L", (80, 60)).save("in/a.png")
dataset = sv.DetectionDataset(classes=["scratch"], images=["in/a.png"], annotations={"in/a.png": found})
dataset.as_coco(annotations_path="coco.json")
dataset.as_yolo("images", "labels", "data.yaml")
coco = json.loads(Path("coco.json").read_text())["annotations"]
again = sv.DetectionDataset.from_yolo("images", "labels", "data.yaml")
((_, _, read),) = list(again)
print("COCO:", [(row["bbox"], row["iscrowd"]) for row in coco], "| YOLO, read back:", read.xyxy.round().tolist())
assert [(type(row["segmentation"]), row["iscrowd"]) for row in coco] == [(dict, 1)]
assert len(read) == 2
PY
