#!/usr/bin/env bash
# An image whose defects were drawn as polygons, masks or turned boxes is sound in Datumaro's YOLO form.
# Expected: such an object is written as the box around it, as a row of its polygon, or with a warning that it is left
#   out.
# Seen: datumaro 1.13.12 writes plain boxes only, says nothing, and leaves an empty label file, which to trainers is
#   an image without objects. The transform shapes_to_boxes before the export helps for polygons and masks.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check datumaro==1.13.12
venv/bin/python - <<'PY'
import logging
from pathlib import Path

import numpy as np
from datumaro import Dataset, DatasetItem
from datumaro.components.annotation import Mask, Polygon, RotatedBbox
from datumaro.components.media import Image
from PIL import Image as Picture

Picture.new("L", (80, 60), 90).save("a.png")


def dataset(*annotations):
    item = DatasetItem(id="a", media=Image.from_file(path="a.png"), annotations=list(annotations))
    return Dataset.from_iterable([item], categories=["scratch", "dent"])


told = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: told.append(record.getMessage())
logging.getLogger().addHandler(handler)
pixels = np.zeros((60, 80), bool)
pixels[10:20, 40:55] = True
outline = Polygon([5, 5, 20, 5, 20, 15, 5, 15], label=0)
shapes = (outline, Mask(pixels, label=1), RotatedBbox(30, 40, 30, 8, 30, label=0))
dataset(*shapes).export("plain", "yolo", save_media=True)
plain = Path("plain/obj_train_data/a.txt").read_text()
dataset(*shapes[:2]).transform("shapes_to_boxes").export("boxes", "yolo", save_media=True)
boxes = Path("boxes/obj_train_data/a.txt").read_text()
print("rows of three objects:", len(plain.split("\n")) - 1, "| warnings:", told)
print("rows of two of them after shapes_to_boxes:", len(boxes.split("\n")) - 1)
assert plain == ""
assert told == []
assert boxes.count("\n") == 2
PY
