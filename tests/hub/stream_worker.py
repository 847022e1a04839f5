"""One process of test_streaming.py: which rows of a published corpus come. `stream_worker.py OUTPUT WORKERS`."""

import json
import os
import sys
from pathlib import Path

import torch

from agssp.data.readers import read_dataset
from agssp.data.training_sets import COLUMN, PretrainingStream
from agssp.data.transforms import PretrainingTransform

PLAIN = {"image_mean": (0, 0, 0), "image_std": (1, 1, 1)}
PASSES = 2


def main(output: Path, workers: int) -> None:
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    rows = read_dataset("me/corpus", streaming=True)
    transform = PretrainingTransform(16, map_size=4, **PLAIN)
    stream = PretrainingStream(rows, COLUMN, transform, seed=1, rank=rank, world_size=world, passes=PASSES)
    loaded = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers)
    # Every map of the corpus holds its row's number everywhere.
    seen = [int(item["anomaly_maps"].mean().round()) for item in loaded]
    (output / f"seen-{rank}-of-{world}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
