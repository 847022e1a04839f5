#!/usr/bin/env bash
# pycocotools' AP is -1 as soon as more than 100 detections an image are let in.
# Expected: with maxDets [1, 10, 300], for sheets with more than 100 pits, all the numbers are those of 300 detections.
# Seen: in pycocotools 2.0.11 AP50, AP75 and the APs by size are, but AP itself, the first number, asks for 100, which
#   is not among the three, and is -1: the same sign that says that nothing is there to be found. faster-coco-eval
#   1.8.0, made to take its place, gives the AP.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check pycocotools==2.0.11 faster-coco-eval==1.8.0
venv/bin/python - <<'PY'
import contextlib
import io

import faster_coco_eval
import pycocotools.coco
import pycocotools.cocoeval

boxes = [[20 * (pit % 20), 20 * (pit // 20), 10, 10] for pit in range(200)]
found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9} for box in boxes]
truth = [row | {"id": number, "area": 100, "iscrowd": 0} for number, row in enumerate(found, 1)]
sheet = {"id": 1, "file_name": "a.png", "width": 400, "height": 200}
data = {"images": [sheet], "categories": [{"id": 1, "name": "pit"}], "annotations": truth}


def measured(coco, evaluator, limits):
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco()
        known.dataset = data
        known.createIndex()
        evaluation = evaluator(known, known.loadRes(found), "bbox")
        evaluation.params.maxDets = limits
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [round(float(value), 2) for value in evaluation.stats[:2]]  # AP, AP50


usual = pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval
faster = faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster
seen = [measured(*usual, [1, 10, 100]), measured(*usual, [1, 10, 300]), measured(*faster, [1, 10, 300])]
print("AP and AP50 of 200 pits, all found: 100 let in, 300 let in, 300 with faster-coco-eval:", seen)
assert seen[0][0] < 0.6
assert seen[1:] == [[-1.0, 1.0], [1.0, 1.0]]
PY
