"""Joins images with their maps and boxes into the rows that are published, and writes them as Parquet shards."""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Array2D, Features, Image, Value
from datasets.features.features import Array2DExtensionType

from agssp.boxes.store import pseudo_objects, read_boxes
from agssp.data.image_metadata import without_metadata
from agssp.data.images import ImageError, checked_content, decode_image
from agssp.data.labels import crowds_of
from agssp.data.mask_reading import MaskReading
from agssp.data.masks import named_masks
from agssp.data.schema import PSEUDO_CLASS, category_names, defect_names, features
from agssp.errors import InputError
from agssp.maps.store import MapStore

from .image_ids import published_id
from .paths import is_machine_path

ROW_GROUP = 64
"""Rows that are held in memory, and that a stream reads at once."""


@dataclass
class Split:
    """One split of what is published.

    Attributes:
        name: `train`, `test`, ...
        dataset: rows in the reader's schema.
        has_maps: whether its images have maps; no image of it has one otherwise.
        left_out: ids of images that the map store could not read either, with the reason.
    """

    name: str
    dataset: Any
    has_maps: bool = False
    left_out: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.dataset) - len(self.left_out)


class Rows:
    """All splits of a data set with what belongs to each image.

    Args:
        datasets: split -> data set in the reader's schema, all with the same class labels.
        maps: map store to join, or None; a data set that brings its maps along keeps them.
        boxes: output of `agssp pseudo-boxes` to join as `objects`, or None.
        ids: by which names images are published, of `image_ids.IDS`; maps and boxes are joined by their own.
        keep_exif: publish what image files tell of camera, place and people; else it is taken out of them.

    Attributes:
        metadata: how many images and masks lost something, and how many lost what; filled as rows are read.

    Raises:
        InputError: maps or boxes are missing for some images, are of other images, labels would be replaced, or an
            image's name is an absolute path and would be published.
    """

    def __init__(
        self,
        datasets: dict[str, Any],
        maps: str | Path | None = None,
        boxes: str | Path | None = None,
        *,
        ids: str = "path",
        keep_exif: bool = False,
    ):
        self.ids, self.keep_exif = ids, keep_exif
        self.metadata: Counter[str] = Counter()
        self.splits = {name: Split(name, dataset) for name, dataset in datasets.items()}
        first = next(iter(datasets.values()))
        self.categories = category_names(first)
        present = {column for dataset in datasets.values() for column in dataset.features}
        self.store = MapStore.open(maps) if maps is not None else None
        self.boxes = read_boxes(boxes) if boxes is not None else None
        self.defect_types = next((names for names in map(defect_names, datasets.values()) if names), None)
        if self.boxes is not None:
            if self.defect_types:
                raise InputError(
                    f"--boxes {boxes}: the images have labels already ({', '.join(self.defect_types)}), which pseudo "
                    "boxes would replace. Leave --boxes out to publish the labels; `agssp pretrain-detector --boxes` "
                    "takes the pseudo boxes from this machine. Or push a folder of the images alone with them"
                )
            self.defect_types = [PSEUDO_CLASS]
        self.has_masks = "mask" in present
        self.mask_reading = self._mask_reading() if self.has_masks else None
        self.grid_size = self._grid_size()
        for split in self.splits.values():
            self._join(split, maps, boxes)
        if self.store is not None and not any(split.has_maps for split in self.splits.values()):
            raise InputError(f"--maps {maps}: holds no map of these images; it was made of {self._source()}")

    @property
    def features(self) -> Features:
        """Columns of the published rows; images decode themselves."""
        columns = dict(features(self.categories, self.defect_types, mask=self.has_masks))
        columns["image"] = Image()
        if self.has_masks:
            columns["mask"] = Image()
        if self.grid_size is not None:
            size = (self.grid_size, self.grid_size)
            columns |= {"anomaly_map": Array2D(size, "float16"), "anomaly_score": Value("float32")}
            columns["map_max"] = Value("float32")
        return Features(columns)

    def of(self, split: Split) -> Iterator[dict[str, Any]]:
        """Rows of a split, with the bytes of their images.

        Raises:
            InputError: an image cannot be decoded, and no map store has left it out.
        StorageError: the machine failed.
        """
        scores = self._scores() if self.store is not None and split.has_maps else {}
        for row in split.dataset:
            image_id = row["image_id"]
            if image_id in split.left_out:
                continue
            columns = {name: row.get(name) for name in self.features}
            columns["image_id"] = published_id(image_id, self.ids)
            columns["image"] = self._content(row["image"], image_id, split, "images", columns["image_id"])
            if columns.get("mask") is not None:
                name = f"the mask of {image_id}"
                columns["mask"] = self._content(row["mask"], name, split, "masks", columns["image_id"])
            if self.store is not None and split.has_maps:
                columns["anomaly_map"] = self.store[image_id]
                columns["anomaly_score"], columns["map_max"] = scores[image_id]
            if self.boxes is not None and image_id in self.boxes:
                bbox, score = self.boxes[image_id]
                columns["objects"] = pseudo_objects(bbox, score)
            yield columns

    def _mask_reading(self) -> MaskReading:
        with_masks = (split.dataset for split in self.splits.values() if "mask" in split.dataset.features)
        rows = chain.from_iterable(dataset.select_columns(["image_id", "mask"]) for dataset in with_masks)
        return MaskReading.of(named_masks(rows), "the masks")

    def _grid_size(self) -> int | None:
        if self.store is not None:
            return self.store.grid_size
        sizes = {
            split.dataset.features["anomaly_map"].shape[0]
            for split in self.splits.values()
            if isinstance(split.dataset.features.get("anomaly_map"), Array2D)
        }
        if len(sizes) > 1:
            raise InputError(f"anomaly maps of {len(sizes)} sizes in the splits; one data set has maps of one teacher")
        return next(iter(sizes), None)

    def _join(self, split: Split, maps: Any, boxes: Any) -> None:
        ids = split.dataset["image_id"][:]
        absolute = next((name for name in ids if is_machine_path(name)), None) if self.ids == "path" else None
        if absolute is not None:
            raise InputError(
                f"split {split.name}: the image {absolute} is named by a path of this machine, which would go out; "
                "give --ids hash, or relative paths in the file that lists the images"
            )
        if self.store is None:
            split.has_maps = "anomaly_map" in split.dataset.features
        else:
            skipped = {entry["image_id"]: entry["reason"] for entry in self.store.skipped()}
            split.left_out = {name: skipped[name] for name in ids if name in skipped}
            without = [name for name in ids if name not in self.store and name not in skipped]
            split.has_maps = len(without) < len(ids)
            if split.has_maps and without:
                raise InputError(
                    f"--maps {maps}: has no map of {len(without)} of {len(ids)} images of the split {split.name}, "
                    f"first {without[0]}; finish the store with the flags of `agssp anomaly-maps` that began it "
                    f"(made of {self._source()})"
                )
        if self.boxes is not None:
            without = [name for name in ids if name not in self.boxes and name not in split.left_out]
            # As with maps, a split may have none at all: pseudo boxes are made of the images to pretrain on.
            if without and len(without) < len(ids):
                raise InputError(
                    f"--boxes {boxes}: has no row of {len(without)} of {len(ids)} images of the split {split.name}, "
                    f"first {without[0]}; make the boxes from the maps of these images"
                )

    def _source(self) -> str:
        return str((self.store.manifest.get("source") or {}).get("dataset", "other images")) if self.store else ""

    def _scores(self) -> dict[str, tuple[float, float]]:
        table = self.store.table() if self.store else pa.table({})
        columns = (table[name].to_pylist() for name in ("image_id", "anomaly_score", "map_max"))
        return {image_id: (score, highest) for image_id, score, highest in zip(*columns, strict=True)}

    def _content(self, value: Any, name: str, split: Split, part: str, published: str) -> dict[str, Any]:
        try:
            # A map proves nothing: it may have been drawn of another image of this id.
            content = checked_content(value, name)
        except ImageError as error:
            raise InputError(
                f"{name} (split {split.name}): cannot be read, so it cannot be published: {error}; take it out, or "
                "give --maps of a store that skipped it"
            ) from error
        if not self.keep_exif:
            content, dropped = without_metadata(content, f"{name} (split {split.name})")
            self.metadata.update([part, *sorted(dropped)] if dropped else [])
        # The name of the file alone: where it lay is nobody's business.
        file = Path(value.get("path") or "image")
        return {"bytes": content, "path": published + file.suffix if self.ids == "hash" else file.name}


@dataclass
class Counts:
    """What a split holds, counted while it is written."""

    images: int = 0
    normal: int = 0
    defective: int = 0
    boxes: int = 0
    crowds: int = 0
    masks: int = 0
    maps: int = 0
    categories: Counter[int] = field(default_factory=Counter)

    def add(self, row: dict[str, Any]) -> None:
        """Count one row."""
        self.images += 1
        self.normal += row["is_normal"] is True
        self.defective += row["is_normal"] is False
        iscrowd = crowds_of(row.get("objects") or {"bbox": []})
        self.boxes += int((~iscrowd).sum())
        self.crowds += int(iscrowd.sum())
        self.masks += row.get("mask") is not None
        self.maps += row.get("anomaly_map") is not None
        self.categories[row["category"]] += 1


def shard_counts(length: int, shard_images: int) -> list[int]:
    """How many rows each shard of a split gets: near equal, and enough shards for a few processes to share a stream."""
    count = max(-(-length // shard_images), min(8, length // ROW_GROUP), 1)
    return [length // count + (index < length % count) for index in range(count)]


def write_shard(path: Path, rows: Iterable[dict[str, Any]], published: Features) -> str:
    """Write rows as Parquet; the same rows give the same bytes.

    Args:
        path: of the file.
        rows: as `Rows.of` gives them; `ROW_GROUP` of them are held in memory.
        published: their columns.

    Returns:
        Sha256 of the file.
    """
    schema = published.arrow_schema
    with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
        group: list[dict[str, Any]] = []
        for row in rows:
            group.append(row)
            if len(group) == ROW_GROUP:
                writer.write_table(_table(group, schema))
                group = []
        if group:
            writer.write_table(_table(group, schema))
    with path.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def _table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    columns = []
    for column in schema:
        values = [row[column.name] for row in rows]
        is_map = isinstance(column.type, Array2DExtensionType)
        columns.append(_map_array(values, column.type) if is_map else pa.array(values, column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _map_array(maps: Sequence[Any], kind: Array2DExtensionType) -> pa.Array:
    """Maps (g, g) as the column's type; None where an image has none."""
    absent = np.array([each is None for each in maps])
    if absent.all():
        return pa.ExtensionArray.from_storage(kind, pa.nulls(len(maps), kind.storage_type))
    values = np.asarray([each for each in maps if each is not None], dtype=np.float16)
    grid = values.shape[1]
    inner = pa.ListArray.from_arrays(np.arange(0, values.size + 1, grid, dtype=np.int32), values.reshape(-1))
    ends = np.concatenate([[0], np.cumsum(~absent * grid)]).astype(np.int32)
    outer = pa.ListArray.from_arrays(pa.array(ends), inner, mask=pa.array(absent))
    return pa.ExtensionArray.from_storage(kind, outer)


def example_picture(row: dict[str, Any]) -> bytes:
    """An image beside its map and its boxes, as JPEG."""
    from PIL import Image as Pictures

    from agssp.report.pictures import tile

    image = decode_image(row["image"], row["image_id"])
    tiles = [tile(image)]
    if row.get("anomaly_map") is not None:
        tiles.append(tile(image, anomaly_map=np.asarray(row["anomaly_map"])))
    objects = row.get("objects") or {"bbox": []}
    if objects["bbox"]:
        corners = np.array(objects["bbox"], np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        tiles.append(tile(image, boxes=corners, dashed=crowds_of(objects)))
    sheet = Pictures.new("RGB", (sum(each.width + 8 for each in tiles) - 8, tiles[0].height), "white")
    left = 0
    for each in tiles:
        sheet.paste(each, (left, 0))
        left += each.width + 8
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=88)
    return file.getvalue()
