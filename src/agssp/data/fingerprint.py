"""A short text that tells whether two data sets hold the same rows, on any machine."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset

from agssp.data.images import configured_bit_depth


def dataset_fingerprint(dataset: Dataset | Any, source: str = "") -> str:
    """Hash the ids, categories, normal flags and file sizes of a data set's rows, in order.

    Pixels are not read, and paths do not count, so moving a folder, or putting its files into Parquet, leaves the
    fingerprint as it is. A bit depth set in the environment counts: with it the same files are other images.

    Args:
        dataset: a data set with the reader's columns; a streamed one is told apart by `source` and its features alone.
        source: what the data set was read from; used for streamed ones.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    if bit_depth := configured_bit_depth():
        digest.update(f"bit depth {bit_depth}\n".encode())
    if not isinstance(dataset, Dataset):
        digest.update(f"{source}\t{dataset.features}".encode())
        return digest.hexdigest()[:16]
    names = dataset.features["category"].names
    columns = dataset.select_columns(["image_id", "category", "is_normal", "image"]).with_format("arrow")
    for batch in columns.iter(batch_size=1000):
        # Not combined first: the embedded images of a batch may be more bytes than one array can hold.
        images = batch["image"].chunks
        rows = zip(
            batch["image_id"].to_pylist(),
            batch["category"].to_pylist(),
            batch["is_normal"].to_pylist(),
            (size for chunk in images for size in pc.binary_length(pc.struct_field(chunk, "bytes")).to_pylist()),
            (path for chunk in images for path in pc.struct_field(chunk, "path").to_pylist()),
            strict=True,
        )
        for image_id, category, is_normal, size, path in rows:
            name = None if category is None else names[category]
            digest.update(f"{image_id}\t{name}\t{is_normal}\t{_file_size(path) if size is None else size}\n".encode())
    return digest.hexdigest()[:16]


def label_fingerprint(dataset: Dataset) -> str:
    """Hash the ids and `objects` of a data set's rows, in order: other boxes, classes or crowds are other labels.

    Args:
        dataset: a data set with the reader's columns and `objects`.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(_without_crowds(dataset.features["objects"])).encode())
    for batch in dataset.select_columns(["image_id", "objects"]).iter(batch_size=1000):
        # Where no box is a crowd, the same as before the field was there, so that a run begun then can go on.
        rows = [
            objects if objects is None or any(objects["iscrowd"]) else _without_crowds(objects)
            for objects in batch["objects"]
        ]
        digest.update(repr((batch["image_id"], rows)).encode())
    return digest.hexdigest()[:16]


def _without_crowds(objects: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in objects.items() if name != "iscrowd"}


def mask_fingerprint(dataset: Dataset) -> str:
    """Hash the files of a data set's masks, in order; an empty text for a data set that cannot have any.

    Args:
        dataset: a data set with the reader's columns, images and masks undecoded.

    Returns:
        16 hexadecimal digits.
    """
    if "mask" not in dataset.features:
        return ""
    digest = hashlib.sha256()
    for row in dataset.select_columns(["image_id", "mask"]):
        mask = row["mask"] or {}
        content = mask.get("bytes") or (Path(mask["path"]).read_bytes() if mask.get("path") else b"")
        digest.update(row["image_id"].encode() + b"\t" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def _file_size(path: str | None) -> int | None:
    return Path(path).stat().st_size if path and Path(path).is_file() else None
