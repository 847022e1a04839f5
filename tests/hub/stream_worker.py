"""One process of test_streaming.py: which rows of a published corpus come to it. `stream_worker.py OUTPUT`.

The first of several says as well what would come to it alone, which saves a launch.
"""

import json
import os
import sys
from pathlib import Path

import datasets
import torch

from agssp.data.readers import read_dataset
from agssp.data.training_sets import MapColumn, PretrainingStream
from agssp.data.transforms import PretrainingTransform

PLAIN = {"image_mean": (0, 0, 0), "image_std": (1, 1, 1)}
PASSES = 2
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.1  # in place of five seconds a pass


def rows_of(rank: int, world: int, workers: int) -> list[int]:
    """Numbers of the rows that come; every map of the corpus holds its row's number everywhere."""
    transform = PretrainingTransform(16, map_size=4, **PLAIN)
    rows = read_dataset("me/corpus", streaming=True)
    stream = PretrainingStream(rows, MapColumn(), transform, seed=1, rank=rank, world_size=world, passes=PASSES)
    loaded = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers)
    return [int(item["anomaly_maps"].mean().round()) for item in loaded]


def write(output: Path, rank: int, world: int, workers: int) -> None:
    (output / f"seen-{rank}-of-{world}.json").write_text(json.dumps(rows_of(rank, world, workers)))


if __name__ == "__main__":
    place = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    write(Path(sys.argv[1]), *place, workers=2)
    if place[0] == 0:
        write(Path(sys.argv[1]), 0, 1, workers=0)
