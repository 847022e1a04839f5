#!/usr/bin/env bash
# Label Studio numbers the boxes of its COCO form from 0, and to pycocotools the box with id 0 is never found.
# Expected: a detector that finds each box exactly has an AP of 1; ids of annotations are any whole numbers.
# Seen: pycocotools 2.0.11 notes a match by the id of the annotation and reads 0 as "no match"; against the file of
#   label-studio-sdk 2.1.2 a perfect detector misses one of four boxes and has a false alarm, and its AP is 0.56.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check label-studio-sdk==2.1.2 pycocotools==2.0.11
venv/bin/python - <<'PY'
import contextlib
import io
import json
import logging
from pathlib import Path

from label_studio_sdk.converter import Converter
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

logging.disable()
config = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image"><Label value="dent"/></RectangleLabels></View>"""
Path("upload/1").mkdir(parents=True)
tasks = []
for number in range(1, 5):
    Image.new("L", (100, 100)).save(f"upload/1/{number}.png")
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["dent"]}
    region = {"id": "r", "type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": value}
    region |= {"original_width": 100, "original_height": 100, "image_rotation": 0}
    data = {"image": f"/data/upload/1/{number}.png"}
    tasks.append({"id": number, "data": data, "annotations": [{"id": number, "result": [region]}]})
Path("tasks.json").write_text(json.dumps(tasks))
Converter(config, project_dir=".", upload_dir="upload").convert("tasks.json", "out", "COCO", is_dir=False)


def measured(first_id):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO("out/result.json")
        rows = truth.dataset["annotations"]
        for number, row in enumerate(rows):
            row["id"] = first_id + number
        truth.createIndex()
        found = [{key: row[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9} for row in rows]
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [round(float(evaluation.stats[place]), 2) for place in (0, 8)]  # AP, AR


ids = [row["id"] for row in json.loads(Path("out/result.json").read_text())["annotations"]]
print("ids", ids, "| AP and AR:", measured(0), "| with ids from 1:", measured(1))
assert ids == [0, 1, 2, 3]
assert (measured(0), measured(1)) == ([0.56, 0.75], [1.0, 1.0])
PY
