"""What cutting pseudo boxes costs on one core, beside the textbook chain of OpenCV and torchvision; with the ratio.

python scripts/benchmark.py boxes
python scripts/benchmark.py boxes --side 1024 --blobs 12 --delta 0.3

The maps are synthetic: smooth noise with 0 to k blobs. Both sides must give the same boxes. Where other programs use
the machine, an image's best round tells what the code needs.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from agssp.boxes.extraction import category_statistics, category_threshold, pseudo_boxes

Found = tuple[np.ndarray, np.ndarray]


def synthetic_maps(count: int, grid: int, blobs: int) -> np.ndarray:
    """Smooth noise around 0.2 with 0 to `blobs` bumps: float16 (n, g, g)."""
    generator = np.random.default_rng(grid)
    y, x = np.mgrid[:grid, :grid].astype(np.float32)
    maps = np.empty((count, grid, grid), np.float16)
    for index, row in enumerate(maps):
        values = 0.2 + 0.05 * cv2.GaussianBlur(generator.standard_normal((grid, grid), np.float32), (0, 0), 1)
        for _ in range(index % (blobs + 1)):
            cy, cx, height, spread = generator.uniform((0, 0, 0.2, 0.03), (grid, grid, 0.7, 0.08))
            values += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * (spread * grid) ** 2))
        row[:] = values
    return maps


def textbook(anomaly_map: np.ndarray, side: int, threshold: float) -> Found:
    """Equation 11 step by step: resize, label every pixel, loop over the components, suppress."""
    resized = cv2.resize(anomaly_map.astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    count, labels, table, _ = cv2.connectedComponentsWithStats((resized > threshold).astype(np.uint8), connectivity=8)
    boxes, scores = [], []
    for label in range(1, count):
        x, y, w, h, area = table[label]
        if area >= max((side // 100) ** 2, 10):
            boxes.append((x, y, x + w, y + h))
            scores.append(resized[labels == label].max())
    found = torch.tensor(np.array(boxes, np.float32).reshape(-1, 4))
    values = torch.tensor(np.array(scores, np.float32))
    order = values.argsort(descending=True, stable=True)[:10]
    keep = order[nms(found[order], values[order], 0.5)]
    return found[keep].numpy(), values[keep].numpy()


def measure(sides: dict[str, Callable[[np.ndarray], Found]], maps: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds (rounds, n) of each side, which go through all maps in turns."""
    spent = {name: np.empty((rounds, len(maps))) for name in sides}
    for number in range(rounds):
        for name, call in sides.items():
            for index, anomaly_map in enumerate(maps):
                start = time.perf_counter()
                call(anomaly_map)
                spent[name][number, index] = 1000 * (time.perf_counter() - start)
    return spent


def main(argv: Sequence[str]) -> None:
    """Measure both sides in turns, compare their boxes, and print them with their ratio for each grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="maps of each grid")
    parser.add_argument("--side", type=int, default=640, help="side of the images in px")
    parser.add_argument("--grids", type=int, nargs="+", default=[15, 24, 27], help="sides of the maps")
    parser.add_argument("--blobs", type=int, default=6, help="bumps in a map at most")
    parser.add_argument("--delta", type=float, default=0.1, help="of Eq. 9")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; an image's best is what the code needs")
    args = parser.parse_args(argv)

    size = (args.side, args.side)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    print(f"{args.images} synthetic maps a grid, 0 to {args.blobs} blobs, images of {args.side} px, one thread")
    print(f"OpenCV {cv2.__version__}, torch {torch.__version__}")
    for grid in args.grids:
        maps = synthetic_maps(args.images, grid, args.blobs)
        flat = maps.reshape(len(maps), -1)
        threshold = category_threshold(category_statistics(flat.max(1), np.median(flat, 1)), "paper", args.delta)
        sides: dict[str, Callable[[np.ndarray], Found]] = {
            "agssp.pseudo_boxes": lambda each, limit=threshold: astuple(pseudo_boxes(each, size, limit)),
            "textbook chain": lambda each, limit=threshold: textbook(each, args.side, limit),
        }
        found = [[call(each) for each in maps] for call in sides.values()]
        for index, (ours, theirs) in enumerate(zip(*found, strict=True)):
            if not all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)):
                raise SystemExit(f"grid {grid}, map {index}: ours gives {ours}, the textbook {theirs}")
        spent = measure(sides, maps, args.rounds)
        print(f"grid {grid} x {grid}, threshold {threshold:.3f}: {sum(len(each[0]) for each in found[0])} equal boxes")
        for name, times in spent.items():
            best = times.min(0)
            print(
                f"  {name:<20} mean {best.mean():6.3f} ms/image   95 of 100 under {np.quantile(best, 0.95):6.3f}   "
                f"all rounds' mean {times.mean():6.3f}"
            )
        ours, theirs = spent.values()
        ratio = np.median(ours.mean(1) / theirs.mean(1))
        print(f"  ratio of rounds {ratio:.3f}, of the best {ours.min(0).mean() / theirs.min(0).mean():.3f}")
    print("goal: 1 ms an image at 640 px")
