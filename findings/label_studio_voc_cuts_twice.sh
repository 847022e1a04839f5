#!/usr/bin/env bash
# In Label Studio's Pascal VOC form the far edges of a box can lie almost two pixels too near, and polygons are
# missing.
# Expected: corners are rounded, or cut, to whole pixels: no edge is off by a pixel or more; polygons have their
#   bndbox, as in the other forms.
# Seen: label-studio-sdk 2.1.2 cuts x and width one by one and adds what is left; an image with nothing but polygons
#   gets an XML file without objects, as if it were sound.
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

import re

config = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image"><Label value="dent"/></RectangleLabels>
<PolygonLabels name="outline" toName="image"><Label value="dent"/></PolygonLabels></View>"""
Path("upload/1").mkdir(parents=True)


def task(number, kind, tag, value):
    Image.new("L", (100, 100)).save(f"upload/1/{number}.png")
    region = {"id": "r", "type": kind, "from_name": tag, "to_name": "image", "value": value | {kind: ["dent"]}}
    region |= {"original_width": 100, "original_height": 100, "image_rotation": 0}
    data = {"image": f"/data/upload/1/{number}.png"}
    return {"id": number, "data": data, "annotations": [{"id": number, "result": [region]}]}


box = {"x": 10.9, "y": 20.9, "width": 20.95, "height": 8.95, "rotation": 0}  # to x = 31.85 and y = 29.85
outline = {"points": [[10, 20], [30, 20], [20, 60]]}
tasks = [task(1, "rectanglelabels", "box", box), task(2, "polygonlabels", "outline", outline)]
Path("tasks.json").write_text(json.dumps(tasks))
Converter(config, project_dir=".", upload_dir="upload").convert("tasks.json", "out", "VOC", is_dir=False)
text = Path("out/Annotations/1.xml").read_text()
corners = {name: int(value) for name, value in re.findall(r"<([xy]m..)>(.*?)<", text)}
objects = Path("out/Annotations/2.xml").read_text().count("<object>")
print("10.9..31.85 and 20.9..29.85 became", corners, "| objects of the polygon's image:", objects)
assert corners == {"xmin": 10, "ymin": 20, "xmax": 30, "ymax": 28}
assert objects == 0
PY
