"""Check a built data set row by row: whatever is wrong is said of a row, a file or a count, by name."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from agssp.data.images import MAX_PIXELS, ImageError, decode_image
from agssp.data.mask_reading import MaskReading
from agssp.data.masks import decode_mask, named_masks
from agssp.data.readers.tables import SHARD_NAME
from agssp.data.schema import defect_names
from agssp.errors import InputError, StorageError
from agssp.faults import raise_storage_fault

# Boxes are stored as float32.
ROUNDING = 0.01


def verify_rows(folder: Path, manifest: dict[str, Any], max_pixels: int = MAX_PIXELS) -> Iterator[str | None]:
    """Open every row of a data set.

    Args:
        folder: of the data set.
        manifest: its `dataset.json`.
        max_pixels: larger images are a problem.

    Yields:
        A problem, beginning with the row or file concerned, or None for a row that is done (for progress).

    Raises:
        StorageError: the machine failed; nothing is said of the data.
    """
    seen: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    yield from _missing_shards(folder, manifest)
    # pyarrow takes a relative path whose first folder has a colon for an address.
    paths = sorted((folder.absolute() / "data").glob("*.parquet"))
    reading = None
    try:
        reading = MaskReading.of(named_masks(_mask_rows(paths)), str(folder))
    except StorageError:
        raise
    except InputError as error:
        yield str(error)
    for path in paths:
        split = _split_of(path)
        try:
            file = pq.ParquetFile(path)
            names = Features.from_arrow_schema(file.schema_arrow)
            if list(names) != manifest["columns"]:
                yield f"{path.name}: has the columns {', '.join(names)}, not {', '.join(manifest['columns'])}"
                continue
            categories, classes = list(names["category"].names), defect_names(SimpleNamespace(features=names))
            for batch in file.iter_batches(batch_size=32):
                for row in batch.to_pylist():
                    rows[split] += 1
                    name = row["image_id"]
                    if not name:
                        yield f"{path.name}: row {rows[split]} has no image_id"
                        continue
                    seen[name] += 1
                    if seen[name] == 2:
                        yield f"{name}: the id occurs twice"
                    for problem in row_problems(row, categories, classes, max_pixels, reading):
                        yield f"{name}: {problem}"
                    yield None
        except Exception as error:  # pyarrow raises any kind on a damaged file
            raise_storage_fault(error, path)
            yield f"{path.name}: cannot be read: {error}"
    for split in {**manifest["splits"], **rows}:
        if rows[split] != manifest["splits"].get(split, 0):
            yield f"split {split}: holds {rows[split]} rows, dataset.json says {manifest['splits'].get(split, 0)}"


def row_problems(
    row: dict[str, Any],
    categories: list[str],
    classes: list[str],
    max_pixels: int,
    reading: MaskReading | None = None,
) -> Iterator[str]:
    """What is wrong with one row: its image, mask, boxes and labels; `reading` is that of the data set's masks."""
    if row["category"] is None or row["category"] not in range(len(categories)):
        yield f"category {row['category']} is none of the {len(categories)} categories"
    try:
        width, height = decode_image(row["image"] or {}, "the image", max_pixels=max_pixels).size
    except ImageError as error:
        yield str(error)
        return
    defective = False
    if row.get("mask") is not None:
        try:
            mask = decode_mask(row["mask"], "the mask", reading)
            if mask.shape != (height, width):
                yield f"the mask is {mask.shape[1]} x {mask.shape[0]} px, the image {width} x {height}"
            defective = bool(mask.any())
        except ImageError as error:
            yield str(error)
    objects = row.get("objects")
    if objects is not None:
        yield from _box_problems(objects, width, height, classes)
        defective = defective or bool(objects["bbox"])
    if row["is_normal"] and defective:
        yield "is said to be normal, but has a box or a mask that is not empty"


def count_problems(manifest: dict[str, Any], *, partial: bool) -> Iterator[str]:
    """Where the counts of a data set contradict each other, or what a source's owner publishes.

    Args:
        manifest: its `dataset.json`.
        partial: a part of the sources is meant: what their owners publish is not compared.
    """
    counts, sources = manifest["counts"], manifest["sources"]
    sums = {
        "splits": sum(manifest["splits"].values()),
        "sources": sum(source["images"] for source in sources),
        "categories": sum(counts["categories"].values()),
        "normal, defective and unknown": counts["normal"] + counts["defective"] + counts["unknown"],
    }
    for what, total in sums.items():
        if total != counts["images"]:
            yield f"dataset.json: {counts['images']} images, but {what} add up to {total}"
    for source in sources:
        published = source.get("published_images")
        if not partial and published is not None and source["images"] < published:
            yield (
                f"source {source['name']}: {source['images']} images, its owner gives {published}; is the download "
                "complete? (--partial if a part is meant)"
            )


def _mask_rows(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Id and mask of each row; of files that cannot be read or have no masks, none."""
    for path in paths:
        try:
            file = pq.ParquetFile(path)
            if "mask" in file.schema_arrow.names:
                for batch in file.iter_batches(batch_size=32, columns=["image_id", "mask"]):
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError, KeyError) as error:
            raise_storage_fault(error, path)


def _missing_shards(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    wanted, there = set(manifest.get("shards", [])), {path.name for path in (folder / "data").glob("*.parquet")}
    for name in sorted(wanted - there):
        yield f"{name}: the file is missing"
    for name in sorted(there - wanted) if wanted else []:
        yield f"{name}: the file is not in dataset.json"


def _split_of(path: Path) -> str:
    match = SHARD_NAME.fullmatch(path.stem)
    return match[1] if match else "train"


def _box_problems(objects: dict[str, Any], width: int, height: int, classes: list[str]) -> Iterator[str]:
    boxes, labels, scores = objects["bbox"], objects["category"], objects["score"]
    crowds = objects.get("iscrowd", [False] * len(boxes))
    if not len(boxes) == len(labels) == len(scores) == len(crowds):
        yield f"{len(boxes)} boxes, {len(labels)} classes, {len(scores)} scores and {len(crowds)} iscrowd"
        return
    for index, (box, label, score) in enumerate(zip(boxes, labels, scores, strict=True)):
        if box is None or len(box) != 4 or not all(value is not None and math.isfinite(value) for value in box):
            yield f"box {index}: expected four numbers, got {box}"
            continue
        x, y, w, h = box
        if not (w > 0 and h > 0):
            yield f"box {index}: has no area ({w:g} x {h:g} px)"
        if min(x, y) < -ROUNDING or x + w > width + ROUNDING or y + h > height + ROUNDING:
            yield f"box {index}: {x:g} {y:g} {w:g} {h:g} reaches beyond the image of {width} x {height} px"
        if label not in range(len(classes)):
            yield f"box {index}: class {label} is none of the {len(classes)} classes"
        if score is None or not math.isfinite(score):
            yield f"box {index}: score {score}"
