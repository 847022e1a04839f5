"""Bring the columns of a table or a stream to the schema."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Image, IterableDataset, LargeList, List, Value

from agssp.data.containment import TableFiles, named_place
from agssp.data.content import content_hash
from agssp.data.encoded import MAX_BYTES, ImageError
from agssp.data.readers.columns import with_column, with_constant, with_values
from agssp.data.readers.objects import LABEL_FIELDS
from agssp.data.readers.records import folder_category
from agssp.data.readers.report import ReadReport
from agssp.data.readers.streams import StreamedObjects, count_row
from agssp.data.readers.table_objects import count_rows, has_classes, has_numbers, settle_objects, stated_names
from agssp.data.schema import check_columns, check_schema, objects_feature
from agssp.errors import InputError


def to_schema(
    dataset: Any,
    source: str,
    category: str | None,
    report: ReadReport,
    defect_types: Sequence[str] | None = None,
    crowds: str = "auto",
    *,
    is_hub: bool = False,
) -> Any:
    """Bring a table to the schema, without copying its images.

    Missing columns are made: `image_id` from the image's content (the same when streamed), `category` from the argument
    or the source's name, `is_normal` null, box scores 1, no box a crowd. Text categories become class labels, but not
    when streamed, where their names would have to be known before the rows. `objects` may have any form that
    `labels_of` takes, and its boxes are settled as those of files are, see `settle_objects`, row by row when streamed,
    see `StreamedObjects`.

    Args:
        dataset: a `Dataset` or `IterableDataset`.
        source: names it in errors.
        category: the object category of all images.
        report: is filled with what was found, changed and left out; of a stream as its rows are read.
        defect_types: of a stream: names of the classes, where the column's type does not tell them.
        crowds: what boxes marked as crowds are, see `resolve_crowds`.
        is_hub: whether the source is a repository of the Hub.

    Raises:
        InputError: there is no `image`, a column that cannot be brought to the schema, or the table names an image
            that lies elsewhere than with it, see `agssp.data.containment`.
    """
    if dataset.features is None:
        dataset = dataset._resolve_features()
    if "image" not in dataset.features and "file_name" in dataset.features:
        raise InputError(
            f"{source}: names images by `file_name` and has no column `image`; write it as metadata.jsonl beside "
            "its images, or put them into it"
        )
    check_columns(dataset, ["image"], source)
    for column, feature in dataset.features.items():
        wanted = Image(decode=False) if column in ("image", "mask") else undecoded(feature)
        if feature != wanted:
            dataset = dataset.cast_column(column, wanted)
    others = sorted(name for name in dataset.features if name.lower() in LABEL_FIELDS - {"mask"})
    report.note_all("unread_fields", [f"column {name} of {source}" for name in others])
    streamed = isinstance(dataset, IterableDataset)
    files = TableFiles(source, is_hub=is_hub)
    if streamed or _names_files(dataset, files):
        dataset = dataset.map(partial(_fetched, files), features=dataset.features)
    report.note_all("outside_files", files.outside)
    if "image_id" not in dataset.features:
        dataset = with_column(dataset, "image_id", Value("string"), ["image"], _content_id)
        dataset = dataset if streamed else _numbered_apart(dataset)
    elif dataset.features["image_id"] != Value("string"):
        dataset = dataset.cast_column("image_id", Value("string"))
    if "is_normal" not in dataset.features:
        dataset = with_constant(dataset, "is_normal", Value("bool"), None)
    dataset = _with_category(dataset, source, category)
    if streamed:
        dataset = _counted_stream(dataset, source, report, defect_types, crowds)
    elif "objects" in dataset.features:
        dataset = settle_objects(dataset, source, report, crowds)
    check_schema(dataset, source=source)
    if not streamed:
        _check_ids(dataset, source)
        count_rows(dataset, report)
    return dataset


def undecoded(feature: Any) -> Any:
    """A column's type by which `datasets` hands out the files in it as they are, however deep they lie.

    It would open images, sound, film, PDF and others with whatever library reads them, as soon as a row is looked at.
    """
    if isinstance(feature, dict):
        return type(feature)({name: undecoded(part) for name, part in feature.items()})
    if isinstance(feature, (list, tuple)):
        return [undecoded(part) for part in feature]
    if isinstance(feature, (List, LargeList)):
        return dataclasses.replace(feature, feature=undecoded(feature.feature))
    return dataclasses.replace(feature, decode=False) if getattr(feature, "decode", False) is True else feature


def _counted_stream(
    dataset: IterableDataset, source: str, report: ReadReport, defect_types: Sequence[str] | None, crowds: str
) -> IterableDataset:
    if "objects" not in dataset.features:
        return dataset.map(partial(count_row, report), features=dataset.features)
    feature = dataset.features["objects"]
    names = stated_names(feature, source)
    numbered = False
    if names is None:
        if defect_types is None and has_classes(feature, source):
            raise InputError(
                f"{source}: the names of the classes in `objects` are not known before the rows are read ({feature}); "
                "read it without streaming, give the names, or make their field a ClassLabel"
            )
        names = list(defect_types or [])
        # Read as a whole, such a table calls its classes by their numbers, which a list of classes may be made of.
        numbered = has_numbers(feature, source) and all(name.isdecimal() for name in names)
    if crowds == "auto" and feature == objects_feature(names):
        # Of rows in the schema it was decided when they were made.
        crowds = "ignore"
    report.boxes |= dict.fromkeys(names, 0)
    make = StreamedObjects(source, names, numbered, crowds, report)
    return with_column(dataset, "objects", objects_feature(names), ["image_id", "objects", "is_normal", "image"], make)


def _check_ids(dataset: Dataset, source: str) -> None:
    ids = dataset["image_id"][:]
    if None in ids or len(set(ids)) != len(ids):
        twice = [name for name, count in Counter(ids).items() if count > 1 or name is None]
        raise InputError(f"{source}: `image_id` must be there and unique; not so {', '.join(map(repr, twice[:3]))}")


def _numbered_apart(dataset: Dataset) -> Dataset:
    """Ids of which the second and further of one name end with their number."""
    seen: Counter[str] = Counter()
    ids = []
    for value in dataset["image_id"][:]:
        seen[value] += 1
        ids.append(value if seen[value] == 1 else f"{value}-{seen[value]}")
    return with_values(dataset, "image_id", Value("string"), ids)


def _names_files(dataset: Dataset, files: TableFiles) -> bool:
    """Whether images are named by relative paths or addresses; all that are named must lie where the table may reach.

    Raises:
        InputError: one does not.
    """
    others = False
    for column in ("image", "mask"):
        if column not in dataset.features:
            continue
        for batch in dataset.select_columns([column]).with_format("arrow").iter(batch_size=1000):
            for chunk in batch[column].chunks:
                named = pc.and_(chunk.is_valid(), pc.struct_field(chunk, "bytes").is_null())
                for name in pc.struct_field(chunk, "path").filter(named).to_pylist():
                    others |= bool(name) and files.place(name) != name
    return others


def _fetched(files: TableFiles, row: dict[str, Any]) -> dict[str, Any]:
    """Put the places of images that are only named into the row, or the bytes of those at a remote address."""
    columns: dict[str, Any] = {}
    for column in ("image", "mask"):
        place = named_place(files, row.get(column))
        if place is not None and "://" in place:
            columns[column] = {"bytes": _fetch(place), "path": place.rsplit("/", 1)[-1]}
        elif place is not None:
            columns[column] = {"bytes": None, "path": place}
    return columns


def _fetch(address: str) -> bytes:
    with fsspec.open(address, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{address}: an image of more than {MAX_BYTES:,} bytes, which is the most that is read")
    return content


def _content_id(row: dict[str, Any]) -> str:
    image = row["image"] or {}
    path = image.get("path") or ""
    try:
        digest = content_hash(image if image.get("bytes") is not None or path else b"")[:16]
    except ImageError:  # missing, which is told where it is decoded
        digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    return f"{digest}-{Path(path).name}" if path else digest


def _with_category(dataset: Any, source: str, category: str | None) -> Any:
    current = dataset.features.get("category")
    if category is not None or current is None:
        name = category or folder_category(Path(source))
        return with_constant(dataset, "category", ClassLabel(names=[name]), 0)
    if isinstance(current, ClassLabel):
        return dataset
    if isinstance(dataset, IterableDataset):
        raise InputError(
            f"{source}: `category` is {current}; a streamed data set needs a ClassLabel column, "
            "or give the category's name"
        )
    found = [str(name) for name in dataset["category"][:]]
    names = sorted(set(found))
    index = {name: position for position, name in enumerate(names)}
    return with_values(dataset, "category", ClassLabel(names=names), [index[name] for name in found])
