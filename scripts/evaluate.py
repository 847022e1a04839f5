"""Measure the mAP of a detector on any number of processes.

accelerate launch --multi_gpu scripts/evaluate.py my-detector --dataset labelled/test
torchrun --nproc_per_node 2 scripts/evaluate.py my-detector --dataset labelled/test
"""

import sys

from agssp.cli import run

if __name__ == "__main__":
    run("evaluate", sys.argv[1:])
