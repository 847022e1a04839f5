"""Draw anomaly maps shard by shard, on any number of processes, from a data set or a stream."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from agssp.data.content import content_hash
from agssp.data.images import ImageError, decode_image
from agssp.errors import InputError

ONLY_REFERENCE = (
    "is the only reference of its category, and the teacher reads no text; add a normal image or more shots"
)
# References of a stream are chosen from its first rows, which are held in memory for that.
STREAM_HEAD = 2000
STREAM_HINT = (
    f" in the first {STREAM_HEAD} rows of the stream, where alone references are looked for (shuffle the rows, "
    "leave out --streaming, or give --references FOLDER)"
)


@dataclass(frozen=True)
class Drawing:
    """How the work is cut, and which part of it is this process's.

    Attributes:
        shard_size: images a shard, the unit of work.
        batch_size: images a forward pass.
        max_pixels: larger images are skipped.
        workers: processes that decode images; 0 decodes in this one.
        rank: of this process.
        world_size: number of processes.
    """

    shard_size: int
    batch_size: int
    max_pixels: int
    workers: int = 0
    rank: int = 0
    world_size: int = 1


class RowImages:
    """Rows of a data set, decoded and brought to the teacher's input, for a DataLoader."""

    def __init__(self, dataset: Any, preprocess: Any, max_pixels: int) -> None:
        self.dataset, self.preprocess, self.max_pixels = dataset, preprocess, max_pixels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row; `pixel_values` is None and `reason` says why, when the image cannot be read."""
        return prepare(self.dataset[index], self.preprocess, self.max_pixels)


def prepare(row: dict[str, Any], preprocess: Any, max_pixels: int) -> dict[str, Any]:
    """Decode a row's image for the teacher; a bad one gets a `reason` instead of `pixel_values`."""
    facts = {key: row[key] for key in ("image_id", "category", "is_normal")}
    if row["category"] is None:
        return {**facts, "pixel_values": None, "reason": "has no object category; --category gives one to all images"}
    try:
        image = decode_image(row["image"], row["image_id"], max_pixels=max_pixels)
        content = content_hash(row["image"])
    except ImageError as error:
        return {**facts, "pixel_values": None, "reason": str(error)}
    facts |= {"width": image.width, "height": image.height, "sha256": content}
    return {**facts, "pixel_values": preprocess(image)}


def draw_shards(kead: Any, store: Any, dataset: Any, categories: list[str], drawing: Drawing) -> None:
    """Finish this process's shards, then help with whatever the others have not begun to write."""
    size, count = drawing.shard_size, -(-len(dataset) // drawing.shard_size)
    paths = [store.shard_path(index, count) for index in range(count)]
    images: Any = RowImages(dataset, kead.preprocess, drawing.max_pixels)

    def rows_of(index: int) -> range:
        return range(index * size, min((index + 1) * size, len(dataset)))

    pending = [index for index in range(count) if not store.is_done(paths[index])]
    # Kept maps are no part of the rate, or the time left would be far too short.
    kept = len(dataset) - sum(len(rows_of(index)) for index in pending)
    with tqdm(
        total=len(dataset), initial=kept, desc="anomaly maps", unit="image", disable=drawing.rank != 0
    ) as progress:
        mine = [index for index in pending if index % drawing.world_size == drawing.rank]
        others = [index for index in pending if index % drawing.world_size != drawing.rank]
        # The others' shards are taken from the end, so that two helpers seldom do the same work.
        for part in (mine, others[::-1]):
            for index in part:
                if store.is_done(paths[index]):
                    progress.update(len(rows_of(index)))
                    continue
                loader: DataLoader[Any] = DataLoader(
                    images,
                    batch_sampler=chunks(rows_of(index), drawing.batch_size),
                    num_workers=drawing.workers,
                    collate_fn=list,
                )
                before = progress.n
                finish_shard(kead, store, paths[index], loader, categories, progress)
                progress.update(before + len(rows_of(index)) - progress.n)


def draw_stream(kead: Any, store: Any, dataset: Any, categories: list[str], drawing: Drawing) -> None:
    """Finish this process's shards of a stream, then whatever the others have not written.

    Shard k is the rows k * shard_size onwards, in the stream's order. A second look at the stream is taken only where
    the first left something undone.
    """
    chosen = store.manifest["references"]["chosen"]

    def pass_over(shards: Any, end: int | None, title: str) -> int:
        """Draw those of the shards that are not done; how many shards the stream has."""
        count = 0
        with tqdm(desc=title, unit="image", disable=drawing.rank != 0) as progress:
            for index, rows in groupby(enumerate(dataset), key=lambda pair: pair[0] // drawing.shard_size):
                if index == end:
                    break
                count = index + 1
                path = store.shard_path(index, None)
                if index not in shards or store.is_done(path):
                    progress.update(sum(1 for _ in rows))
                    continue
                prepared = (prepare(row, kead.preprocess, drawing.max_pixels) for _, row in rows)
                served = (with_references(item, categories, chosen) for item in prepared)
                finish_shard(kead, store, path, batched(served, drawing.batch_size), categories, progress)
        return count

    # No stream has so many shards that this range would end before it.
    count = pass_over(range(drawing.rank, sys.maxsize, drawing.world_size), None, "anomaly maps")
    left = {index for index in range(count) if not store.is_done(store.shard_path(index, None))}
    if left:
        pass_over(left, max(left) + 1, "shards of other processes")


def with_references(item: dict[str, Any], categories: list[str], chosen: dict[str, Any]) -> dict[str, Any]:
    """Pass a row of a stream on.

    Raises:
        InputError: the store has references, but none of the row's category.
    """
    name = None if item["category"] is None else categories[item["category"]]
    if chosen and name is not None and name not in chosen:
        raise InputError(
            f"{item['image_id']}: is of the category {name!r}, which has no references: there is no image of it"
            f"{STREAM_HINT}; begin a new --output"
        )
    return item


def finish_shard(
    kead: Any, store: Any, path: Path, batches: Iterable[list[dict[str, Any]]], categories: list[str], progress: Any
) -> None:
    """Draw the maps of one shard and write it."""
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    maps: list[Any] = [np.zeros((0, kead.grid_size, kead.grid_size), np.float16)]
    for batch in batches:
        if store.is_done(path):
            return  # another process was at it too, and was faster
        for item in batch:
            if item["pixel_values"] is None or kead.teacher.has_text:
                continue
            if kead.is_only_reference(categories[item["category"]], item["sha256"]):
                item |= {"pixel_values": None, "reason": ONLY_REFERENCE}
        good = [item for item in batch if item["pixel_values"] is not None]
        skipped += [
            {"image_id": item["image_id"], "reason": item["reason"]} for item in batch if item["pixel_values"] is None
        ]
        if good:
            output = kead(
                torch.stack([item["pixel_values"] for item in good]),
                [categories[item["category"]] for item in good],
                [item["sha256"] for item in good],
            )
            drawn = output.anomaly_maps.cpu().numpy().astype(np.float16)
            for item, anomaly_map, score in zip(good, drawn, output.scores.tolist(), strict=True):
                if not np.isfinite(anomaly_map).all():
                    skipped.append({"image_id": item["image_id"], "reason": "its anomaly map is not finite"})
                    continue
                facts = {key: item[key] for key in ("image_id", "category", "is_normal", "width", "height")}
                rows.append({**facts, "anomaly_score": score, "map_max": float(anomaly_map.max())})
                maps.append(anomaly_map[None])
        progress.update(len(batch))
    store.write_shard(path, rows, np.concatenate(maps), skipped)


def chunks(rows: range, size: int) -> list[list[int]]:
    """Consecutive rows in lists of `size`, the last one shorter."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Consecutive items in lists of `size`, the last one shorter."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
