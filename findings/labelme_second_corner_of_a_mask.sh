#!/usr/bin/env bash
# In labelme's JSON the second point of a mask is its last pixel, that of a rectangle the far edge.
# Expected: two points mean the same whatever the shape's type: from (5, 40) to (19, 49) is 14 x 9 px.
# Seen: labelme 6.3.1 lays the pixels of a mask over both points, so that they are 15 x 10 px; a reader that takes the
#   points for corners loses a pixel each way, as labelme's own bounds of such a shape do.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check labelme==6.3.1
venv/bin/python - <<'PY'
import os

os.environ["QT_QPA_PLATFORM"] = "offscreen"
import numpy as np
from labelme import utils
from labelme._label_file import LabelFile
from labelme._shape import Shape, bounds
from labelme.app import _shape_to_dict
from PIL import Image
from PyQt5.QtCore import QPointF

shape = Shape(label="rust", shape_type="mask", mask=np.ones((10, 15), bool))
for point in ((5, 40), (19, 49)):
    shape.add_point(QPointF(*point))
LabelFile().save("a.json", [_shape_to_dict(shape)], "a.png", 60, 80, image_data=None)
Image.new("L", (80, 60)).save("a.png")
(row,) = LabelFile("a.json").shapes
_, instances = utils.shapes_to_label((60, 80), [row], {"rust": 1})
top, left, bottom, right = utils.masks_to_bboxes(instances[None] == 1)[0]
pixels, drawn = (int(right - left), int(bottom - top)), bounds(shape=shape)
print("points", row["points"], "| px of the mask:", pixels, "| bounds:", (drawn.width(), drawn.height()))
assert row["points"] == [[5.0, 40.0], [19.0, 49.0]]
assert pixels == (15, 10)
assert (drawn.width(), drawn.height()) == (14.0, 9.0)
PY
