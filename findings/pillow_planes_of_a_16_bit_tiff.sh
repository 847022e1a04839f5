#!/usr/bin/env bash
# Pillow scrambles a 16-bit colour TIFF whose planes lie one after another, unless it is compressed.
# Expected: an RGB TIFF of 16 bits, opened as RGB, has each sample's upper byte, however its samples lie.
# Seen: tifffile writes (3, height, width) as planes, without compression; Pillow 13.0.0 reads each plane as if of 8
#   bits, so that upper and lower bytes stand side by side as pixels, without an error. The same planes compressed, or
#   the samples pixel by pixel, are right.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3
venv/bin/python - <<'PY'
import numpy as np
import tifffile
from PIL import Image

image = np.zeros((40, 60, 3), np.uint16)
image[..., 0] = np.arange(60) * 1000
image[..., 1] = np.arange(40)[:, None] * 1500
image[..., 2] = 10000
planes = np.ascontiguousarray(image.transpose(2, 0, 1))
tifffile.imwrite("pixels.tif", image, photometric="rgb")
tifffile.imwrite("planes.tif", planes, photometric="rgb")
tifffile.imwrite("packed.tif", planes, photometric="rgb", compression="zlib")
assert (tifffile.imread("planes.tif") == planes).all()
seen = {name: np.array(Image.open(f"{name}.tif")) for name in ("pixels", "planes", "packed")}
right = {name: bool((read == image >> 8).all()) for name, read in seen.items()}
print("right in Pillow:", right, "| red:", seen["planes"][0, :6, 0].tolist(), "not", (image >> 8)[0, :6, 0].tolist())
assert right == {"pixels": True, "planes": False, "packed": True}
assert seen["planes"][0, :6, 0].tolist() == [0, 0, 1000 & 255, 1000 >> 8, 2000 & 255, 2000 >> 8]
PY
