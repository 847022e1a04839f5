"""Images a second (of processor time) and memory of reading labels, beside another commit and supervision's loaders.

python scripts/benchmark.py readers --against 4f9b0cd
python scripts/benchmark.py readers --against HEAD~20 --images 4000 --formats coco yolo

The images are made up: JPEG of noise, of which many files share one content, with three boxes each. Every reading is a
process of its own; the sides take turns, and the best of all rounds counts. The other commit is checked out beside, in
an environment whose agssp is that checkout and whose other packages are this one's. supervision is measured where it
is installed; it opens images later than we do, and checks less. A format that the other commit does not read says so.
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, BOXES, CLASSES = 640, 3, ("dent", "scratch", "pit")
OURS = """
import json, resource, sys, time
from agssp.data.readers import read_dataset
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
data = read_dataset(sys.argv[1])
seconds = time.process_time() - start
objects = data["objects"] if "objects" in data.features else []
boxes = sum(len((row or {"bbox": ()})["bbox"]) for row in objects)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "mib": (peak - before) / 1024, "images": len(data), "boxes": boxes}))
"""
THEIRS = """
import json, resource, sys, time
from supervision import DetectionDataset
root, kind = sys.argv[1:3]
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
if kind == "coco":
    data = DetectionDataset.from_coco(f"{root}/images", f"{root}/labels.json")
elif kind == "yolo":
    data = DetectionDataset.from_yolo(f"{root}/images", f"{root}/labels", f"{root}/data.yaml")
else:
    data = DetectionDataset.from_pascal_voc(f"{root}/JPEGImages", f"{root}/Annotations")
seconds = time.process_time() - start
boxes = sum(len(found) for found in data.annotations.values())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "mib": (peak - before) / 1024, "images": len(data), "boxes": boxes}))
"""


def draw_boxes(count: int) -> np.ndarray:
    """Boxes (n, 3, 4) xywh px of images of 640 px, and in [..., 4] their class."""
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, SIDE - 120, (count, BOXES, 2))
    sizes = generator.uniform(8, 120, (count, BOXES, 2))
    classes = generator.integers(0, len(CLASSES), (count, BOXES, 1))
    return np.concatenate([corners, sizes, classes], 2).round(2)


def make_images(folder: Path, count: int) -> list[str]:
    """Files `000000.jpg` and so on, links to a few JPEG files of noise; their names."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    names = [f"{number:06d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        if number < 16:
            small = Image.fromarray(generator.integers(60, 190, (SIDE // 8, SIDE // 8, 3), np.uint8))
            small.resize((SIDE, SIDE)).save(folder / name, quality=80)
        else:
            os.link(folder / names[number % 16], folder / name)
    return names


def make_coco(root: Path, boxes: np.ndarray) -> None:
    """`images/` and labels.json."""
    names = make_images(root / "images", len(boxes))
    rows = [
        {"id": row * BOXES + index, "image_id": row, "category_id": int(box[4]) + 1, "bbox": box[:4].tolist(),
         "area": float(box[2] * box[3]), "iscrowd": 0, "segmentation": []}
        for row, found in enumerate(boxes)
        for index, box in enumerate(found)
    ]  # fmt: skip
    images = [{"id": row, "file_name": name, "width": SIDE, "height": SIDE} for row, name in enumerate(names)]
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)]
    text = json.dumps({"images": images, "annotations": rows, "categories": categories})
    (root / "labels.json").write_text(text)


def make_yolo(root: Path, boxes: np.ndarray) -> None:
    """`images/`, `labels/` and data.yaml."""
    (root / "labels").mkdir(parents=True)
    for name, found in zip(make_images(root / "images", len(boxes)), boxes, strict=True):
        lines = [
            f"{int(c)} {(x + w / 2) / SIDE:.6f} {(y + h / 2) / SIDE:.6f} {w / SIDE:.6f} {h / SIDE:.6f}"
            for x, y, w, h, c in found.tolist()
        ]
        (root / "labels" / name).with_suffix(".txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(json.dumps({"train": "images", "names": list(CLASSES)}))


def make_voc(root: Path, boxes: np.ndarray) -> None:
    """`JPEGImages/` and `Annotations/`."""
    (root / "Annotations").mkdir(parents=True)
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
    for name, found in zip(make_images(root / "JPEGImages", len(boxes)), boxes, strict=True):
        objects = "".join(
            f"<object><name>{CLASSES[int(c)]}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>"
            f"<ymax>{y + h}</ymax></bndbox></object>"
            for x, y, w, h, c in found.tolist()
        )
        text = f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"
        (root / "Annotations" / name).with_suffix(".xml").write_text(text)


def make_labelme(root: Path, boxes: np.ndarray) -> None:
    """Images with JSON beside them."""
    for name, found in zip(make_images(root / "images", len(boxes)), boxes, strict=True):
        shapes = [
            {"label": CLASSES[int(c)], "points": [[x, y], [x + w, y + h]], "shape_type": "rectangle", "flags": {}}
            for x, y, w, h, c in found.tolist()
        ]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None}
        text = json.dumps(content | {"imageHeight": SIDE, "imageWidth": SIDE})
        (root / "images" / name).with_suffix(".json").write_text(text)


MAKERS = {"coco": make_coco, "yolo": make_yolo, "voc": make_voc, "labelme": make_labelme}


def environment_of(commit: str, folder: Path) -> Path:
    """A checkout of a commit, and the Python of an environment whose agssp it is."""
    repository = Path(__file__).resolve().parents[2]
    tree = folder / "tree"
    subprocess.run(["git", "-C", repository, "worktree", "add", "--detach", "--quiet", tree, commit], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "venv" / "lib" / version / "site-packages" / "other.pth").write_text(
        f"{tree / 'src'}\n{sysconfig.get_paths()['purelib']}\n"
    )
    return python


def measure(python: Path | str, code: str, *words: str) -> dict[str, float] | str:
    """What one reading says of itself; the last line of its error where it fails."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if str(python) == sys.executable:
        variables["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    variables |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([str(python), "-c", code, *words], capture_output=True, text=True, env=variables)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 else (lines[-1] if lines else "failed")


def main(argv: Sequence[str]) -> None:
    """Make the data, measure each side in turns, and print images/s, memory and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default="HEAD", help="commit to compare with")
    parser.add_argument("--images", type=int, default=20_000, help="images of each format; three boxes each")
    parser.add_argument("--formats", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    args = parser.parse_args(argv)

    repository = Path(__file__).resolve().parents[2]
    boxes = draw_boxes(args.images)
    with tempfile.TemporaryDirectory(prefix="agssp_readers_") as place:
        folder = Path(place)
        try:
            sides = {"this": (sys.executable, OURS), args.against: (environment_of(args.against, folder), OURS)}
            sides["supervision"] = (sys.executable, THEIRS)
            for kind in args.formats:
                root = folder / kind
                MAKERS[kind](root, boxes)
                found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
                failed = {}
                for _ in range(args.rounds):
                    for name, (python, code) in sides.items():
                        one = measure(python, code, str(root), kind) if name not in failed else failed[name]
                        if isinstance(one, str):
                            failed[name] = one
                        else:
                            found[name].append(one)
                print_format(kind, found, failed)
        finally:
            subprocess.run(["git", "-C", str(repository), "worktree", "remove", "--force", str(folder / "tree")])


def print_format(kind: str, found: dict[str, list[dict[str, float]]], failed: dict[str, str]) -> None:
    """One line a side, with the ratio of this commit's speed to it."""
    mine = min((one["seconds"] for one in found["this"]), default=float("nan"))
    boxes = {one["boxes"] for one in found["this"]}
    for name, rounds in found.items():
        if name in failed or not rounds:
            print(f"{kind:<8} {name:<12} not read: {failed.get(name)}")
            continue
        best = min(rounds, key=lambda one: one["seconds"])
        ratio = f"  this / {name}: {best['seconds'] / mine:.2f} times as fast"
        if name == "this" or best["boxes"] not in boxes:
            # Images without their labels are read in no time.
            ratio = "" if name == "this" else "  labels not read"
        print(
            f"{kind:<8} {name:<12} {best['images'] / best['seconds']:9,.0f} images/s  {best['mib']:7.0f} MiB  "
            f"{best['images']:,} images, {best['boxes']:,} boxes{ratio}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
