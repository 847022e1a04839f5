"""Which images a backbone is pretrained on, and which are held out: by rows, or by ids where they come as a stream."""

import logging
from pathlib import Path

from datasets import Dataset, IterableDataset

from agssp.data.readers import NamedRows, reading
from agssp.data.splits import split_rows
from agssp.data.training_sets import (
    MapColumn,
    MapSource,
    PretrainingImages,
    PretrainingStream,
    is_held_out,
    map_of,
    rows_with_map,
)
from agssp.data.transforms import PretrainingAugmentation
from agssp.errors import InputError
from agssp.maps.store import MapStore

logger = logging.getLogger(__name__)

STREAM_HEAD = 2000  # rows at the start of a stream among which the held-out ones are measured


def choose_maps(dataset: Dataset | IterableDataset, maps: str | None, source: str) -> MapStore | MapColumn:
    """The maps to distil: a store's, or those that came with the data set.

    Args:
        dataset: rows of the schema.
        maps: folder of the store; None: the data set's own column.
        source: what the user called the data set.

    Raises:
        InputError: there is no such store, or no such column either.
    """
    if maps is not None:
        return MapStore.open(maps)
    if "anomaly_map" not in (dataset.features or {}):
        raise InputError(
            f"--maps: distillation needs anomaly maps, and {source} has no column `anomaly_map`; make a store with "
            "`agssp anomaly-maps`, or --no-distillation"
        )
    return MapColumn()


def with_maps(dataset: Dataset, store: MapSource, maps: str | None, source: str) -> Dataset:
    """The rows that have a map; all where none is wanted.

    Args:
        dataset: rows of the schema.
        store: anomaly maps.
        maps: what the user called the store, for messages.
        source: what the user called the data set.

    Raises:
        InputError: none has.
    """
    if store is None:
        return dataset
    ids, rows = dataset["image_id"], rows_with_map(dataset, store)
    if not rows and not isinstance(store, MapStore):
        raise InputError(f"{source}: its column `anomaly_map` is empty; give --maps, or --no-distillation")
    if not rows and isinstance(store, MapStore):
        first = store.table()["image_id"][0].as_py() if len(store) else "none"
        raise InputError(
            f"--maps {maps}: none of its {len(store)} maps belongs to the {len(ids)} images of {source}; ids there "
            f"look like {first!r}, here like {ids[0]!r}. Give the data set the maps were made of"
        )
    if len(rows) < len(ids):
        logger.info(f"{len(ids) - len(rows)} of {len(ids)} images have no map and are left out")
    return dataset.select(rows)


def divide_rows(
    dataset: Dataset, store: MapSource, transform: PretrainingAugmentation, seed: int, *, share: float
) -> tuple[PretrainingImages, PretrainingImages | None]:
    """Training images, and the held-out share of each category without augmentation; None where it is 0.

    Args:
        dataset: rows of the schema.
        store: their maps.
        transform: augmentation.
        seed: of the choice and the augmentation.
        share: 0..1.
    """
    if share <= 0:
        return PretrainingImages(dataset, store, transform, seed), None
    rows, kept = split_rows(dataset["image_id"], [[label] for label in dataset["category"]], share, seed)
    held_out = PretrainingImages(dataset.select(kept), store, transform, seed, evaluation=True)
    return PretrainingImages(dataset.select(rows), store, transform, seed), held_out


def divide_stream(
    dataset: IterableDataset,
    store: MapSource,
    transform: PretrainingAugmentation,
    seed: int,
    *,
    source: str,
    share: float,
    buffer_size: int,
    rank: int,
    world_size: int,
    skipped_file: Path,
) -> tuple[PretrainingStream, PretrainingImages | None]:
    """The stream without its held-out share, and the held-out ones near its start; None where there are none.

    Args:
        dataset: streamed rows of the schema.
        store: their maps.
        transform: augmentation.
        seed: of the order and the augmentation.
        source: what faults of the stream are to name.
        share: 0..1.
        buffer_size: rows among which the order is shuffled.
        rank: of this process.
        world_size: number of processes; each sees other rows.
        skipped_file: where images that cannot be read are listed.
    """
    # Row groups in place of files: a reader keeps all that it has fetched until it is through with its shard.
    with reading(source):
        dataset = dataset.reshard()
    stream = PretrainingStream(
        dataset,
        store,
        transform,
        seed,
        source=source,
        buffer_size=buffer_size,
        rank=rank,
        world_size=world_size,
        held_out=share,
        skipped_file=skipped_file,
    )
    if share <= 0:
        return stream, None
    head = NamedRows(dataset.take(STREAM_HEAD), source)
    mapped = (row for row in head if store is None or map_of(row, store) is not None)
    found = [row for row in mapped if is_held_out(row["image_id"], share)]
    if not found:
        return stream, None
    rows = Dataset.from_list(found, features=dataset.features)
    return stream, PretrainingImages(rows, store, transform, seed, evaluation=True)
