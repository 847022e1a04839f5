"""Measure anomaly maps against masks on any number of processes.

accelerate launch --cpu --num_processes 4 scripts/evaluate_maps.py maps --dataset labelled --output evaluation
torchrun --nproc_per_node 2 scripts/evaluate_maps.py maps --dataset labelled --output evaluation
"""

import sys

from agssp.cli import run

if __name__ == "__main__":
    run("evaluate-maps", sys.argv[1:])
