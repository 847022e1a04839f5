"""Cut pseudo boxes from a map store on any number of processes.

accelerate launch --multi_gpu scripts/pseudo_boxes.py --maps maps --output boxes --report
torchrun --nproc_per_node 2 scripts/pseudo_boxes.py --maps maps --output boxes --coco
"""

import sys

from agssp.cli import run

if __name__ == "__main__":
    run("pseudo-boxes", sys.argv[1:])
