r"""Run what is missing of a study, every stage on all processes together.

accelerate launch --multi_gpu scripts/study.py table2 --only 'ResNet50 / Cls*billet' \
    --data corpus=images casting_billet=billet --output table2
torchrun --nproc_per_node 2 scripts/study.py table2 --scale smoke --output table2
"""

import sys

from agssp.cli import run

if __name__ == "__main__":
    run("study", sys.argv[1:])
