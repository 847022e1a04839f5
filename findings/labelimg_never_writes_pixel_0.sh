#!/usr/bin/env bash
# LabelImg moves boxes off the left and upper edge of the image, in YOLO files too.
# Expected: a box over the whole image is 0.5 0.5 1 1 in YOLO.
# Seen: LabelImg 1.8.6 raises a least corner below 1 to 1, for Pascal VOC and for YOLO alike, and cuts decimals off;
#   the box of a full image of 96 x 64 px begins at 1, 1 and is a pixel small.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check labelImg==1.8.6
venv/bin/python - <<'PY'
import os

os.environ["QT_QPA_PLATFORM"] = "offscreen"
from libs.labelFile import LabelFile
from PyQt5.QtGui import QImage

image = QImage(96, 64, QImage.Format_RGB888)
shape = {"label": "dent", "points": [(0, 0), (96, 0), (96, 64), (0, 64)], "difficult": False}
LabelFile().save_yolo_format("a.txt", [shape], "a.png", image, [])
row = open("a.txt").read().strip()
cx, cy, w, h = map(float, row.split()[1:])
corners = [round(v, 2) for v in ((cx - w / 2) * 96, (cy - h / 2) * 64, (cx + w / 2) * 96, (cy + h / 2) * 64)]
print("the whole image:", row, "| corners in px:", corners)
assert corners == [1.0, 1.0, 96.0, 64.0]
PY
