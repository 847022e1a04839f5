#!/usr/bin/env bash
# When albumentations drops a box that a crop has cut off, the box's mask stays, and the pairs no longer fit.
# Expected: boxes, labels and masks of one image stay the lists of the same objects.
# Seen: albumentations 2.0.8 filters boxes and their labels, and keeps an empty mask for the object that is gone: the
#   first box that is left stands beside the mask of another object.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check albumentations==2.0.8
venv/bin/python - <<'PY'
import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations
import numpy as np

pit, dent = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
pit[5:15, 5:15] = dent[40:50, 40:50] = 1
form = albumentations.BboxParams(format="coco", label_fields=["labels"])
crop = albumentations.Compose([albumentations.Crop(32, 32, 64, 64)], bbox_params=form)
boxes = [[5, 5, 10, 10], [40, 40, 10, 10]]
seen = crop(image=np.zeros((64, 64, 3), np.uint8), bboxes=boxes, labels=["pit", "dent"], masks=[pit, dent])
sizes = [int(mask.sum()) for mask in seen["masks"]]
print("labels", seen["labels"], "boxes", np.round(seen["bboxes"], 2).tolist(), "| px of the masks", sizes)
assert seen["labels"] == ["dent"] and np.allclose(seen["bboxes"], [[8, 8, 10, 10]], atol=0.01)
assert sizes == [0, 100]
PY
