"""Whether the memory of streamed pretraining grows with the data set: peak RSS at several sizes, and images/s.

python scripts/benchmark.py streaming
python scripts/benchmark.py streaming --rows 2000 --times 1 4 --shuffle-buffer 200

Writes made-up images with maps as the Parquet shards that `agssp dataset push` publishes, and pretrains on them with
`--streaming`, every run in a process of its own that reads, shuffles, decodes and trains (Linux only). All see as many
images, one pass over the largest data set: a heap that is filled and emptied also grows a little with time. The first
run has so few rows that its peak is that of the program; what the others need above it is the stream's.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Array2D, Features
from datasets import Image as ImageColumn
from PIL import Image

from agssp.data.schema import features
from agssp.evaluation.profiling import hardware
from agssp.hub.dataset_rows import ROW_GROUP, shard_counts, write_shard

PROGRAM = """
import sys
from pathlib import Path
from agssp.cli import main
main(sys.argv[1:])
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""
PICTURES = 16
"""Different images; rows beyond them repeat their bytes under other names."""


def encoded_pictures(width: int, height: int) -> list[bytes]:
    """Grey surfaces with a gradient and noise, as JPEG of quality 90."""
    generator = np.random.default_rng(0)
    shade = np.linspace(60, 180, height)[:, None] + 30 * np.sin(np.arange(width) / 9)
    files = []
    for _ in range(PICTURES):
        file = io.BytesIO()
        pixels = np.clip(shade + generator.normal(0, 10, shade.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).convert("RGB").save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def published_rows(count: int, pictures: list[bytes], grid: int) -> Iterator[dict[str, Any]]:
    """Rows of two categories with a map each."""
    generator = np.random.default_rng(1)
    for number in range(count):
        yield {
            "image": {"bytes": pictures[number % PICTURES], "path": f"{number:07d}.jpg"},
            "image_id": f"{number:07d}.jpg",
            "category": number % 2,
            "is_normal": None,
            "anomaly_map": generator.random((grid, grid)).astype(np.float16),
        }


def write_corpus(folder: Path, count: int, pictures: list[bytes], args: argparse.Namespace) -> int:
    """Shards of so many rows; how many shards."""
    folder.mkdir()
    columns = Features({**features(["plate", "strip"]), "image": ImageColumn()})
    columns["anomaly_map"] = Array2D((args.grid, args.grid), "float16")
    rows = published_rows(count, pictures, args.grid)
    sizes = shard_counts(count, args.shard_images)
    for index, size in enumerate(sizes):
        part = (next(rows) for _ in range(size))
        write_shard(folder / f"train-{index:05d}-of-{len(sizes):05d}.parquet", part, columns)
    return len(sizes)


def pretrain(corpus: Path, output: Path, images: int, args: argparse.Namespace) -> tuple[float, float]:
    """So many images of a corpus, as a command of its own: peak RSS in MB and images/s, filling the buffer included."""
    steps = max(images // args.batch, 1)
    flags = {
        "dataset": corpus,
        "output": output,
        "backbone": args.backbone,
        "image-size": args.size,
        "val-fraction": 0,
        "max-steps": steps,
        "save-steps": steps,
        "logging-steps": steps,
        "shuffle-buffer": args.shuffle_buffer,
        "per-device-train-batch-size": args.batch,
        "dataloader-num-workers": 0,
        "disable-tqdm": "true",
    }
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-c", PROGRAM, "pretrain-backbone", "--streaming", "--use-cpu", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    rate = next(entry["train_samples_per_second"] for entry in log if "train_samples_per_second" in entry)
    return int(done.stdout.splitlines()[-1]) * 1024 / 1e6, rate


def main(argv: Sequence[str]) -> None:
    """Measure all sizes and print them with the ratio of their peaks to the first one's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1500, help="rows of the data set; more than the buffer holds")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4], help="sizes, as multiples of --rows")
    parser.add_argument("--width", type=int, default=728, help="of the images, px")
    parser.add_argument("--height", type=int, default=544, help="of the images, px")
    parser.add_argument("--grid", type=int, default=27, help="side of the anomaly maps")
    parser.add_argument("--shard-images", type=int, default=1000, help="rows a shard at most")
    parser.add_argument("--shuffle-buffer", type=int, default=1000, help="rows among which the order is shuffled")
    parser.add_argument("--backbone", default="test_resnet", help="small, so that what is measured is the stream")
    parser.add_argument("--size", type=int, default=64, help="input of the backbone, px")
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    args = parser.parse_args(argv)

    pictures = encoded_pictures(args.width, args.height)
    row = sum(map(len, pictures)) / PICTURES
    print(hardware(torch.device("cpu")))
    print(
        f"images of {args.width} x {args.height} px, {row / 1e3:.0f} kB encoded, maps of {args.grid} x {args.grid}; "
        f"a full shuffle buffer holds {args.shuffle_buffer * row / 1e6:.0f} MB of images"
    )
    first = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (ROW_GROUP, *(args.rows * times for times in args.times)):
            shards = write_corpus(folder / f"{count}", count, pictures, args)
            images = count if count == ROW_GROUP else args.rows * max(args.times)
            peak, rate = pretrain(folder / f"{count}", folder / f"{count}-out", images, args)
            if count == ROW_GROUP:
                program = peak
                print(f"  {count:>7} rows: peak {peak:6.0f} MB (the program)", flush=True)
                continue
            first = first or peak
            print(
                f"  {count:>7} rows in {shards:>3} shards: peak {peak:6.0f} MB, {peak - program:5.0f} MB of them the "
                f"stream's, {rate:5.1f} images/s, ratio {peak / first:.3f}",
                flush=True,
            )
