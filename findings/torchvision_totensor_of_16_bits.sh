#!/usr/bin/env bash
# torchvision's ToTensor makes the bright half of a 16-bit grey image negative.
# Expected: ToTensor scales to 0 to 1, as it does with 8 bits, or else keeps the values.
# Seen: torchvision 0.29.1 gives whole numbers as int16, unscaled, and -1 for white; what thresholds or scales by the
#   greatest value goes on with it. v2's ToImage and ToDtype with scale=True are right for the same image.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 pillow==13.0.0
venv/bin/python - <<'PY'
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import ToTensor, v2

image = Image.fromarray(np.array([[0, 100, 32767, 32768, 65535]], np.uint16))
old = ToTensor()(image)
new = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])(image)
grey = ToTensor()(Image.fromarray(np.array([[255]], np.uint8)))
print("ToTensor:", old.dtype, old.flatten().tolist(), "| v2:", [round(v, 4) for v in new.flatten().tolist()])
assert grey.dtype == torch.float32 and grey.item() == 1
assert (old.dtype, old.flatten().tolist()) == (torch.int16, [0, 100, 32767, -32768, -1])
assert new.flatten()[-1] == 1 and (new >= 0).all()
PY
