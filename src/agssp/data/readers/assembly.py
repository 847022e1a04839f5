"""How records become a data set: as Arrow arrays, without a Python object for each list in them."""

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo

from agssp.data.readers.box_columns import box_columns
from agssp.data.readers.label_columns import class_names
from agssp.data.readers.listing import IMAGE_SUFFIXES
from agssp.data.readers.records import Box, ImageRecord, check_names, class_order
from agssp.data.schema import features
from agssp.errors import InputError

PART = 1000
"""Records that are held at once."""


def to_dataset(
    records: Sequence[ImageRecord],
    boxes: Sequence[list[Box] | None],
    source: str,
    defect_types: Sequence[str] | None = None,
    part: int = PART,
) -> Dataset:
    """Bring records to the schema.

    Args:
        records: one an image; ids must be unique.
        boxes: of each record, as `settle_boxes` gives them; None where they are not known.
        source: names the data set in errors.
        defect_types: order of the box classes; default: the names that occur, sorted, be it on boxes that were dropped.
        part: how many records are held at once, which the result does not depend on.

    Returns:
        A data set with `image` (still encoded), `image_id`, `category`, `is_normal`, and `mask` and `objects` where any
        record has them; `objects` is null where they are not known.

    Raises:
        InputError: no records, two with one id, or a class that is not in `defect_types`.
    """
    if not records:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{source}: no images found; expected files with {suffixes}{_what_is_there(source)}")
    told = _columns_of(records, part)
    if len(np.unique(told.id_hashes)) < len(records) and len(set(told.ids.to_pylist())) < len(records):
        raise InputError(_same_ids(records, told.ids, source))
    categories = sorted(told.categories)
    category_index = {name: index for index, name in enumerate(categories)}
    renumbered = np.array([category_index[name] for name in told.categories], np.int64)

    names = None
    index: dict[str, int] = {}
    if told.has_labels:
        names = list(defect_types) if defect_types is not None else class_order(told.defect_types)
        for name, image_id in told.defect_types.items():
            check_names([name], names, f"{source}: {image_id}")
        index = {name: position for position, name in enumerate(names)}
    has_masks = told.masks.null_count < len(records)
    schema = features(categories, names, mask=has_masks)
    types_of = {field.name: field.type for field in schema.arrow_schema}
    columns: dict[str, Any] = {
        "image": files_array(told.paths, types_of["image"]),
        "image_id": told.ids,
        "category": pa.array(renumbered[np.asarray(told.category_numbers)], types_of["category"]),
        "is_normal": told.is_normal,
    }
    if has_masks:
        columns["mask"] = files_array(told.masks, types_of["mask"])
    if names is not None:
        normal = pc.fill_null(told.is_normal, False).to_numpy(zero_copy_only=False)
        columns["objects"] = objects_array(boxes, index, types_of["objects"], none=normal)
    # `Dataset.from_dict` would encode value by value in Python what is in the form of the schema already.
    table = pa.Table.from_pydict(columns, schema=schema.arrow_schema)
    return Dataset(table, info=DatasetInfo(features=schema), fingerprint=_fingerprint(table))


def _fingerprint(table: pa.Table) -> str:
    """What `datasets` calls its caches by: a hash of all rows, which by itself it makes of a copy of all of them."""
    found = hashlib.sha256(table.schema.serialize())
    for column in table.columns:
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                found.update(b"" if buffer is None else buffer)
    return found.hexdigest()[:16]


@dataclass
class _Columns:
    """What the records of a data set say, one by one.

    Attributes:
        paths: of the images, absolute.
        ids: of the images.
        id_hashes: (R,) Python's own hash of each id.
        masks: absolute paths; null where there is none.
        is_normal: null where nothing tells.
        categories: their names, and the number of each, in the order in which they come.
        category_numbers: the category of each record.
        has_labels: whether the labels of any record are known.
        defect_types: each class that a label has, and the last image with it.
    """

    paths: pa.Array
    ids: pa.Array
    id_hashes: np.ndarray
    masks: pa.Array
    is_normal: pa.Array
    categories: dict[str, int]
    category_numbers: array
    has_labels: bool
    defect_types: dict[str, str]


def _columns_of(records: Sequence[ImageRecord], part: int) -> _Columns:
    """What records say, of which so many are held at a time."""
    parts: dict[str, list[pa.Array]] = {"path": [], "image_id": [], "mask": [], "is_normal": []}
    categories: dict[str, int] = {}
    defect_types: dict[str, str] = {}
    numbers, hashes, has_labels = array("q"), array("q"), False
    for start in range(0, len(records), part):
        held = records[start : start + part]
        masks = [None if record.mask is None else _absolute(record.mask) for record in held]
        parts["path"].append(pa.array([_absolute(record.path) for record in held], pa.string()))
        parts["image_id"].append(pa.array([record.image_id for record in held], pa.string()))
        parts["mask"].append(pa.array(masks, pa.string()))
        parts["is_normal"].append(pa.array([record.is_normal for record in held], pa.bool_()))
        hashes.extend(hash(record.image_id) for record in held)
        for record in held:
            numbers.append(categories.setdefault(record.category, len(categories)))
            if record.labels is not None:
                has_labels = True
                defect_types |= dict.fromkeys(class_names(record.labels), record.image_id)
    paths, ids, masks, is_normal = (pa.concat_arrays(parts.pop(name)) for name in list(parts))
    return _Columns(paths, ids, np.asarray(hashes), masks, is_normal, categories, numbers, has_labels, defect_types)


def _absolute(path: Path | str) -> str:
    return str(path) if os.path.isabs(path) else str(Path(path).absolute())  # noqa: PTH117 (a text as often as a path)


def _same_ids(records: Sequence[ImageRecord], ids: pa.Array, source: str) -> str:
    """Says which id two images have, and where their labels stand."""
    seen: set[str] = set()
    twice = next(name for name in ids.to_pylist() if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    places = [record.labels[0].where for record in records if record.image_id == twice and record.labels]
    told = f" ({', '.join(places[:3])})" if places else ""
    return (
        f"{source}: two images have the id {twice!r}{told}; ids must be unique: where an image stands in several "
        "rows, put all of its boxes into one"
    )


def objects_array(
    rows: Sequence[list[Box] | None], index: Mapping[str, int], form: pa.StructType, none: np.ndarray | None = None
) -> pa.StructArray:
    """The `objects` of many rows: what `pa.array` makes of the `objects_of` each.

    Args:
        rows: the boxes of each of R images; null where a row is None.
        index: number of each class.
        form: the column's type in the schema.
        none: (R,) bool, which images have no boxes where nothing is known of them.
    """
    boxes = box_columns(rows)
    nulls = ~boxes.known if none is None else ~(boxes.known | none)
    numbers = np.array([index[name] for name in boxes.names], np.int64)
    values = {
        "bbox": pa.FixedSizeListArray.from_arrays(
            pa.array(boxes.bboxes.astype(np.float32).ravel()), type=form.field("bbox").type.value_type
        ),
        "category": numbers[boxes.classes],
        "score": boxes.scores.astype(np.float32),
        "iscrowd": boxes.crowds,
    }
    ends = pa.array(boxes.starts, pa.int32())
    lists = [
        pa.ListArray.from_arrays(ends, pa.array(values[field.name], field.type.value_type), type=field.type)
        for field in form
    ]
    return pa.StructArray.from_arrays(lists, type=form, mask=pa.array(nulls))


def files_array(paths: Sequence[str | None] | pa.Array, form: pa.StructType) -> pa.StructArray:
    """Image files as `datasets` keeps them, not read yet; null where a path is None.

    Args:
        paths: of the files, maybe as an Arrow array of texts.
        form: the type of a column of images.
    """
    names = paths if isinstance(paths, pa.Array) else pa.array(paths, pa.string())
    values = {"path": names, "bytes": pa.nulls(len(names), pa.binary())}
    return pa.StructArray.from_arrays([values[field.name] for field in form], type=form, mask=names.is_null())


def _what_is_there(source: str) -> str:
    """For the error that a folder has no images: how many files of which kinds lie in it, the most frequent first."""
    files = [path for path in Path(source).rglob("*") if path.is_file()] if Path(source).is_dir() else []
    if not files:
        return "; there is no file" if Path(source).is_dir() else ""
    kinds = Counter(path.suffix.lower() or "no ending" for path in files).most_common(3)
    return f"; there are {', '.join(f'{count} with {kind}' for kind, count in kinds)}"
