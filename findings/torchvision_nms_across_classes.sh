#!/usr/bin/env bash
# torchvision's NMS by class lets a box suppress a far one of another class when boxes reach over the edge.
# Expected: batched_nms compares boxes of one class only; two defects of two classes in two corners both stay.
# Seen: torchvision 0.29.1 moves each class by the greatest coordinate more than the class before and then takes all as
#   one class; a box with negative coordinates, as detectors give before they clip, lands on those of the class before.
#   With more than 1000 boxes on a CPU it goes class by class, and both stay: what is found depends on what else is.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check torch==2.14.1 torchvision==0.29.1
venv/bin/python - <<'PY'
import torch
from torchvision.ops import batched_nms, box_iou

two = torch.tensor([[40.0, 40, 100, 100], [-50, -50, 10, 10]])
assert box_iou(two, two)[0, 1] == 0
seen = {}
for others in (0, 10, 1000):
    place = torch.arange(others)
    x, y = place % 50 * 2, place // 50 * 2
    boxes = torch.cat([two, torch.stack([x, y, x + 1, y + 1], 1)])
    scores = torch.tensor([0.9, 0.8] + [0.1] * others)
    classes = torch.tensor([0, 1] + [2] * others)
    kept = batched_nms(boxes, scores, classes, iou_threshold=0.3).tolist()
    seen[others] = [box for box in (0, 1) if box in kept]
print("which of the two stay, by the number of small boxes of a third class:", seen)
assert seen == {0: [0], 10: [0], 1000: [0, 1]}
PY
