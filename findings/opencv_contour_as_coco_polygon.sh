#!/usr/bin/env bash
# The contour that OpenCV finds around a mask, written as a COCO polygon, is a smaller mask to pycocotools.
# Expected: findContours of a mask, as polygon in a COCO file, gives the mask again, as it does with OpenCV's fillPoly.
# Seen: OpenCV 5.0.0 lists the middles of the outermost pixels by their numbers, pycocotools 2.0.11 reads the numbers as
#   edges: the mask loses its last row and column; a scratch one pixel wide is left with no area and a box of 0, and
#   OpenCV's own contourArea too says 0 of it.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check opencv-python-headless==5.0.0.93 pycocotools==2.0.11
venv/bin/python - <<'PY'
import cv2
import numpy as np
from pycocotools import mask as coco

seen = {}
for width in (15, 2, 1):
    mask = np.zeros((60, 80), np.uint8)
    mask[10:20, 30 : 30 + width] = 1
    (contour,), _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.fillPoly(np.zeros_like(mask), [contour], 1)
    assert (filled == mask).all()
    read = coco.merge(coco.frPyObjects([contour.ravel().astype(float).tolist()], 60, 80))
    seen[width * 10] = int(coco.area(read)), coco.toBbox(read).tolist(), cv2.contourArea(contour)
print("px of the mask: (px that pycocotools reads, its box, contourArea):", seen)
assert seen == {150: (126, [30, 10, 14, 9], 126), 20: (9, [30, 10, 1, 9], 9), 10: (0, [0, 0, 0, 0], 0)}
PY
