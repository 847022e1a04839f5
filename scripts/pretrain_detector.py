r"""Pretrain a detector on pseudo boxes (AGDP) on any number of processes.

accelerate launch --multi_gpu scripts/pretrain_detector.py --dataset images/ --boxes boxes \
    --backbone backbone --detector yolov8s --output detector
torchrun --nproc_per_node 2 scripts/pretrain_detector.py --dataset images/ --boxes boxes \
    --backbone backbone --detector yolov8n --output detector --use-cpu
"""

import sys

from agssp.cli import run

if __name__ == "__main__":
    run("pretrain-detector", sys.argv[1:])
