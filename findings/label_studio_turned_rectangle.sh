#!/usr/bin/env bash
# Label Studio's converter gives one turned rectangle three different boxes, and only the OBB form has the real one.
# Expected: the corners of a rectangle turned by 30 degrees are the same in each form, and COCO's bbox is the upright
#   box around them.
# Seen: label-studio-sdk 2.1.2 turns in percent of width and height for COCO, so that a box in an image that is not
#   square is off by pixels; YOLO and Pascal VOC hold the rectangle as it was before it was turned; YOLO_OBB is right.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check label-studio-sdk==2.1.2
venv/bin/python - <<'PY'
import json
import logging
from pathlib import Path

from label_studio_sdk.converter import Converter
from PIL import Image

logging.disable()

WIDTH, HEIGHT = 200, 100
Path("upload/1").mkdir(parents=True)
Image.new("L", (WIDTH, HEIGHT)).save("upload/1/a.png")
config = """<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image">
<Label value="scratch"/></RectangleLabels></View>"""
value = {"x": 40, "y": 20, "width": 40, "height": 10, "rotation": 30, "rectanglelabels": ["scratch"]}  # 80 x 10 px
region = {"id": "r", "type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": value}
region |= {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
task = {"id": 1, "data": {"image": "/data/upload/1/a.png"}, "annotations": [{"id": 1, "result": [region]}]}
Path("tasks.json").write_text(json.dumps([task]))
for form in ("COCO", "YOLO", "YOLO_OBB", "VOC"):
    Converter(config, project_dir=".", upload_dir="upload").convert("tasks.json", form, form, is_dir=False)

coco = [round(v, 2) for v in json.loads(Path("COCO/result.json").read_text())["annotations"][0]["bbox"]]
cx, cy, w, h = map(float, Path("YOLO/labels/a.txt").read_text().split()[1:])
yolo = [round(v, 2) for v in ((cx - w / 2) * WIDTH, (cy - h / 2) * HEIGHT, w * WIDTH, h * HEIGHT)]
corners = list(map(float, Path("YOLO_OBB/labels/a.txt").read_text().split()[1:]))
xs, ys = [x * WIDTH for x in corners[::2]], [y * HEIGHT for y in corners[1::2]]
around = [round(v, 2) for v in (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))]
print("around the corners of YOLO_OBB:", around)
print("COCO's bbox:                   ", coco)
print("YOLO's box:                    ", yolo)
voc = [line for line in Path("VOC/Annotations/a.xml").read_text().split() if line[:3] in ("<xm", "<ym")]
print("VOC's bndbox:                  ", *voc)
# By hand: corners (80, 20), (149.28, 60), (144.28, 68.66), (75, 28.66).
assert around == [75.0, 20.0, 74.28, 48.66]
assert coco == [70.0, 20.0, 79.28, 28.66]
assert yolo == [80.0, 20.0, 80.0, 10.0]
assert voc == ["<xmin>80</xmin>", "<ymin>20</ymin>", "<xmax>160</xmax>", "<ymax>30</ymax>"]
PY
