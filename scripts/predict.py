"""Find defects in images with a detector, started like the training commands; it runs in one process.

accelerate launch --num_processes 1 scripts/predict.py my-detector new_images --output found
torchrun --nproc_per_node 1 scripts/predict.py my-detector new_images --threshold 0.1 --output found-all
"""

import sys

from agssp.cli import run

if __name__ == "__main__":
    run("predict", sys.argv[1:])
