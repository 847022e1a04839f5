#!/usr/bin/env bash
# A box that LabelImg wrote as Pascal VOC comes out of supervision a pixel wider and higher.
# Expected: xmin and xmax of one and the same format mean the same to both tools.
# Seen: LabelImg 1.8.6 writes the corners counted from 0, as edges; supervision 0.31.2 takes the least corner as
#   counted from 1 and moves it by one. Its own files are written to match, and no field of the format tells the two
#   apart.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check supervision==0.31.2 lxml==6.1.3
# LabelImg's readers and writers need no window, and so none of its other dependencies.
venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps labelImg==1.8.6
venv/bin/python - <<'PY'
import warnings

from PIL import Image

warnings.simplefilter("ignore")
import supervision as sv
from libs.pascal_voc_io import PascalVocReader, PascalVocWriter

Image.new("L", (96, 64)).save("a.png")
writer = PascalVocWriter("set", "a.png", [64, 96, 1])
writer.add_bnd_box(10, 12, 30, 28, "dent", 0)
writer.save("a.xml")
_, points, *_ = PascalVocReader("a.xml").get_shapes()[0]
own = [*points[0], *points[2]]
((_, _, found),) = list(sv.DetectionDataset.from_pascal_voc(".", "."))
other = found.xyxy[0].tolist()
print("corners: LabelImg", own, "supervision", other)
assert own == [10, 12, 30, 28]
assert other == [9.0, 11.0, 30.0, 28.0]
PY
