"""Torch data sets for training whose augmentation is a function of seed, epoch and index alone.

So an interrupted run goes on exactly as it would have, with any number of workers and ranks.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node
from PIL import Image
from torch import Tensor

from agssp.data.images import ImageError, decode_image
from agssp.data.labels import crowds_of, paint_crowds
from agssp.data.letterbox import letterbox_geometry
from agssp.data.mosaic import DetectionTransform
from agssp.data.readers import NamedRows
from agssp.data.transforms import PretrainingAugmentation
from agssp.errors import InputError
from agssp.files import append_line
from agssp.parsing import read_lines

logger = logging.getLogger(__name__)

EMPTY_STREAM = "the stream has no image to train on: none can be read and has a map"
INTERLEAVED_SHARDS = 10
"""Shards that a process reads at a time, so that the rows of one do not come together; a row group of each is held."""
Boxes = Mapping[str, tuple[np.ndarray, np.ndarray]]


class Maps(Protocol):
    """Anomaly maps by image id, as `MapStore` gives them."""

    def __getitem__(self, image_id: str) -> np.ndarray:
        """(g, g) float16."""

    def __contains__(self, image_id: object) -> bool:
        """Whether there is a map of this image."""


@dataclass(frozen=True)
class MapColumn:
    """In place of maps by image id: each row brings its own, in this column of the data set."""

    name: str = "anomaly_map"


MapSource = Maps | MapColumn | None


def rows_with_map(dataset: Dataset, maps: Maps | MapColumn) -> list[int]:
    """Numbers of the rows that have an anomaly map."""
    if not isinstance(maps, MapColumn):
        return [row for row, image_id in enumerate(dataset["image_id"]) if image_id in maps]
    batches = dataset.select_columns([maps.name]).with_format("arrow").iter(batch_size=1000)
    there = [valid for batch in batches for valid in batch[maps.name].is_valid().to_pylist()]
    return [row for row, valid in enumerate(there) if valid]


def map_of(row: Mapping[str, Any], maps: MapSource) -> np.ndarray | None:
    """The anomaly map (g, g) float16 of a row, None where it has none or none is wanted."""
    if isinstance(maps, MapColumn):
        found = row[maps.name]
        return None if found is None else np.asarray(found, np.float16)
    return None if maps is None or row["image_id"] not in maps else maps[row["image_id"]]


def maps_in_order(dataset: Dataset, maps: MapSource) -> Iterator[np.ndarray | None]:
    """What `map_of` gives for each row of a data set, one after the other; no image is read."""
    columns = ["image_id", maps.name] if isinstance(maps, MapColumn) else ["image_id"]
    return (map_of(row, maps) for row in dataset.select_columns(columns))


class _Epoch:
    """The current epoch, which also reaches the workers of a DataLoader that keeps them from epoch to epoch."""

    def __init__(self) -> None:
        self._number = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch whose augmentation the items get."""
        return int(self._number)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation the items get."""
        self._number.fill_(int(epoch))


def item_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one item in one epoch."""
    return np.random.default_rng((seed, epoch, index))


class _Images(_Epoch, torch.utils.data.Dataset):
    """Rows whose images are decoded one by one; a bad one is listed and the next good one takes its place."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        super().__init__()
        if len(dataset) == 0:
            raise InputError("the data set has no images to train on")
        self.dataset, self.seed = dataset, seed
        # Shared, so that the main process can list what the workers of a DataLoader found to be bad.
        self._bad = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def skipped(self) -> dict[str, str]:
        """image_id -> reason, of the images that had to be left out so far, by any worker of this process."""
        rows = (self.dataset[position] for position in self._bad.nonzero()[:, 0].tolist())
        return {row["image_id"]: self._reason(row) for row in rows}

    def _reason(self, row: dict[str, Any]) -> str:
        try:
            decode_image(row["image"], row["image_id"])
        except ImageError as error:
            return str(error)
        return f"{row['image_id']}: was unreadable before, but is not now"

    def _good_row(self, index: int) -> tuple[int, dict[str, Any], Image.Image]:
        for offset in range(len(self.dataset)):
            position = (index + offset) % len(self.dataset)
            if self._bad[position]:
                continue
            row = self.dataset[position]
            try:
                return position, row, decode_image(row["image"], row["image_id"])
            except ImageError as error:
                self._bad[position] = True
                logger.warning("skipped: %s", error)
        reason = self._reason(self.dataset[0])
        raise InputError(f"none of the {len(self.dataset)} images can be used; the first: {reason}")


class PretrainingImages(_Images):
    """Images with their anomaly maps for backbone pretraining.

    Args:
        dataset: rows of the schema.
        maps: anomaly maps by image id, a `MapColumn` for the data set's own, or None.
        transform: augmentation.
        seed: of the augmentation.
        evaluation: without randomness, for held-out images.
    """

    def __init__(
        self,
        dataset: Dataset,
        maps: MapSource,
        transform: PretrainingAugmentation,
        seed: int = 0,
        *,
        evaluation: bool = False,
    ) -> None:
        super().__init__(dataset, seed)
        self.maps, self.transform, self.evaluation = maps, transform, evaluation
        if maps is not None:
            lacking = sorted({*range(len(dataset))} - {*rows_with_map(dataset, maps)})
            if len(lacking) == len(dataset):
                raise InputError(
                    f"none of the {len(dataset)} images has an anomaly map, not even {dataset[0]['image_id']!r}; "
                    "expected the maps that `agssp anomaly-maps` made from this data set"
                )
            self._bad[lacking] = True
            if lacking:
                first = dataset[lacking[0]]["image_id"]
                logger.warning("skipped: %d images have no anomaly map, the first is %s", len(lacking), first)

    def _reason(self, row: dict[str, Any]) -> str:
        if self.maps is not None and map_of(row, self.maps) is None:
            return f"{row['image_id']}: has no anomaly map"
        return super()._reason(row)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """`pixel_values`, `labels` (category index) and, with maps, `anomaly_maps`."""
        _, row, image = self._good_row(index)
        anomaly_map = map_of(row, self.maps)
        if self.evaluation:
            item = self.transform.evaluation(image, anomaly_map)
        else:
            item = self.transform(image, anomaly_map, item_generator(self.seed, self.epoch, index))
        return {**item, "labels": torch.tensor(row["category"])}


class PretrainingStream(_Epoch, torch.utils.data.IterableDataset):
    """The same from a streamed data set, over and over: no image is downloaded first, and none is kept.

    A stream has no length, and the parts of several processes need not be equally long. So it never ends: pass follows
    pass, each in another order, and whoever trains on it counts steps.

    Args:
        dataset: streamed rows of the schema.
        maps: anomaly maps by image id, a `MapColumn` for the rows' own, or None; rows without a map are passed over.
        transform: augmentation.
        seed: of the order and the augmentation.
        source: what faults of the stream are to name.
        buffer_size: rows among which the order is shuffled, divided among the workers of a DataLoader; they stay in
            memory, with their images encoded.
        rank: of this process.
        world_size: number of processes; each sees other rows.
        held_out: share of the rows that are left out, see `is_held_out`.
        passes: stop after so many; default: never.
        skipped_file: where images that cannot be read are listed, a JSON line each.
    """

    def __init__(
        self,
        dataset: IterableDataset,
        maps: MapSource,
        transform: PretrainingAugmentation,
        seed: int = 0,
        *,
        source: str = "the stream",
        buffer_size: int = 1000,
        rank: int = 0,
        world_size: int = 1,
        held_out: float = 0.0,
        passes: int | None = None,
        skipped_file: Path | None = None,
    ) -> None:
        super().__init__()
        if dataset.num_shards >= 10 * world_size:
            # By shards though one process may get one more: split by rows, each would fetch the others' rows as well.
            self.dataset = dataset.shard(world_size, rank, contiguous=False)
        else:
            self.dataset = split_dataset_by_node(dataset, rank=rank, world_size=world_size)
        self.maps, self.transform, self.seed, self.buffer_size = maps, transform, seed, buffer_size
        self.held_out, self.passes, self.skipped_file = held_out, passes, skipped_file
        self.source = source

    @property
    def skipped(self) -> dict[str, str]:
        """image_id -> reason, of the images that had to be left out so far, by any worker of any process."""
        if self.skipped_file is None:
            return {}
        return {line["image_id"]: line["reason"] for line in read_lines(self.skipped_file)}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        first = self.epoch
        for number in count(first) if self.passes is None else range(first, first + self.passes):
            found = False
            for item in self._one_pass(number):
                found = True
                yield item
            if not found:
                worker = torch.utils.data.get_worker_info()
                if worker is None or worker.num_workers == 1:
                    raise InputError(EMPTY_STREAM)
                return  # this worker's shards have none; others may

    def _one_pass(self, number: int) -> Iterator[dict[str, Tensor]]:
        # Shuffled anew rather than told its epoch, which datasets would share between workers that are at other passes.
        # datasets' own iterator divides its shards among the workers of a DataLoader.
        worker = torch.utils.data.get_worker_info()
        workers = worker.num_workers if worker else 1
        shuffled = self.dataset.shuffle(
            seed=self.seed + number,
            buffer_size=max(self.buffer_size // workers, 1),
            max_buffer_input_shards=max(INTERLEAVED_SHARDS // workers, 1),
        )
        for row in NamedRows(shuffled, self.source):
            anomaly_map = map_of(row, self.maps)
            lacks_map = self.maps is not None and anomaly_map is None
            if lacks_map or is_held_out(row["image_id"], self.held_out):
                continue
            try:
                image = decode_image(row["image"], row["image_id"])
            except ImageError as error:
                self._skip(row["image_id"], str(error))
                continue
            item = self.transform(image, anomaly_map, item_generator(self.seed, number, _hash(row["image_id"])))
            yield {**item, "labels": torch.tensor(row["category"])}

    def _skip(self, image_id: str, reason: str) -> None:
        logger.warning("skipped: %s", reason)
        if self.skipped_file is not None:
            # Appended line by line: the workers have no other way to tell the main process.
            with self.skipped_file.open("a", encoding="utf-8") as file:
                append_line(file, {"image_id": image_id, "reason": reason})


def is_held_out(image_id: str, share: float) -> bool:
    """Whether an image belongs to the held-out share (0..1) of a stream: by its id, so the same on every process."""
    return _hash(image_id) < share * 2**48


def _hash(image_id: str) -> int:
    return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:6], "big")


class DetectionImages(_Images):
    """Images with boxes for detectors.

    Crowd regions are no labels. In training they are painted over, since no detector's loss can leave a place out;
    images that have nothing else should not be given (`agssp.data.labels.without_crowds_alone`).

    Args:
        dataset: rows of the schema; `objects` gives the labels unless `boxes` does.
        boxes: pseudo boxes by image id: COCO xywh px (n, 4) and scores (n,), all of class 0; images without stay in.
        transform: augmentation.
        seed: of the augmentation.
        epochs: length of the run, so that the last `closing_epochs` see single images instead of mosaics.
        closing_epochs: how many epochs at the end.
        evaluation: letterboxed images without randomness, with `image_index` and `orig_size`.
        cache_bytes: keep decoded images in memory up to this size, divided among the workers of a DataLoader.
    """

    def __init__(
        self,
        dataset: Dataset,
        boxes: Boxes | None,
        transform: DetectionTransform,
        seed: int = 0,
        *,
        epochs: float = 0,
        closing_epochs: int = 10,
        evaluation: bool = False,
        cache_bytes: int = 500_000_000,
    ) -> None:
        super().__init__(dataset, seed)
        if boxes is None and "objects" not in dataset.features:
            raise InputError("the data set has no `objects`: it needs labels, or boxes from `agssp pseudo-boxes`")
        self.boxes, self.transform, self.evaluation = boxes, transform, evaluation
        self.first_closing_epoch = max(0, int(epochs) - closing_epochs) if epochs else None
        self._cache: dict[int, dict[str, Any]] = {}
        self._cache_bytes, self._room = cache_bytes, -1

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`pixel_values` and `labels`; in evaluation also `image_index` and `orig_size` (H, W).

        `image_index` is the row of the image that is really shown: metrics that count each index once do not count the
        stand-in of a bad image twice.
        """
        if self.evaluation:
            sample = self.sample(index)
            item = self.transform.evaluation(sample)
            return {**item, "image_index": sample["image_index"], "orig_size": sample["orig_size"]}
        generator = item_generator(self.seed, self.epoch, index)
        closing = self.first_closing_epoch is not None and self.epoch >= self.first_closing_epoch
        with_mosaic = not closing and generator.random() < self.transform.mosaic
        others = generator.integers(len(self), size=3).tolist() if with_mosaic else []
        return self.transform([self.sample(position) for position in (index, *others)], generator)

    def sample(self, index: int) -> dict[str, Any]:
        """Image (its long side at most the input's), boxes xyxy px on it, labels, `image_index`, `orig_size` (H, W)."""
        if index in self._cache:
            return self._cache[index]
        position, row, image = self._good_row(index)
        pixels = np.asarray(image)
        original = pixels.shape[:2]
        boxes, class_labels, iscrowd = self._labels(row)
        if max(original) > self.transform.size:
            # As the detector's letterbox does it, so that training sees the pixels that prediction will see.
            height, width = letterbox_geometry(original, (self.transform.size, self.transform.size)).resized
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
            boxes *= np.array([width / original[1], height / original[0]] * 2, np.float32)
        if iscrowd.any():
            crowds, boxes, class_labels = boxes[iscrowd], boxes[~iscrowd], class_labels[~iscrowd]
            if not self.evaluation:
                pixels = paint_crowds(pixels, crowds, boxes)
        sample: dict[str, Any] = {"image": pixels, "boxes": boxes, "class_labels": class_labels}
        sample |= {"image_index": position, "orig_size": original}
        if self._room < 0:
            worker = torch.utils.data.get_worker_info()
            self._room = self._cache_bytes // (worker.num_workers if worker else 1)
        if pixels.nbytes <= self._room:
            self._room -= pixels.nbytes
            self._cache[index] = sample
        return sample

    def targets(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels of one row on the original image, without decoding it.

        Returns:
            Boxes (n, 4) xyxy px, classes (n,), and bool (n,), whether a box is a crowd region.
        """
        return self._labels(self.dataset[index])

    def _labels(self, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.boxes is not None:
            bbox = self.boxes[row["image_id"]][0] if row["image_id"] in self.boxes else np.zeros((0, 4))
            classes: Sequence[int] = [0] * len(bbox)
            iscrowd = np.zeros(len(bbox), bool)
        else:
            objects = row["objects"] or {"bbox": [], "category": []}
            bbox, classes, iscrowd = objects["bbox"], objects["category"], crowds_of(objects)
        boxes = np.asarray(bbox, dtype=np.float32).reshape(-1, 4).copy()
        boxes[:, 2:] += boxes[:, :2]
        return boxes, np.asarray(classes, dtype=np.int64), iscrowd


def collate_pretraining(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack items of `PretrainingImages` or `PretrainingStream`."""
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


def collate_detection(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack images of `DetectionImages`; `labels` stays a list of dicts, as transformers' detectors take it."""
    batch: dict[str, Any] = {
        "pixel_values": torch.stack([item["pixel_values"] for item in items]),
        "labels": [item["labels"] for item in items],
    }
    if "image_index" in items[0]:
        batch["image_index"] = torch.tensor([item["image_index"] for item in items])
        batch["orig_size"] = torch.tensor([item["orig_size"] for item in items])
    return batch
