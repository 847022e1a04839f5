#!/usr/bin/env bash
# Label Studio's converter writes polygons into YOLO files and reads such a row back as a rectangle elsewhere.
# Expected: convert_yolo_to_ls gives back the polygon that the YOLO form was written from, or leaves it out.
# Seen: label-studio-sdk 2.1.2 takes the first four numbers, two corners of the polygon, for centre, width and height,
#   and the fifth for a score, without a word.
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

from label_studio_sdk.converter.imports.yolo import convert_yolo_to_ls

Path("upload/1").mkdir(parents=True)
Image.new("L", (100, 100)).save("upload/1/a.png")
config = """<View><Image name="image" value="$image"/><PolygonLabels name="outline" toName="image">
<Label value="stain"/></PolygonLabels></View>"""
value = {"points": [[10, 20], [30, 20], [20, 60]], "polygonlabels": ["stain"]}
region = {"id": "p", "type": "polygonlabels", "from_name": "outline", "to_name": "image", "value": value}
region |= {"original_width": 100, "original_height": 100, "image_rotation": 0}
task = {"id": 1, "data": {"image": "/data/upload/1/a.png"}, "annotations": [{"id": 1, "result": [region]}]}
Path("tasks.json").write_text(json.dumps([task]))
converter = Converter(config, project_dir=".", upload_dir="upload")
converter.convert("tasks.json", "out", "YOLO_WITH_IMAGES", is_dir=False)
row = Path("out/labels/a.txt").read_text().strip()
convert_yolo_to_ls("out", "again.json")
again = json.loads(Path("again.json").read_text())[0]["annotations"][0]["result"][0]
box = {key: round(again["value"][key], 2) for key in ("x", "y", "width", "height")}
print("written:", row)
print("read:", again["type"], box, "score", again.get("score"))
assert row == "0 0.1 0.2 0.3 0.2 0.2 0.6"
assert again["type"] == "rectanglelabels"
assert again["score"] == 0.2
assert box == {"x": -5.0, "y": 10.0, "width": 30.0, "height": 20.0}
PY
