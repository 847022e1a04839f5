"""Which rows of a published corpus come to each process of test_streaming.py.

`stream_worker.py OUTPUT RANK/PROCESSES/WORKERS ...`. What comes depends on these three alone, so one program plays all
processes one after the other, and torch is imported once.
"""

import json
import sys
from pathlib import Path

import torch

from agssp.data.readers import read_dataset
from agssp.data.training_sets import COLUMN, PretrainingStream
from agssp.data.transforms import PretrainingTransform

PLAIN = {"image_mean": (0, 0, 0), "image_std": (1, 1, 1)}
PASSES = 2


def rows_of(rank: int, world: int, workers: int) -> list[int]:
    """Numbers of the rows that come; every map of the corpus holds its row's number everywhere."""
    transform = PretrainingTransform(16, map_size=4, **PLAIN)
    rows = read_dataset("me/corpus", streaming=True)
    stream = PretrainingStream(rows, COLUMN, transform, seed=1, rank=rank, world_size=world, passes=PASSES)
    loaded = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers)
    return [int(item["anomaly_maps"].mean().round()) for item in loaded]


if __name__ == "__main__":
    for part in sys.argv[2:]:
        rank, world, workers = map(int, part.split("/"))
        (Path(sys.argv[1]) / f"seen-{rank}-of-{world}.json").write_text(json.dumps(rows_of(rank, world, workers)))
