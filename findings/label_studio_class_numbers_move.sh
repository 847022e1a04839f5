#!/usr/bin/env bash
# A class that is added to a Label Studio project renumbers the others in its YOLO and COCO forms.
# Expected: numbers follow the order of the labelling configuration, so that a class added at its end gets the next
#   one.
# Seen: label-studio-sdk 2.1.2 numbers the names in alphabetical order, brushes' classes too, which these forms leave
#   out. Two exports of one project are not to be merged by number.
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

Path("upload/1").mkdir(parents=True)
Image.new("L", (100, 100)).save("upload/1/a.png")
value = {"x": 10, "y": 20, "width": 20, "height": 10, "rotation": 0, "rectanglelabels": ["scratch"]}
region = {"id": "r", "type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": value}
region |= {"original_width": 100, "original_height": 100, "image_rotation": 0}
task = {"id": 1, "data": {"image": "/data/upload/1/a.png"}, "annotations": [{"id": 1, "result": [region]}]}
Path("tasks.json").write_text(json.dumps([task]))


def number_of_scratch(name, *labels):
    config = "".join(f'<Label value="{label}"/>' for label in labels)
    config = f'<RectangleLabels name="box" toName="image">{config}</RectangleLabels>'
    config = f'<View><Image name="image" value="$image"/>{config}</View>'
    converter = Converter(config, project_dir=".", upload_dir="upload")
    converter.convert("tasks.json", name, "YOLO", is_dir=False)
    converter.convert("tasks.json", f"{name}-coco", "COCO", is_dir=False)
    yolo = int(Path(name, "labels/a.txt").read_text().split()[0])
    return yolo, json.loads(Path(f"{name}-coco/result.json").read_text())["annotations"][0]["category_id"]


before = number_of_scratch("before", "scratch", "stain")
after = number_of_scratch("after", "scratch", "stain", "dent")
print("number of scratch in YOLO and COCO:", before, "and, with dent added last:", after)
assert before == (0, 0)
assert after == (1, 1)
PY
