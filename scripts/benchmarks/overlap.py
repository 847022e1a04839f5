"""How many planted duplicates `agssp dataset check-overlap` finds, how many false ones, and what it costs on one core.

python scripts/benchmark.py overlap
python scripts/benchmark.py overlap --images NEU-DET --others corpus --count 300

Without --images both sides are synthetic surfaces. Every image is planted once under each change; a false pair is one
of two images that are not the same. Data sets that repeat images of their own show these as false: look at them.
"""

import argparse
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from agssp.data.images import decode_image
from agssp.data.overlap import THRESHOLD, Gallery, Look
from agssp.data.picture_alignment import ORIENTATIONS, oriented
from agssp.data.readers import read_dataset
from agssp.data.synthetic import SURFACES, add_defects

BLOCK = 64
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def part(image: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """A part of an image with this share of each side, anywhere in it."""
    height, width = (max(round(side * share), 1) for side in image.shape)
    top, left = (
        int(generator.integers(0, whole - side + 1)) for whole, side in zip(image.shape, (height, width), strict=True)
    )
    return image[top : top + height, left : left + width]


def resized(image: np.ndarray, across: float, down: float) -> np.ndarray:
    """An image at another size."""
    way = cv2.INTER_AREA if min(across, down) <= 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=across, fy=down, interpolation=way)


def lit(image: np.ndarray, gain: float, offset: float) -> np.ndarray:
    """A brighter or darker image."""
    return np.clip(image * gain + offset, 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "JPEG quality 50": lambda image, _: jpeg(image, 50),
    "JPEG quality 25": lambda image, _: jpeg(image, 25),
    **{ORIENTATIONS[turn]: lambda image, _, turn=turn: oriented(image, turn) for turn in range(1, 8)},  # type: ignore[misc]
    "half the size": lambda image, _: resized(image, 0.5, 0.5),
    "twice the size": lambda image, _: resized(image, 2, 2),
    "squashed to 0.6": lambda image, _: resized(image, 1, 0.6),
    "brighter": lambda image, _: lit(image, 1.1, 10),
    "darker": lambda image, _: lit(image, 0.7, 0),
    "crop of 0.95": lambda image, generator: part(image, 0.95, generator),
    "crop of 0.9": lambda image, generator: part(image, 0.9, generator),
    "all of them": lambda image, generator: jpeg(
        lit(resized(oriented(part(image, 0.94, generator), int(generator.integers(8))), 0.7, 0.7), 1.1, 5), 60
    ),
}


def jpeg(image: np.ndarray, quality: int = 85) -> np.ndarray:
    """A grey image (H, W) as JPEG leaves it."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def surfaces(count: int, seed: int) -> list[np.ndarray]:
    """Synthetic surfaces with defects, grey uint8 (200, 200)."""
    kinds = list(SURFACES.values())
    generators = [np.random.default_rng((seed, index)) for index in range(count)]
    return [add_defects(kinds[i % len(kinds)](200, each), each)[0] for i, each in enumerate(generators)]


def images_of(source: str, count: int) -> list[np.ndarray]:
    """Images drawn evenly from a data set, grey."""
    dataset = read_dataset(source)
    rows = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
    return [np.asarray(decode_image(dataset[int(row)]["image"]).convert("L")) for row in rows]


def look(name: str, image: np.ndarray) -> Look:
    """What is kept of a grey image."""
    return Look.of(name, Image.fromarray(np.ascontiguousarray(image)).convert("RGB"))


def similarities(gallery: Gallery, looks: Sequence[Look]) -> list[tuple[str, str, float]]:
    """Ids and similarity of all candidates."""
    blocks = (looks[start : start + BLOCK] for start in range(0, len(looks), BLOCK))
    return [(p.corpus_id, p.validation_id, p.similarity) for block in blocks for p in gallery.compare(block)]


def report(name: str, found: Sequence[tuple[str, str, float]], planted: int, seconds: float) -> None:
    """Print one line."""
    true: dict[str, float] = {}
    for ours, theirs, similarity in found:
        if ours == theirs:
            true[ours] = max(similarity, true.get(ours, -1.0))
    false: Any = sorted((similarity for ours, theirs, similarity in found if ours != theirs), reverse=True)
    recall = sum(similarity >= THRESHOLD for similarity in true.values()) / max(planted, 1)
    print(
        f"  {name:<28} recall {recall:6.1%}   lowest true {min(true.values(), default=float('nan')):5.2f}   "
        f"false pairs {sum(each >= THRESHOLD for each in false)}, highest false {max(false, default=0):5.2f}   "
        f"{1000 * seconds:5.1f} ms/image",
        flush=True,
    )


def main(argv: Sequence[str]) -> None:
    """Plant, compare, and print a line for each change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="data set whose images are planted; default: synthetic surfaces")
    parser.add_argument("--others", help="data set that shares nothing with it; default: other synthetic surfaces")
    parser.add_argument("--count", type=int, default=120, help="images of each")
    args = parser.parse_args(argv)

    cv2.setNumThreads(1)
    images = images_of(args.images, args.count) if args.images else surfaces(args.count, 0)
    others = images_of(args.others, args.count) if args.others else surfaces(args.count, 1)
    start = time.process_time()
    gallery = Gallery([look(str(index), image) for index, image in enumerate(images)])
    print(
        f"{len(images)} images held, {1000 * (time.process_time() - start) / len(images):.1f} ms each; processor time"
    )
    for name, change in CHANGES.items():
        generator = np.random.default_rng(0)
        looks = [look(str(index), jpeg(change(image, generator))) for index, image in enumerate(images)]
        start = time.process_time()
        found = similarities(gallery, looks)
        report(name, found, len(images), (time.process_time() - start) / len(images))
    start = time.process_time()
    found = similarities(gallery, [look(f"other {index}", image) for index, image in enumerate(others)])
    seconds = (time.process_time() - start) / len(others)
    report("nothing planted", found, 0, seconds)
    print(f"{len(images) / seconds:,.0f} pairs a second of one core")
