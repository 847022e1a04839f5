#!/usr/bin/env bash
# In Label Studio's COCO form a photo turned by its EXIF tag has boxes and polygons of two different images.
# Expected: annotations and the stated width and height are all of the stored pixels, or all of the upright image that
#   was labelled.
# Seen: label-studio-sdk 2.1.2 states the stored size, writes rectangles in pixels of the upright image, and stretches
#   polygons from the upright image to the stored size. One object drawn both ways gets two boxes that share no pixel.
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
exif = Image.Exif()
exif[0x0112] = 6
Image.new("L", (200, 100)).save("upload/1/a.jpg", exif=exif)  # stored 200 x 100; shown, and labelled, as 100 x 200
config = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image"><Label value="dent"/></RectangleLabels>
<PolygonLabels name="outline" toName="image"><Label value="dent"/></PolygonLabels></View>"""


def region(kind, tag, value):
    sizes = {"original_width": 100, "original_height": 200, "image_rotation": 0}
    return {"id": tag, "type": kind, "from_name": tag, "to_name": "image", "value": value | {kind: ["dent"]}, **sizes}


# The same 20 x 30 px at (10, 150) of the upright photo, as a rectangle and as a polygon.
rectangle = region("rectanglelabels", "box", {"x": 10, "y": 75, "width": 20, "height": 15, "rotation": 0})
polygon = region("polygonlabels", "outline", {"points": [[10, 75], [30, 75], [30, 90], [10, 90]]})
task = {"id": 1, "data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"id": 1, "result": [rectangle, polygon]}]}
Path("tasks.json").write_text(json.dumps([task]))
Converter(config, project_dir=".", upload_dir="upload").convert("tasks.json", "out", "COCO", is_dir=False)
content = json.loads(Path("out/result.json").read_text())
image, boxes = content["images"][0], [[round(v, 2) for v in row["bbox"]] for row in content["annotations"]]
print("stated size:", image["width"], "x", image["height"])
print("rectangle:", boxes[0], "polygon:", boxes[1])
assert (image["width"], image["height"]) == (200, 100)
assert boxes == [[10.0, 150.0, 20.0, 30.0], [20.0, 75.0, 40.0, 15.0]]
PY
