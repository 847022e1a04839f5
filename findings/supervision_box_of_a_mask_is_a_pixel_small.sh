#!/usr/bin/env bash
# supervision's box of a mask is a pixel less wide and high than the mask, beside an area that is not.
# Expected: mask_to_xyxy gives the edges of a mask, as its other boxes are edges: a mask 15 px wide has a box 15 px
#   wide.
# Seen: supervision 0.31.2 gives the first and the last pixel; in its COCO file one annotation has a bbox of 14 x 9 px
#   and an area of 150 px, and a defect one pixel wide has a box without width.
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

mask = np.zeros((2, 60, 80), bool)
mask[0, 10:20, 30:45] = True  # 15 x 10 px
mask[1, 40:50, 5:6] = True  # 1 x 10 px
found = sv.Detections(xyxy=sv.mask_to_xyxy(mask), mask=mask, class_id=np.array([0, 0]))
Image.new("L", (80, 60)).save("a.png")
dataset = sv.DetectionDataset(classes=["dent"], images=["a.png"], annotations={"a.png": found})
dataset.as_coco(annotations_path="coco.json")
wide, thin = json.loads(Path("coco.json").read_text())["annotations"]
print("15 x 10 px: bbox", wide["bbox"], "area", wide["area"], "| 1 x 10 px: bbox", thin["bbox"], "area", thin["area"])
assert (wide["bbox"], wide["area"]) == ([30, 10, 14, 9], 150)
assert (thin["bbox"], thin["area"]) == ([5, 40, 0, 9], 10)
PY
