#!/usr/bin/env bash
# The AUROC that torchmetrics gives of anomaly scores can be 0.5 where every defect scores above every sound part.
# Expected: the area under the ROC depends on the order of the scores alone; distances of 20 to 40 are as good as any.
# Seen: torchmetrics 1.9.0 passes scores outside 0 to 1 through a sigmoid, in float32, where it is 1 from about 17 on:
#   all scores are then equal. Divided by their greatest, the same scores have an AUROC of 1.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0
venv/bin/python - <<'PY'
import torch
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

labels = torch.tensor([0] * 50 + [1] * 50)
scores = torch.linspace(20, 40, 100)  # all 50 sound parts below all 50 defects


def measured(metric, values):
    metric.update(values, labels)
    return round(float(metric.compute()), 3)


pairs = {type(metric).__name__: [measured(metric, scores)] for metric in (BinaryAUROC(), BinaryAveragePrecision())}
for metric in (BinaryAUROC(), BinaryAveragePrecision()):
    pairs[type(metric).__name__].append(measured(metric, scores / 40))
print("distances as they are, and divided by 40:", pairs)
assert pairs == {"BinaryAUROC": [0.5, 1.0], "BinaryAveragePrecision": [0.5, 1.0]}
PY
