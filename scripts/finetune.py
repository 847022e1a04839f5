"""Finetune a detector on a few labelled images on any number of processes.

accelerate launch --multi_gpu scripts/finetune.py detector --dataset labelled/train --output my-detector
torchrun --nproc_per_node 2 scripts/finetune.py detector --dataset labelled/train --output my-detector --use-cpu
"""

import sys

from agssp.cli import run

if __name__ == "__main__":
    run("finetune", sys.argv[1:])
