#!/usr/bin/env bash
# A camera's 12 bits in a 16-bit PNG are white in Pillow's RGB if the file is grey, and black if it is coloured.
# Expected: the RGB that a detector wants is made in one way of both: scaled, or an error.
# Seen: Pillow 13.0.0 sets grey values over 255 to 255 in convert("RGB"), which is 15/16 of the range of 12 bits, and
#   of 16-bit colour keeps the upper byte when it opens the file: 16 levels, none over 15. OpenCV 5.0.0's imread takes
#   the upper byte of both.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check pillow==13.0.0 opencv-python-headless==5.0.0.93
venv/bin/python - <<'PY'
import cv2
import numpy as np
from PIL import Image

ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
cv2.imwrite("grey.png", ramp)
cv2.imwrite("colour.png", np.dstack([ramp] * 3))
seen = {}
for name in ("grey", "colour"):
    pillow = np.array(Image.open(f"{name}.png").convert("RGB"))[..., 0]
    opencv = cv2.imread(f"{name}.png")[..., 0]
    seen[name] = [(int(np.median(read)), int(read.max()), len(np.unique(read))) for read in (pillow, opencv)]
print("median, greatest value, levels in Pillow and in OpenCV:", seen)
assert seen["grey"] == [(255, 255, 256), (7, 15, 16)]
assert seen["colour"] == [(7, 15, 16), (7, 15, 16)]
PY
