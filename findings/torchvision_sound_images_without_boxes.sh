#!/usr/bin/env bash
# torchvision's COCO targets of an image without annotations have no boxes, instead of none of them.
# Expected: wrap_dataset_for_transforms_v2 gives boxes of shape (0, 4) and no labels, which torchvision's own detectors
#   take for an image without objects. COCO allows images without annotations; sound ones are most of an inspection's.
# Seen: torchvision 0.29.1 gives {'image_id'} alone, whatever `target_keys` names, and its Faster R-CNN ends with
#   KeyError: 'boxes'; with empty boxes added it trains.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 pycocotools==2.0.11 \
    pillow==12.3.0
venv/bin/python - <<'PY'
import json
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.transforms.v2.functional import to_dtype, to_image

root = Path()
for number in (1, 2):
    Image.new("RGB", (64, 48), "gray").save(root / f"{number}.png")
table = {
    "images": [{"id": number, "file_name": f"{number}.png", "width": 64, "height": 48} for number in (1, 2)],
    "categories": [{"id": 1, "name": "dent"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 16, 16], "area": 256, "iscrowd": 0}],
}
(root / "table.json").write_text(json.dumps(table))
dataset = wrap_dataset_for_transforms_v2(
    CocoDetection(root, root / "table.json"), target_keys=["image_id", "boxes", "labels"]
)
(_, defective), (_, sound) = dataset[0], dataset[1]
print(f"torchvision {torchvision.__version__}")
print(f"image with a box: {sorted(defective)}")
print(f"sound image:      {sorted(sound)}")

detector = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=2).train()
images = [to_dtype(to_image(image), torch.float32, scale=True) for image, _ in (dataset[0], dataset[1])]
try:
    detector(images, [defective, sound])
    outcome = "trains"
except Exception as error:
    outcome = f"{type(error).__name__}: {error}"
print(f"its Faster R-CNN on both: {outcome}")
empty = sound | {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
losses = detector(images, [defective, empty])
print(f"with empty boxes added:   {len(losses)} losses, all finite: {all(loss.isfinite() for loss in losses.values())}")

assert sorted(defective) == ["boxes", "image_id", "labels"], "an image with a box has other keys"
assert sorted(sound) == ["image_id"], "a sound image has boxes now"
assert outcome != "trains", "the detector takes it now"
assert len(losses) == 4 and all(loss.isfinite() for loss in losses.values()), "empty boxes are not taken"
PY
