"""How well maps from normal references and from mutual ones find defects: AUROC of images and of pixels, side by side.

python scripts/benchmark.py references --dataset corpus/pump_impeller --unknown-is-defective --images 120
python scripts/benchmark.py references --elpv --images 300
python scripts/benchmark.py references --dataset NEU-DET --images 90 --modes mutual --layers 16 --image-size 256
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from agssp.data.images import decode_image
from agssp.data.mask_reading import MaskReading
from agssp.data.masks import named_masks
from agssp.data.readers import read_dataset
from agssp.data.splits import shuffled_order
from agssp.errors import InputError
from agssp.evaluation.anomaly_metrics import PixelScores, binary_scores
from agssp.maps.knowledge_base import KnowledgeBase
from agssp.maps.modeling_kead import KeAD


def read_rows(args: argparse.Namespace) -> list[dict]:
    """Rows of `image_id`, `category` (name), `defective` (or None), `image`, `mask` (or None) and its `reading`."""
    if args.elpv:
        from elpv_dataset.utils import load_dataset

        images, probabilities, types = load_dataset()
        return [
            {
                "image_id": str(index),
                "category": str(kind),
                # Cells that experts were unsure of (1/3, 2/3) are left out of both sides.
                "defective": {0.0: False, 1.0: True}.get(float(probability)),
                "image": Image.fromarray(image),
                "mask": None,
            }
            for index, (image, probability, kind) in enumerate(zip(images, probabilities, types, strict=True))
            if probability in (0.0, 1.0)
        ]
    dataset = read_dataset(args.dataset)
    reading = MaskReading()
    if "mask" in dataset.features:
        reading = MaskReading.of(named_masks(dataset.select_columns(["image_id", "mask"])), args.dataset)
        reading.tell(args.dataset)
    names = dataset.features["category"].names
    rows = []
    for row in dataset:
        normal = row["is_normal"]
        unknown = True if args.unknown_is_defective else None
        rows.append(
            {
                "image_id": row["image_id"],
                "category": names[row["category"]],
                "defective": unknown if normal is None else not normal,
                "image": row["image"],
                "mask": row.get("mask"),
                "reading": reading,
            }
        )
    return rows


def evaluate(kead: KeAD, rows: list[dict], batch: int) -> tuple[float | None, float | None, float]:
    """AUROC of images and of pixels, and ms an image."""
    pixels, scores, labels = PixelScores(), [], []
    start = time.perf_counter()
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        output = kead(
            torch.stack([kead.preprocess(row["picture"]) for row in part]),
            [row["category"] for row in part],
            [row["image_id"] for row in part],
        )
        for row, anomaly_map, score in zip(part, output.anomaly_maps.cpu(), output.scores.tolist(), strict=True):
            if row["defective"] is not None:
                scores.append(score)
                labels.append(row["defective"])
            if row["mask"] is not None:
                mask = row["reading"].decode(row["mask"], row["image_id"])
                defect, ignored = mask.defect, mask.ignored
                full = Image.fromarray(anomaly_map.numpy()).resize(defect.shape[::-1], Image.Resampling.BILINEAR)
                known = np.ones(defect.shape, bool) if ignored is None else ~ignored
                pixels.update(np.asarray(full)[known], defect[known])
    seconds = time.perf_counter() - start
    return binary_scores(scores, labels)["auroc"], pixels.compute()["auroc"], 1000 * seconds / len(rows)


def main(argv: Sequence[str]) -> None:
    """Print one line for each way to choose references."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="anything `agssp anomaly-maps` reads")
    parser.add_argument("--elpv", action="store_true", help="solar cells of the elpv-dataset package instead")
    parser.add_argument("--unknown-is-defective", action="store_true", help="rows without a normal flag are defective")
    parser.add_argument("--images", type=int, default=200, help="seeded sample that is scored")
    parser.add_argument("--modes", nargs="+", choices=("normal", "mutual"), default=["normal", "mutual"])
    parser.add_argument("--shots", type=int, nargs="+", default=[4], help="normal references a category")
    parser.add_argument("--count", type=int, nargs="+", default=[24], help="mutual references a category")
    parser.add_argument("--fraction", type=float, nargs="+", default=[0.3], help="share that counts in mutual mode")
    parser.add_argument("--teacher", default="timm:tf_efficientnet_lite2")
    parser.add_argument("--pretrained", default="pypi")
    parser.add_argument("--knowledge", help="for teachers that read text")
    parser.add_argument("--layers", type=int, nargs="+", help="blocks or strides")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if (args.dataset is None) == (not args.elpv):
        raise InputError("give exactly one of --dataset and --elpv")

    rows = read_rows(args)
    order = shuffled_order([row["image_id"] for row in rows], args.seed)
    sample = [rows[index] for index in order[: args.images]]
    for row in sample:
        row["picture"] = decode_image(row["image"], row["image_id"])
    # References come from images that are not scored where there are enough, as they would for a large data set.
    others = [rows[index] for index in order[args.images :]] or sample
    kead = KeAD.from_teacher(
        args.teacher,
        args.pretrained,
        knowledge=KnowledgeBase.load(args.knowledge) if args.knowledge else None,
        layers=args.layers,
        image_size=args.image_size,
    )
    print(
        f"{args.teacher} {args.pretrained}, {kead.image_size} px, layers {kead.teacher.layers}, grid {kead.grid_size}"
    )
    print(f"{len(sample)} images of {'elpv' if args.elpv else args.dataset}, seed {args.seed}")
    categories = sorted({row["category"] for row in sample})
    settings = [("normal", count, 1.0) for count in args.shots if "normal" in args.modes]
    settings += [("mutual", n, fraction) for n in args.count for fraction in args.fraction if "mutual" in args.modes]
    for mode, count, fraction in settings:
        for name in categories:
            pool = [
                row for row in others if row["category"] == name and (mode == "mutual" or row["defective"] is False)
            ]
            if len(pool) < count:
                raise InputError(f"category {name!r}: {len(pool)} images for {count} {mode} references; score fewer")
            pictures = [decode_image(row["image"], row["image_id"]) for row in pool[:count]]
            ids = [row["image_id"] for row in pool[:count]]
            kead.set_references({name: pictures}, {name: ids}, mode=mode, fraction=fraction)
        image_auroc, pixel_auroc, milliseconds = evaluate(kead, sample, args.batch)
        figures = [f"{value:.3f}" if value is not None else "  -  " for value in (image_auroc, pixel_auroc)]
        share = f" fraction {fraction}" if mode == "mutual" else ""
        print(
            f"  {mode:<6} {count:>3} references{share:<13}: image AUROC {figures[0]}, pixel AUROC {figures[1]}, "
            f"{milliseconds:.1f} ms/image"
        )
