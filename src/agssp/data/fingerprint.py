"""A short text that tells whether two data sets hold the same rows, on any machine."""

import hashlib
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset

from agssp.data.bit_depth import configured_bit_depth
from agssp.data.content import content_hash
from agssp.data.encoded import file_size


def dataset_fingerprint(dataset: Dataset | Any, source: str = "") -> str:
    """Hash the ids, categories, normal flags and file sizes of a data set's rows, in order.

    Pixels are not read, and paths do not count, so moving a folder, or putting its files into Parquet, leaves the
    fingerprint as it is. A bit depth set in the environment counts: with it the same files are other images.

    Args:
        dataset: a data set with the reader's columns; a streamed one is told apart by `source` and its features alone.
        source: what the data set was read from; used for streamed ones.

    Returns:
        16 hexadecimal digits.

    Raises:
        StorageError: files cannot be looked at now; without their sizes these would seem to be other images.
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
            if size is None and path:
                size = file_size(path, image_id)
            digest.update(f"{image_id}\t{name}\t{is_normal}\t{size}\n".encode())
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
        content = mask.get("bytes") or mask.get("path") or b""
        digest.update(row["image_id"].encode() + b"\t" + bytes.fromhex(content_hash(content)))
    return digest.hexdigest()[:16]
