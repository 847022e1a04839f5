#!/usr/bin/env bash
# The AP of small masks changes in pycocotools when the results state a box beside each mask.
# Expected: in an evaluation of masks, a box beside the mask is not looked at.
# Seen: pycocotools 2.0.11 takes the area of the box for the size of the result, so a false alarm along a thin diagonal
#   scratch, 796 px, is large by its box of 200 x 200 px, and no longer counts against AP small.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check pycocotools==2.0.11
venv/bin/python - <<'PY'
import contextlib
import io

from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

pit = [10, 10, 30, 10, 30, 30, 10, 30]
scratch = [50, 50, 52, 50, 250, 248, 250, 250, 248, 250, 50, 52]
truth = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
truth["segmentation"] = [pit]


def small(with_box):
    found = []
    for outline, score in ((pit, 0.8), (scratch, 0.9)):
        mask = coco.merge(coco.frPyObjects([outline], 300, 300))
        assert int(coco.area(mask)) < 32**2  # pycocotools' bound of what is small
        row = {"image_id": 1, "category_id": 1, "score": score, "segmentation": mask}
        found.append(row | {"bbox": coco.toBbox(mask).tolist()} if with_box else row)
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {"images": [{"id": 1, "width": 300, "height": 300}], "annotations": [truth]}
        known.dataset["categories"] = [{"id": 1, "name": "defect"}]
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return round(float(evaluation.stats[0]), 2), round(float(evaluation.stats[3]), 2)


print("AP and AP small of masks: alone", small(False), "| with boxes beside them", small(True))
assert small(False) == (0.5, 0.5)
assert small(True) == (0.5, 1.0)
PY
