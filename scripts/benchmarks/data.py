"""The cost of a training sample, decoding left out: pretraining with its map, and a mosaic beside ultralytics.

python scripts/benchmark.py data
python scripts/benchmark.py data --images /data/steel --rounds 400
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from agssp.boxes.store import pseudo_objects
from agssp.data.anomaly_map import AnomalyMap
from agssp.data.images import decode_image
from agssp.data.mosaic import DetectionTransform
from agssp.data.schema import features
from agssp.data.training_sets import DetectionImages
from agssp.data.transforms import PretrainingTransform
from agssp.models.ultralytics import import_ultralytics

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}


def pictures(folder: str | None, count: int) -> list[Image.Image]:
    """The first images of a folder, or surfaces of noise and stripes, 728 x 544 px."""
    if folder:
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
        return [decode_image(path, str(path)) for path in paths[:: max(1, len(paths) // count)][:count]]
    generator = np.random.default_rng(0)
    stripes = np.sin(np.arange(728) / 9)[None, :, None] * 30 + np.linspace(60, 180, 544)[:, None, None]
    noise = generator.normal(0, 15, (count, 544, 728, 1)) + generator.normal(0, 4, (count, 1, 1, 3))
    return [Image.fromarray(np.clip(stripes + part, 0, 255).astype(np.uint8)) for part in noise]


def random_boxes(size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Up to six boxes in an image of this (width, height): float32 (n, 4) COCO xywh px."""
    number = int(generator.integers(0, 7))
    sides = generator.uniform(0.05, 0.3, (number, 2)) * size
    return np.concatenate([generator.random((number, 2)) * (size - sides), sides], 1).astype(np.float32)


def measure(sides: dict[str, Callable[[int], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call; the sides take turns, so that they meet the same machine."""
    for call in sides.values():
        for index in range(20):
            call(index)
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(rounds):
        for name, call in sides.items():
            start = time.perf_counter()
            call(index)
            spent[name].append((time.perf_counter() - start) * 1000)
    return spent


def report(title: str, spent: dict[str, list[float]], goal: float) -> None:
    """Print the mean of each side, and the first one's ratio to each of the others."""
    means = {name: statistics.fmean(sorted(times)[: len(times) * 9 // 10]) for name, times in spent.items()}
    print(f"{title} (goal {goal} ms)")
    ours = next(iter(means.values()))
    for name, mean in means.items():
        print(f"  {name:<58} {mean:7.2f} ms   ratio {ours / mean:5.2f}")


def pretraining(images: list[Image.Image], size: int, grid: int) -> dict[str, Callable[[int], Any]]:
    """A sample of pretraining with its map, without, and as torchvision's transforms make it."""
    transform = PretrainingTransform(size, MEAN, STD, grid)
    maps = np.random.default_rng(1).random((len(images), grid, grid)).astype(np.float16)
    chain = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.4, saturation=0.4, hue=0.015),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def ours(index: int, *, with_map: bool = True) -> Any:
        place = index % len(images)
        return transform(images[place], maps[place] if with_map else None, np.random.default_rng((0, 0, index)))

    def theirs(index: int) -> Any:
        place = index % len(images)
        image = tv_tensors.Image(images[place])
        whole = v2.functional.resize_image(torch.from_numpy(maps[place].astype(np.float32))[None], image.shape[1:])
        return chain(image, AnomalyMap(whole))

    return {
        "agssp, image and map": ours,
        "agssp, image alone": lambda index: ours(index, with_map=False),
        "torchvision v2 of the same, image and AnomalyMap": theirs,
    }


def detection(images: list[Image.Image], size: int, folder: Path, mosaic: float) -> dict[str, Callable[[int], Any]]:
    """A detector's sample from images in memory, by agssp and by ultralytics' own data set."""
    import_ultralytics()
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset

    generator = np.random.default_rng(2)
    boxes = [random_boxes(image.size, generator) for image in images]
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    rows = []
    for index, (image, found) in enumerate(zip(images, boxes, strict=True)):
        path = folder / "images" / f"{index:04d}.png"
        image.save(path)
        scale = np.array([*image.size] * 2)
        lines = [(*(box[:2] + box[2:] / 2), *box[2:]) / scale for box in found]
        text = "".join(f"0 {' '.join(f'{value:.6f}' for value in line)}\n" for line in lines)
        (folder / "labels" / f"{index:04d}.txt").write_text(text)
        objects = pseudo_objects(found, np.ones(len(found)))
        rows.append({"image": {"path": str(path), "bytes": None}, "image_id": path.name, "category": 0})
        rows[-1] |= {"is_normal": None, "objects": objects}

    dataset = datasets.Dataset.from_list(rows, features=features(["surface"], ["defect"]))
    transform = DetectionTransform(size, (0, 0, 0), (1, 1, 1), mosaic=mosaic)
    ours = DetectionImages(dataset, None, transform, seed=0)
    settings = get_cfg(overrides={"mosaic": mosaic, "mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0})
    theirs = YOLODataset(
        img_path=str(folder / "images"),
        imgsz=size,
        cache="ram",
        augment=True,
        hyp=settings,
        data={"names": {0: "defect"}},
    )
    random.seed(0)
    for index in range(len(images)):
        ours.sample(index)

    def ready(index: int) -> Any:
        # Its trainer divides by 255 once the batch is on the device; ours comes out divided.
        return theirs[index % len(images)]["img"].float() / 255

    return {
        "agssp, float32 0..1": lambda index: ours[index % len(images)],
        "ultralytics, uint8": lambda index: theirs[index % len(images)],
        "ultralytics, float32 0..1": ready,
    }


def main(argv: Sequence[str]) -> None:
    """Measure and print all sides with their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of images; without it they are made up")
    parser.add_argument("--count", type=int, default=32, help="images to use")
    parser.add_argument("--size", type=int, default=224, help="input of the backbone")
    parser.add_argument("--detector-size", type=int, default=640, help="input of the detector")
    parser.add_argument("--grid", type=int, default=27, help="side of the anomaly maps")
    parser.add_argument("--rounds", type=int, default=200, help="samples of each side")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch and OpenCV")
    args = parser.parse_args(argv)

    images = pictures(args.images, args.count)
    if not images:
        parser.error(f"--images {args.images}: no images there")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        mosaics = detection(images, args.detector_size, Path(folder) / "mosaic", 1.0)
        singles = detection(images, args.detector_size, Path(folder) / "single", 0.0)
        cv2.setNumThreads(args.threads if args.threads > 1 else 0)  # ultralytics sets it while it is imported
        sizes = sorted({image.size for image in images})
        print(f"{len(images)} images of {sizes[0]} to {sizes[-1]} px, {args.threads} thread, decoding left out")
        report(
            f"pretraining sample at {args.size} px",
            measure(pretraining(images, args.size, args.grid), args.rounds),
            2.0,
        )
        report(f"mosaic sample at {args.detector_size} px", measure(mosaics, args.rounds), 6.0)
        report(f"single sample at {args.detector_size} px", measure(singles, args.rounds), 6.0)
