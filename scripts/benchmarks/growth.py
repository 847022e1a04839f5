"""How memory and time grow with the rows: each step at two sizes, a process of its own each, and the ratios.

python scripts/benchmark.py growth
python scripts/benchmark.py growth --rows 2000 20000 --steps split evaluate

Printed are the peak of the whole process' memory (resident, with its imports), what of it came after the imports, and
processor time; then large over small. Peak memory should grow by a tenth at most, time as the rows do. The data is made
up: tiny images, of which many files share one content.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE, BOXES, FOUND, GRID, SHARD = 64, 3, 20, 16, 500
CLASSES = ("dent", "scratch", "pit")
MOST_MEMORY, MOST_TIME = 1.1, 1.2
"""What is asked for: times the peak, and times the rows."""
Run = Callable[[], object]


# --- made-up data -----------------------------------------------------------------------------------------------------


def boxes_of(row: int, count: int = BOXES) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (count, 4) xywh px and classes (count,) of an image."""
    generator = np.random.default_rng(row)
    corners = generator.uniform(0, SIDE - 24, (count, 2))
    sizes = generator.uniform(4, 24, (count, 2))
    return np.concatenate([corners, sizes], 1).round(2), generator.integers(0, len(CLASSES), count)


def make_images(folder: Path, count: int, *, blank: bool = False, different: bool = False) -> list[str]:
    """PNG files of noise, links to 16 of them, or all different, or of one grey; their names."""
    folder.mkdir(parents=True)
    names = [f"{number:06d}.png" for number in range(count)]
    generator = np.random.default_rng(0)
    contents = 1 if blank else count if different else 16
    for number, name in enumerate(names):
        if number < contents:
            noise = generator.integers(60, 190, (SIDE, SIDE), np.uint8)
            pixels = np.full_like(noise, 128) if blank else noise
            Image.fromarray(pixels).save(folder / name, compress_level=1)
        else:
            os.link(folder / names[number % contents], folder / name)
    return names


def make_coco(folder: Path, count: int) -> None:
    """`images/` and labels.json."""
    names = make_images(folder / "images", count)
    images = [{"id": row, "file_name": name, "width": SIDE, "height": SIDE} for row, name in enumerate(names)]
    labels = []
    for row in range(count):
        for bbox, label in zip(*boxes_of(row), strict=True):
            labels.append({"id": len(labels), "image_id": row, "category_id": int(label), "bbox": bbox.tolist(),
                           "area": float(bbox[2] * bbox[3]), "iscrowd": 0})  # fmt: skip
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES)]
    (folder / "labels.json").write_text(json.dumps({"images": images, "annotations": labels, "categories": categories}))


def make_store(folder: Path, count: int) -> None:
    """A store of maps with a spot each."""
    from agssp.maps.store import MapStore

    store = MapStore.create(folder, {"teacher": "made-up", "categories": ["plate"], "grid_size": GRID})
    shards = -(-count // SHARD)
    for shard in range(shards):
        numbers = range(shard * SHARD, min((shard + 1) * SHARD, count))
        maps = np.random.default_rng(shard).uniform(0, 0.2, (len(numbers), GRID, GRID)).astype(np.float16)
        maps[:, 4:8, 4:8] += np.float16(0.6)
        rows = [
            {"image_id": f"plate/{number:06d}.png", "category": 0, "is_normal": False, "width": SIDE, "height": SIDE,
             "anomaly_score": float(one.max()), "map_max": float(one.max())}
            for number, one in zip(numbers, maps, strict=True)
        ]  # fmt: skip
        store.write_shard(store.shard_path(shard, shards), rows, maps, [])


def make_boxes(folder: Path, count: int) -> None:
    """Parquet files as `agssp pseudo-boxes` writes them."""
    from agssp.boxes.store import pseudo_objects, write_boxes

    shards = -(-count // SHARD)
    for shard in range(shards):
        rows = [
            {"image_id": f"plate/{number:06d}.png", "category": 0, "is_normal": None, "width": SIDE, "height": SIDE,
             "anomaly_score": 0.5, "objects": pseudo_objects(boxes_of(number)[0], np.ones(BOXES))}
            for number in range(shard * SHARD, min((shard + 1) * SHARD, count))
        ]  # fmt: skip
        write_boxes(folder / "data" / f"boxes-{shard:05d}-of-{shards:05d}.parquet", ["plate"], rows)


def make_blank_sides(folder: Path, count: int) -> None:
    """Two data sets of nothing but identical blank frames."""
    for side in ("corpus", "validation"):
        make_images(folder / side / "plate", count, blank=True)


def make_different_sides(folder: Path, count: int) -> None:
    """A corpus of different images, and 50 others to compare with."""
    make_images(folder / "corpus" / "plate", count, different=True)
    make_images(folder / "validation" / "plate", 50, different=True)


# --- steps: each imports what it needs, and gives what is to be measured ----------------------------------------------


def split(folder: Path, count: int) -> Run:
    """`agssp split` of a COCO folder."""
    from agssp.commands.split import SplitArguments, main

    arguments = SplitArguments(dataset=str(folder), output=str(folder / "split"), fraction=0.5)
    return lambda: main(arguments)


def split_files(folder: Path, count: int) -> Run:
    """What `agssp split` writes, without the reading: rows with their images as Parquet."""
    import pyarrow as pa
    from datasets import Dataset, Features, Image, Value

    from agssp.data.parquet_shards import write_shards
    from agssp.data.readers.assembly import files_array

    names = make_images(folder / "plate", count)
    features = Features({"image": Image(decode=False), "image_id": Value("string")})
    files = files_array([str(folder / "plate" / name) for name in names], features.arrow_schema.field("image").type)
    dataset = Dataset(pa.table([files, pa.array(names)], schema=features.arrow_schema))
    return lambda: write_shards(dataset, folder / "split", "train")


def evaluate(folder: Path, count: int) -> Run:
    """Average precision of 20 boxes an image, as `agssp evaluate` collects them, beside what that command imports."""
    import agssp.evaluation.inference
    import agssp.report.evaluation  # noqa: F401
    from agssp.evaluation.detection_metrics import DetectionMetrics

    def run() -> None:
        metrics = DetectionMetrics(CLASSES)
        for row in range(count):
            targets, classes = boxes_of(row)
            found, labels = boxes_of(count + row, FOUND)
            found[:BOXES], labels[:BOXES] = targets + 0.5, classes
            for boxes in (targets, found):
                boxes[:, 2:] += boxes[:, :2]
            metrics.update(row, found, np.random.default_rng(row).uniform(0, 1, FOUND), labels, targets, classes)
        metrics.compute()

    return run


def pseudo_boxes(folder: Path, count: int) -> Run:
    """`agssp pseudo-boxes` with both kinds of files."""
    from agssp.commands.pseudo_boxes import PseudoBoxesArguments, main

    arguments = PseudoBoxesArguments(
        maps=str(folder), output=f"{folder}-boxes", delta=0.3, coco=True, yolo=True, workers=1
    )
    return lambda: main(arguments)


def coco_file(folder: Path, count: int) -> Run:
    """Pseudo boxes as one COCO file."""
    from agssp.boxes.store import BoxRows, write_coco

    return lambda: write_coco(folder / "coco.json", BoxRows(sorted((folder / "data").iterdir())))


def yolo_files(folder: Path, count: int) -> Run:
    """Pseudo boxes as a YOLO file an image."""
    from agssp.boxes.store import BoxRows, write_yolo

    return lambda: write_yolo(folder / "yolo", BoxRows(sorted((folder / "data").iterdir())))


def coco_reading(folder: Path, count: int) -> Run:
    """Reading a COCO folder."""
    from agssp.data.readers import read_dataset

    return lambda: read_dataset(str(folder))


def overlap(folder: Path, count: int) -> Run:
    """`agssp dataset check-overlap` of both sides."""
    from agssp.commands.dataset_check_overlap import CheckOverlapArguments, main

    sides = {side: str(folder / side) for side in ("corpus", "validation")}
    return lambda: main(CheckOverlapArguments(**sides, output=str(folder / "overlap"), workers=1))


STEPS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path, int], Run]]] = {
    "split": (make_coco, split),
    "split-files": (lambda folder, count: None, split_files),
    "evaluate": (lambda folder, count: None, evaluate),
    "pseudo-boxes": (make_store, pseudo_boxes),
    "write-coco": (make_boxes, coco_file),
    "write-yolo": (make_boxes, yolo_files),
    "read-coco": (make_coco, coco_reading),
    "overlap-blank": (make_blank_sides, overlap),
    "overlap-different": (make_different_sides, overlap),
}


def peak_mib() -> float:
    """The most memory that this process has had resident so far."""
    status = Path("/proc/self/status")
    if status.is_file():
        # What `getrusage` says begins with the peak of the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_step(name: str, folder: Path, count: int) -> None:
    """Run one step in this process, and print what it took as JSON."""
    run = STEPS[name][1](folder, count)
    before, start = peak_mib(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        run()
    seconds = time.process_time() - start
    print(json.dumps({"peak": peak_mib(), "own": peak_mib() - before, "seconds": seconds}))


def measure(name: str, folder: Path, count: int) -> dict[str, Any] | str:
    """What one step says of itself; the last line of its error where it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RANK": "0", "WORLD_SIZE": "1"}
    script = Path(__file__).resolve().parents[1] / "benchmark.py"
    command = [sys.executable, str(script), "growth", "--one", name, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 else (lines[-1] if lines else "failed")


def print_line(name: str, small: dict[str, float], large: dict[str, float], times: float) -> None:
    """One step at both sizes, and the ratios; those that are too high are marked."""
    memory, seconds = large["peak"] / small["peak"], large["seconds"] / small["seconds"]
    marks = ("!" if memory > MOST_MEMORY else " ", "!" if seconds > MOST_TIME * times else " ")
    print(
        f"{name:<18} {small['peak']:7.0f} {large['peak']:7.0f} MiB  {memory:5.2f}{marks[0]}  "
        f"{small['own']:6.1f} {large['own']:7.1f} MiB  "
        f"{small['seconds']:7.2f} {large['seconds']:7.2f} s  {seconds:5.1f}{marks[1]}",
        flush=True,
    )


def main(argv: Sequence[str]) -> None:
    """Make the data, measure every step at both sizes, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs=2, type=int, default=(2000, 20_000), help="the two sizes")
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        run_step(args.one[0], Path(args.one[1]), int(args.one[2]))
        return
    print(
        f"{args.rows[0]:,} and {args.rows[1]:,} rows: peak of the process, ratio; after imports; processor time, ratio"
    )
    for name in args.steps:
        with tempfile.TemporaryDirectory(prefix="agssp_growth_") as place:
            found = []
            for count in args.rows:
                folder = Path(place) / str(count)
                folder.mkdir()
                STEPS[name][0](folder, count)
                found.append(measure(name, folder, count))
        if failed := [one for one in found if isinstance(one, str)]:
            print(f"{name:<18} failed: {failed[0]}", flush=True)
        else:
            print_line(name, found[0], found[1], args.rows[1] / args.rows[0])  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1:])
