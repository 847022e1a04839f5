"""Write a planned data set shard by shard: each is whole or absent, and never made twice."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from agssp.data.encoded import read_encoded
from agssp.data.images import ImageError, decode_image
from agssp.data.parquet_files import check_footer, read_table
from agssp.data.schema import features
from agssp.faults import raise_storage_fault
from agssp.maps.store import write_parquet
from agssp.parsing import parse_json
from agssp.sources.defects import MaskFile, boxes_of_masks, read_masks
from agssp.sources.image import SourceImage
from agssp.sources.plan import SPLITS, Plan, Shard
from agssp.version import __version__

DATA = "data"
# Streams read a row group at a time.
ROW_GROUP = 64


def shard_path(folder: Path, shard: Shard) -> Path:
    """Where a shard belongs."""
    # pyarrow takes a relative path whose first folder has a colon for an address.
    return folder.absolute() / DATA / shard.name


def is_done(folder: Path, plan: Plan, shard: Shard) -> bool:
    """Whether a shard is there, whole, and made of these files."""
    path = shard_path(folder, shard)
    if not path.is_file():
        return False
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise_storage_fault(error, path)
        return False
    return metadata.get(b"agssp_build") == _key(plan, shard)


def write_shard(folder: Path, plan: Plan, shard: Shard, max_pixels: int) -> Iterator[SourceImage]:
    """Write one shard; the same files give the same bytes. Gives each image when it is done, for progress.

    Images that cannot be read, or whose mask does not fit them, are left out, and named in the file's footer.

    Raises:
        StorageError: the machine failed; the shard is not written.
    """
    rows, skipped = [], []
    for image in shard.images:
        try:
            rows.append(make_row(image, plan, max_pixels))
        except ImageError as error:
            skipped.append({"image_id": image.image_id, "reason": str(error)})
        yield image
    schema = features(plan.categories, plan.classes, mask=plan.mask).arrow_schema
    metadata = {
        **(schema.metadata or {}),
        b"agssp_build": _key(plan, shard),
        b"agssp_skipped": json.dumps(skipped).encode(),
    }
    table = pa.Table.from_pylist(rows, schema=schema).replace_schema_metadata(metadata)
    write_parquet(shard_path(folder, shard), table, compression="zstd", row_group_size=ROW_GROUP)


def make_row(image: SourceImage, plan: Plan, max_pixels: int) -> dict[str, Any]:
    """The row of an image: its file's own bytes, its mask as PNG, its boxes.

    Raises:
        ImageError: the image or its mask cannot be read, or they differ in size.
    """
    content = read_encoded(image.path, image.image_id)
    width, height = decode_image(content, image.image_id, max_pixels=max_pixels).size
    try:
        masks = None if image.masks is None else read_masks(image.masks, (height, width))
    except ImageError as error:
        raise ImageError(f"{image.image_id}: {error}") from error
    defective = any(mask.any() for _, mask in masks or [])
    # A picture without white tells that there is no defect, an outline around nothing does not.
    if not defective and not all(isinstance(mask, MaskFile) for mask in image.masks or []):
        masks = None
    is_normal = image.is_normal
    if is_normal is None and masks:
        is_normal = not defective
    row: dict[str, Any] = {
        "image": {"bytes": content, "path": image.path.name},
        "image_id": image.image_id,
        "category": plan.categories.index(image.category),
        "is_normal": is_normal,
    }
    if plan.mask:
        row["mask"] = None
        if masks:
            united = masks[0][1].copy()
            for _, mask in masks[1:]:
                united |= mask
            row["mask"] = {"bytes": _png(united), "path": f"{image.path.stem}.png"}
    if plan.classes is not None:
        boxes = image.boxes
        if boxes is None and masks is not None:
            boxes = boxes_of_masks(masks, image.smallest_component)
        row["objects"] = None if boxes is None else {
            "bbox": [list(box.bbox) for box in boxes],
            "category": [plan.classes.index(box.defect_type) for box in boxes],
            "score": [box.score for box in boxes],
            "iscrowd": [box.iscrowd for box in boxes],
        }  # fmt: skip
    return row


def skipped_images(folder: Path, plan: Plan) -> list[dict[str, str]]:
    """Images without a row, `image_id` and `reason`, of all finished shards in order."""
    return [entry for shard in plan.shards for entry in skipped_of(folder, shard)]


def skipped_of(folder: Path, shard: Shard) -> list[dict[str, str]]:
    """Images without a row, `image_id` and `reason`, of one finished shard."""
    path = shard_path(folder, shard)
    metadata = check_footer(path).metadata or {}
    return parse_json(metadata.get(b"agssp_skipped", b""), f"{path}, its `agssp_skipped`")


def count_rows(folder: Path, plan: Plan) -> dict[str, Any]:
    """Count what finished shards hold.

    Returns:
        `splits` (split -> rows), `counts` (images, normal, defective, unknown, boxes, crowds (which are no boxes),
        masks, categories, classes) and `by_source` (first part of the ids -> rows).
    """
    splits: Counter[str] = Counter()
    states: Counter[Any] = Counter()
    categories, classes, by_source = (Counter[str](), Counter[str](), Counter[str]())
    masks = crowds = 0
    columns = ["image_id", "category", "is_normal", *(["objects"] if plan.classes is not None else [])]
    for shard in plan.shards:
        path = shard_path(folder, shard)
        table = read_table(path, columns)
        splits[shard.split] += table.num_rows
        states.update(table["is_normal"].to_pylist())
        categories.update(plan.categories[index] for index in table["category"].to_pylist())
        by_source.update(name.split("/")[0] for name in table["image_id"].to_pylist())
        if plan.classes is not None:
            for objects in filter(None, table["objects"].to_pylist()):
                told = zip(objects["category"], objects["iscrowd"], strict=True)
                classes.update(plan.classes[index] for index, iscrowd in told if not iscrowd)
                crowds += sum(objects["iscrowd"])
        if plan.mask:
            masks += table.num_rows - read_table(path, ["mask"])["mask"].null_count
    return {
        "splits": {name: splits[name] for name in SPLITS if name in splits},
        "counts": {
            "images": sum(splits.values()),
            "normal": states[True],
            "defective": states[False],
            "unknown": states[None],
            "boxes": sum(classes.values()),
            "crowds": crowds,
            "masks": masks,
            "categories": {name: categories[name] for name in plan.categories},
            "classes": {name: classes[name] for name in plan.classes or ()},
        },
        "by_source": dict(by_source),
    }


def _key(plan: Plan, shard: Shard) -> bytes:
    """Hash of what decides a shard's bytes."""
    columns = features(plan.categories, plan.classes, mask=plan.mask)
    facts = f"{plan.key} {columns} {shard.name} {__version__}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16].encode()


def _png(mask: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype("uint8") * 255).save(buffer, "png")
    return buffer.getvalue()
