"""Data sets that are tables already (Parquet, `save_to_disk`, the Hub), brought to the schema."""

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    Value,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError

from agssp.data.readers.records import (
    SPLIT_FOLDERS,
    Box,
    ReadReport,
    check_names,
    clean_box,
    folder_category,
    list_files,
    logger,
    readable_size,
)
from agssp.data.schema import category_names, check_columns, check_schema, defect_names, objects_feature
from agssp.errors import InputError
from agssp.hub_ids import near_hint

SHARD_NAME = re.compile(r"([A-Za-z]\w*)-\d{5}-of-\d{5}")


def load_table(source: str, kind: str, split: str | None, streaming: bool) -> Any:
    """Open one split of a Parquet file or folder, a `save_to_disk` folder, or a Hub data set, as it is.

    Raises:
        InputError: it cannot be opened, has no such split, or has several and none is `train`.
    """
    try:
        if kind == "saved":
            loaded: Any = load_from_disk(source)
        elif kind == "parquet":
            files = parquet_splits(Path(source))
            # `datasets` opens those of all splits, too, but does not say which one is broken.
            for file in chain.from_iterable(files.values()):
                _check_footer(file)
            loaded = load_dataset("parquet", data_files=files, streaming=streaming)
        else:
            loaded = load_dataset(source, streaming=streaming)
    except InputError:
        raise
    except Exception as error:  # the Hub, the network, Parquet and `datasets` each have their own
        what = {"saved": "a save_to_disk folder", "parquet": "Parquet", "hub": "a data set of the Hub"}[kind]
        here = f", and no file or folder of this name is here{near_hint(source)}" if kind == "hub" else ""
        offline = isinstance(error, ConnectionError) and constants.HF_HUB_OFFLINE
        told = "HF_HUB_OFFLINE is set, so the Hub is not asked; unset it" if offline else _told(error)
        raise InputError(f"{source}: could not be read as {what}{here}: {told}") from error
    if isinstance(loaded, (DatasetDict, IterableDatasetDict)):
        available = list(loaded)
        chosen = split or ("train" if "train" in loaded else available[0])
        if chosen not in loaded or (split is None and chosen != "train" and len(available) > 1):
            raise InputError(f"{source}: has no split {chosen if split else 'train'!r}; it has {', '.join(available)}")
        if split is None and len(available) > 1:
            logger.warning("%s: reads its split %s of %s", source, chosen, ", ".join(available))
        loaded = loaded[chosen]
    elif split is not None:
        raise InputError(f"{source}: is a single table without splits, but split {split!r} was asked for")
    if streaming and isinstance(loaded, Dataset):
        return loaded.to_iterable_dataset(num_shards=min(8, len(loaded)))
    return loaded


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
    """Around what only reads a table that was opened before: say which one breaks off, as streams do.

    Args:
        source: as it was opened.

    Raises:
        InputError: for whatever pyarrow, the file system and the Hub's client raise.
    """
    try:
        yield
    except (pa.ArrowException, OSError, HTTPError) as error:
        # What pyarrow finds wrong in a page is an OSError without a number; the Hub's refusals have none either.
        damaged = isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)
        advice = "one of its files is damaged: write or fetch it again" if damaged else "run the same command to go on"
        raise InputError(f"{source}: reading it broke off ({_told(error)}); {advice}") from error


class NamedRows:
    """Rows whose faults name the data set that they come from, see `reading`; can be gone through again and again.

    Args:
        rows: any that can be gone through.
        source: as it was opened.
    """

    def __init__(self, rows: Iterable[dict[str, Any]], source: str) -> None:
        self.rows, self.source = rows, source

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with reading(self.source):
            yield from self.rows


def _told(error: BaseException) -> str:
    """An error in words: what `datasets` found wrong, not that it did."""
    if isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _check_footer(file: str) -> None:
    try:
        pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{file}: cannot be opened ({error}); it must be there and readable") from error
        raise InputError(
            f"{file}: is not a whole Parquet file ({_told(error)}); fetch or write it again, or take it away"
        ) from error


def parquet_splits(source: Path) -> dict[str, list[str]]:
    """The files of each split of a Parquet file or folder, told by their names."""
    if source.is_file():
        return {"train": [str(source)]}
    splits: dict[str, list[str]] = {}
    for name in list_files(source):
        if name.endswith(".parquet"):
            # `test-00000-of-00004.parquet`, `test.parquet`, `test/any.parquet` belong to `test`, all else to `train`.
            stem = name.rsplit("/", 1)[-1].removesuffix(".parquet")
            shard = SHARD_NAME.fullmatch(stem)
            told = [part for part in (*name.split("/")[:-1], shard[1] if shard else stem) if part in SPLIT_FOLDERS]
            splits.setdefault(told[-1] if told else "train", []).append(str(source / name))
    return splits


def to_schema(
    dataset: Any,
    source: str,
    category: str | None,
    report: ReadReport,
    defect_types: Sequence[str] | None = None,
) -> Any:
    """Bring a table to the schema, without copying its images.

    Missing columns are made: `image_id` from the image's content (the same when streamed), `category` from the argument
    or the source's name, `is_normal` null, box scores 1. Text categories become class labels, but not when streamed,
    where their names would have to be known before the rows. Boxes are clipped to their image, whose size its header
    tells, and those without area are dropped, as are those of damaged images; when streamed without a line in the
    report. `objects` stays null where the boxes are not known, unless the image is said to be normal: then it has none.

    Raises:
        InputError: there is no `image`, or a column that cannot be brought to the schema.
    """
    if dataset.features is None:
        dataset = dataset._resolve_features()
    check_columns(dataset, ["image"], source)
    for column in ("image", "mask"):
        if column in dataset.features and dataset.features[column] != Image(decode=False):
            dataset = dataset.cast_column(column, Image(decode=False))
    if isinstance(dataset, IterableDataset):
        dataset = dataset.map(_fetched, features=dataset.features)
    if "image_id" not in dataset.features:
        dataset = with_column(dataset, "image_id", Value("string"), ["image"], _content_id)
    elif dataset.features["image_id"] != Value("string"):
        dataset = dataset.cast_column("image_id", Value("string"))
    if "is_normal" not in dataset.features:
        dataset = with_column(dataset, "is_normal", Value("bool"), ["image_id"], lambda row: None)
    dataset = _with_category(dataset, source, category)
    if "objects" in dataset.features:
        dataset = _with_objects(dataset, source, report, defect_types)
    check_schema(dataset, source=source)
    if isinstance(dataset, Dataset):
        ids = dataset["image_id"][:]
        if None in ids or len(set(ids)) != len(ids):
            twice = [name for name, count in Counter(ids).items() if count > 1 or name is None]
            raise InputError(f"{source}: `image_id` must be there and unique; not so {', '.join(map(repr, twice[:3]))}")
    return dataset


def with_column(dataset: Any, name: str, feature: Any, inputs: list[str], make: Callable[[dict[str, Any]], Any]) -> Any:
    """Add or replace a column made from others, leaving all other columns where they are."""
    if isinstance(dataset, IterableDataset):
        features = Features({**dataset.features, name: feature})
        return dataset.map(lambda row: {name: make(row)}, features=features)
    values = [make(row) for row in dataset.select_columns(inputs)]
    if name == "image_id":
        seen: Counter[str] = Counter()
        for index, value in enumerate(values):
            seen[value] += 1
            values[index] = value if seen[value] == 1 else f"{value}-{seen[value]}"
    return _with_values(dataset, name, feature, values)


def _with_values(dataset: Dataset, name: str, feature: Any, values: list[Any]) -> Dataset:
    if name in dataset.features:
        dataset = dataset.remove_columns(name)
    return dataset.add_column(name, values, feature=feature)


def _fetched(row: dict[str, Any]) -> dict[str, Any]:
    """Put the bytes of images that are only named by a remote address into the row."""
    columns = {}
    for column in ("image", "mask"):
        value = row.get(column)
        if value is not None and value.get("bytes") is None and "://" in (value.get("path") or ""):
            with fsspec.open(value["path"], "rb") as file:
                columns[column] = {"bytes": file.read(), "path": value["path"].rsplit("/", 1)[-1]}
    return columns


def _content_id(row: dict[str, Any]) -> str:
    image = row["image"] or {}
    path = image.get("path") or ""
    content = image.get("bytes")
    if content is None:
        content = Path(path).read_bytes() if Path(path).is_file() else path.encode()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{digest}-{Path(path).name}" if path else digest


def _with_category(dataset: Any, source: str, category: str | None) -> Any:
    current = dataset.features.get("category")
    if category is not None or current is None:
        name = category or folder_category(Path(source))
        return with_column(dataset, "category", ClassLabel(names=[name]), ["image_id"], lambda row: 0)
    if isinstance(current, ClassLabel):
        return dataset
    if isinstance(dataset, IterableDataset):
        raise InputError(
            f"{source}: `category` is {current}; a streamed data set needs a ClassLabel column, "
            "or give the category's name"
        )
    names = sorted({str(name) for name in dataset["category"]})
    index = {name: position for position, name in enumerate(names)}
    return with_column(
        dataset, "category", ClassLabel(names=names), ["category"], lambda row: index[str(row["category"])]
    )


def _with_objects(dataset: Any, source: str, report: ReadReport, defect_types: Sequence[str] | None) -> Any:
    feature = dataset.features["objects"]
    fields = getattr(feature, "feature", feature)
    if not isinstance(fields, dict) or "bbox" not in fields or "category" not in fields:
        raise InputError(f"{source}: `objects` must hold bbox (COCO xywh in px) and category, got {feature}")
    label = fields["category"] if feature is not fields else getattr(fields["category"], "feature", fields["category"])
    names = list(label.names) if isinstance(label, ClassLabel) else list(defect_types or [])
    streamed = isinstance(dataset, IterableDataset)
    if not names and label == Value("string") and not streamed:
        names = sorted({str(name) for row in dataset["objects"] for name in _parts(row)[1]})
    if not names:
        raise InputError(
            f"{source}: objects.category must be a ClassLabel with the names of the defects, got {fields['category']}"
        )
    wanted = objects_feature(names)
    if streamed:

        def make(row: dict[str, Any]) -> dict[str, Any] | None:
            where = f"{source}: {row['image_id']}"
            return _clean_objects(row["objects"], row["is_normal"], row["image"], names, where, ReadReport())

        return with_column(dataset, "objects", wanted, ["image_id", "objects", "is_normal", "image"], make)
    changed = {}
    for index, (image_id, objects, is_normal, image) in enumerate(_rows_with_images(dataset)):
        cleaned = _clean_objects(objects, is_normal, image, names, f"{source}: {image_id}", report)
        if cleaned != objects:
            changed[index] = cleaned
    if not changed and feature == wanted:
        # The common case, a table of our own: the column stays as it is.
        return dataset
    return _with_values(
        dataset, "objects", wanted, [changed.get(index, row) for index, row in enumerate(dataset["objects"])]
    )


def _rows_with_images(dataset: Dataset) -> Iterator[tuple[str, Any, Any, Any]]:
    """Id, objects, `is_normal` and image of each row, the image as a path or as a file in the table's own memory.

    Only what is read of that file is brought in from the disk: a header, not the whole data set.
    """
    columns = dataset.select_columns(["image_id", "objects", "is_normal", "image"]).with_format("arrow")
    for batch in columns.iter(batch_size=1000):
        told = (batch[name].to_pylist() for name in ("image_id", "objects", "is_normal"))
        for image_id, row, is_normal, image in zip(*told, batch["image"], strict=True):
            content = image["bytes"].as_buffer() if image.is_valid else None
            if content is not None:
                yield image_id, row, is_normal, pa.BufferReader(content) if content.size else b""
            else:
                yield image_id, row, is_normal, image["path"].as_py() if image.is_valid else None


def relabel(
    dataset: Any, source: str, categories: Sequence[str] | None = None, defect_types: Sequence[str] | None = None
) -> Any:
    """Bring the class labels of a data set in the schema to the asked lists of names.

    Raises:
        InputError: the data set has a category or class that is not in the list; near names are shown.
    """
    found = category_names(dataset)
    if categories is not None and list(categories) != found:
        check_names(found, categories, source, "category")
        index = [list(categories).index(name) for name in found]
        feature = ClassLabel(names=list(categories))
        dataset = with_column(dataset, "category", feature, ["category"], lambda row: index[row["category"]])
    found = defect_names(dataset)
    if defect_types is not None and found and list(defect_types) != found:
        check_names(found, defect_types, source)
        order = [list(defect_types).index(name) for name in found]

        def renumber(row: dict[str, Any]) -> dict[str, Any] | None:
            if row["objects"] is None:
                return None
            return {**row["objects"], "category": [order[label] for label in row["objects"]["category"]]}

        dataset = with_column(dataset, "objects", objects_feature(defect_types), ["objects"], renumber)
    return dataset


def _parts(objects: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Boxes, classes and scores of a row whose objects are a table of lists or a list of tables."""
    if objects is None:
        return [], [], []
    if isinstance(objects, list):
        objects = {key: [row.get(key) for row in objects] for key in ("bbox", "category", "score")}
    scores = objects.get("score") or []
    return objects["bbox"] or [], objects["category"] or [], [1.0 if score is None else score for score in scores]


def _clean_objects(
    objects: Any, is_normal: bool | None, image: Any, names: Sequence[str], where: str, report: ReadReport
) -> dict[str, list[Any]] | None:
    """Boxes of a row inside its image; None where nothing tells what is in it."""
    # Some writers of Parquet keep the fields of what is null.
    unknown = objects is None or (isinstance(objects, dict) and objects["bbox"] is None)
    if unknown and not is_normal:
        return None
    bboxes, classes, scores = _parts(objects)
    scores = scores or [1.0] * len(bboxes)
    numbers = all(bbox is not None and len(bbox) == 4 and None not in bbox for bbox in bboxes)
    if not numbers or not len(bboxes) == len(classes) == len(scores):
        raise InputError(f"{where}: expected as many classes and scores as boxes, and four numbers a box")
    size = readable_size(image, report, where) if bboxes else None
    boxes = []
    for index, (bbox, label, score) in enumerate(zip(bboxes, classes, scores, strict=True)):
        here = f"{where} box {index}"
        if isinstance(label, str):
            check_names([label], names, here)
        elif label not in range(len(names)):
            raise InputError(
                f"{here}: class id {label} is beyond the list of {len(names)} classes ({', '.join(names)})"
            )
        if size is not None:
            name = label if isinstance(label, str) else names[int(label)]
            box = clean_box(Box(tuple(bbox), name, score), *size, here, report)
            if box is not None:
                boxes.append(box)
    return {
        "bbox": [list(box.bbox) for box in boxes],
        "category": [list(names).index(box.defect_type) for box in boxes],
        "score": [box.score for box in boxes],
    }
