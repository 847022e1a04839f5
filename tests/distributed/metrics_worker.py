"""One process of test_metrics_ranks.py: `metrics_worker.py OUTPUT_DIR`, alone or under torchrun."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from agssp.evaluation.anomaly_metrics import PixelScores
from agssp.evaluation.detection_metrics import DetectionMetrics

IMAGES = 9


def detections(index: int) -> tuple:
    """What was found in an image and what is labelled there, the same on every rank."""
    generator = np.random.default_rng(index)
    corners = generator.uniform(0, 80, (index % 4, 2))
    targets = np.concatenate([corners, corners + generator.uniform(5, 90, corners.shape)], 1)
    labels = generator.integers(0, 2, len(targets))
    found = np.concatenate([targets + generator.normal(0, 4, targets.shape), [[1.0, 2, 30, 40]]])
    return found, generator.random(len(found)), np.append(labels, 0), targets, labels


def main(output_dir: Path) -> None:
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        distributed.init_process_group("gloo")
    boxes, pixels = DetectionMetrics(["scratch", "pit"]), PixelScores()
    # As a distributed sampler deals them: the last round is filled up with images from the start.
    rounds = -(-IMAGES // world)
    for index in (step * world + rank for step in range(rounds)):
        boxes.update(index % IMAGES, *detections(index % IMAGES))
        if index < IMAGES:
            generator = np.random.default_rng(index)
            pixels.update(generator.random((16, 16)).astype(np.float16), generator.random((16, 16)) < 0.1)
    if world > 1:
        states: list = [None] * world
        distributed.all_gather_object(states, boxes.state())
        for state in states:
            boxes.merge(state)
        counts = torch.from_numpy(pixels.counts)
        distributed.all_reduce(counts)
    result = {"boxes": boxes.compute(), "pixels": pixels.compute()}
    (output_dir / f"{world}-{rank}.json").write_text(json.dumps(result))
    if world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
