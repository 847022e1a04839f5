r"""Distil anomaly maps into a backbone (AGBP) on any number of processes.

accelerate launch --multi_gpu scripts/pretrain_backbone.py --dataset images/ --maps maps \
    --backbone resnet50 --start timm --output backbone
torchrun --nproc_per_node 2 scripts/pretrain_backbone.py --dataset images/ --maps maps \
    --backbone yolov8n --output backbone --use-cpu
"""

import sys

from agssp.cli import run

if __name__ == "__main__":
    run("pretrain-backbone", sys.argv[1:])
