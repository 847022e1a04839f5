#!/usr/bin/env bash
# A mask that Datumaro writes into CVAT's XML has the whole image for its rectangle.
# Expected: left, top, width and height of a mask are the box around it, as CVAT itself writes them, and may serve as
#   its box.
# Seen: datumaro 1.13.12 writes left 0, top 0 and the image's size, and the run lengths over the whole image; the box
#   has to be decoded from them.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check datumaro==1.13.12
venv/bin/python - <<'PY'
import re
from pathlib import Path

import numpy as np
from datumaro import Dataset, DatasetItem
from datumaro.components.annotation import Mask
from datumaro.components.media import Image
from PIL import Image as Picture

Picture.new("L", (80, 60), 90).save("a.png")


def dataset(*annotations):
    item = DatasetItem(id="a", media=Image.from_file(path="a.png"), annotations=list(annotations))
    return Dataset.from_iterable([item], categories=["scratch", "dent"])


pixels = np.zeros((60, 80), bool)
pixels[10:20, 40:55] = True
dataset(Mask(pixels, label=1)).export("cvat", "cvat", save_media=True)
text = Path("cvat/default.xml").read_text().split("<mask")[1]
written = dict(re.findall(r'(left|top|width|height|rle)="([^"]*)"', text))
print("a mask of 15 x 10 px at (40, 10):", written)
assert [int(written[key]) for key in ("left", "top", "width", "height")] == [0, 0, 80, 60]
assert sum(map(int, written["rle"].split(","))) == 80 * 60
(again,) = [a for item in Dataset.import_from("cvat", "cvat") for a in item.annotations]
assert list(map(int, again.get_bbox())) == [40, 10, 15, 10]
PY
