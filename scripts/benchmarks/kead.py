"""What the anomaly maps cost beside the bare encoder: decode, preprocess, forward, references, shard; with the ratio.

python scripts/benchmark.py kead --model ViT-B-16-plus-240 --batch 8
python scripts/benchmark.py kead --model ViT-H-14-378-quickgelu --batch 64 --dtype bfloat16 --device cuda --workers 12
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from agssp.data.readers import read_dataset
from agssp.maps.drawing import RowImages, chunks, finish_shard
from agssp.maps.knowledge_base import KnowledgeBase
from agssp.maps.modeling_kead import KeAD
from agssp.maps.store import MapStore

CATEGORY = "metal_surface"


def write_images(folder: Path, count: int, side: int) -> None:
    """JPEG files of smooth noise, about as hard to decode as a photograph."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(generator.integers(60, 200, (side // 16, side // 16), dtype=np.uint8))
        grey = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        grey = (grey + generator.normal(0, 8, grey.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(grey).convert("RGB").save(folder / f"{index:05d}.jpg", quality=90)


def wait(device: torch.device) -> None:
    """Until the GPU has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def main(argv: Sequence[str]) -> None:
    """Measure both sides in turns and print them with their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16-plus-240", help="open_clip model, with random weights")
    parser.add_argument("--batch", type=int, default=8, help="images a forward pass")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
    parser.add_argument("--images", type=int, default=32, help="images of each side and round")
    parser.add_argument("--side", type=int, default=640, help="side of the JPEG files in px")
    parser.add_argument("--shots", type=int, default=4, help="reference images")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds; the median counts")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode, as in `agssp anomaly-maps`")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    args = parser.parse_args(argv)

    kead = KeAD.from_teacher(
        args.model,
        "random",
        knowledge=KnowledgeBase.load("surface"),
        dtype=args.dtype,
        device=args.device,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / CATEGORY, args.images, args.side)
        dataset = read_dataset(str(Path(folder) / CATEGORY), category=CATEGORY)
        images = RowImages(dataset, kead.preprocess, 10**8)
        rows = [images[index] for index in range(args.images)]
        shots = rows[: args.shots]
        references = {CATEGORY: [row["pixel_values"] for row in shots]}
        kead.set_references(references, {CATEGORY: [row["sha256"] for row in shots]})
        kead.text_features(CATEGORY)
        inputs = torch.stack([row["pixel_values"] for row in rows]).to(kead.device, kead.dtype).split(args.batch)
        manifest = {**kead.describe(), "categories": [CATEGORY]}
        store = MapStore.create(Path(folder) / "maps", manifest)
        seconds: dict[str, list[float]] = {"bare": [], "whole": []}
        for number in range(args.rounds + 1):
            start = time.perf_counter()
            with torch.inference_mode():
                for batch in inputs:
                    kead.teacher.model.encode_image(batch)
            wait(kead.device)
            bare = time.perf_counter() - start
            start = time.perf_counter()
            loader = DataLoader(
                images,
                batch_sampler=chunks(range(args.images), args.batch),
                num_workers=args.workers,
                collate_fn=list,
            )
            finish_shard(kead, store, store.shard_path(number, args.rounds + 1), loader, [CATEGORY], tqdm(disable=True))
            whole = time.perf_counter() - start
            if number:  # the first round warms up
                seconds["bare"].append(bare)
                seconds["whole"].append(whole)
        start = time.perf_counter()
        for index in range(args.images):
            images[index]
        decoding = (time.perf_counter() - start) / args.images

    name = torch.cuda.get_device_name() if kead.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{args.model}, batch {args.batch}, {args.dtype}, {args.images} JPEG of {args.side} px, {args.shots} shots")
    print(f"{name}, torch {torch.__version__}, {args.workers} workers")
    for side, label in (("bare", "bare encode_image"), ("whole", "whole anomaly-maps work")):
        time_each = statistics.median(seconds[side]) / args.images
        print(f"  {label:<24} {1000 * time_each:8.2f} ms/image {1 / time_each:9.1f} images/s")
    print(f"  decode and preprocess alone, in one process: {1000 * decoding:.2f} ms/image")
    ratio = statistics.median(b / a for a, b in zip(seconds["bare"], seconds["whole"], strict=True))
    print(f"  ratio {ratio:.3f} (goal 1.25 in float32, 1.6 in bfloat16 on CPUs that are good at it)")
