"""How records become a data set: as Arrow arrays, without a Python object for each list in them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetInfo

from agssp.data.readers.listing import IMAGE_SUFFIXES
from agssp.data.readers.records import Box, ImageRecord, check_names, class_order
from agssp.data.schema import features
from agssp.errors import InputError


def to_dataset(
    records: Sequence[ImageRecord],
    boxes: Sequence[list[Box] | None],
    source: str,
    defect_types: Sequence[str] | None = None,
) -> Dataset:
    """Bring records to the schema.

    Args:
        records: one an image; ids must be unique.
        boxes: of each record, as `settle_boxes` gives them; None where they are not known.
        source: names the data set in errors.
        defect_types: order of the box classes; default: the names that occur, sorted, be it on boxes that were dropped.

    Returns:
        A data set with `image` (still encoded), `image_id`, `category`, `is_normal`, and `mask` and `objects` where any
        record has them; `objects` is null where they are not known.

    Raises:
        InputError: no records, two with one id, or a class that is not in `defect_types`.
    """
    if not records:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{source}: no images found; expected files with {suffixes}{_what_is_there(source)}")
    ids = [record.image_id for record in records]
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        places = [record.labels[0].where for record in records if record.image_id == twice and record.labels]
        told = f" ({', '.join(places[:3])})" if places else ""
        raise InputError(
            f"{source}: two images have the id {twice!r}{told}; ids must be unique: where an image stands in several "
            "rows, put all of its boxes into one"
        )
    categories = sorted({record.category for record in records})
    category_index = {name: index for index, name in enumerate(categories)}

    names = None
    index: dict[str, int] = {}
    if any(record.labels is not None for record in records):
        types = {label.defect_type: record.image_id for record in records for label in record.labels or []}
        names = list(defect_types) if defect_types is not None else class_order(types)
        for name, image_id in types.items():
            check_names([name], names, f"{source}: {image_id}")
        index = {name: position for position, name in enumerate(names)}
    has_masks = any(record.mask is not None for record in records)
    schema = features(categories, names, mask=has_masks)
    types_of = {field.name: field.type for field in schema.arrow_schema}
    columns: dict[str, Any] = {
        "image": files_array([str(record.path.absolute()) for record in records], types_of["image"]),
        "image_id": pa.array(ids, types_of["image_id"]),
        "category": pa.array([category_index[record.category] for record in records], types_of["category"]),
        "is_normal": pa.array([record.is_normal for record in records], types_of["is_normal"]),
    }
    if has_masks:
        files = [None if record.mask is None else str(record.mask.absolute()) for record in records]
        columns["mask"] = files_array(files, types_of["mask"])
    if names is not None:
        known = [[] if row is None and record.is_normal else row for record, row in zip(records, boxes, strict=True)]
        columns["objects"] = objects_array(known, index, types_of["objects"])
    # `Dataset.from_dict` would encode value by value in Python what is in the form of the schema already.
    return Dataset(pa.Table.from_pydict(columns, schema=schema.arrow_schema), info=DatasetInfo(features=schema))


def objects_array(
    rows: Sequence[Sequence[Box] | None], index: Mapping[str, int], form: pa.StructType
) -> pa.StructArray:
    """The `objects` of many rows: what `pa.array` makes of the `objects_of` each.

    Args:
        rows: the boxes of each image; null where a row is None.
        index: number of each class.
        form: the column's type in the schema.
    """
    boxes = [box for row in rows for box in row or ()]
    ends = np.cumsum([0, *(len(row or ()) for row in rows)], dtype=np.int32)
    nulls = pa.array([row is None for row in rows], pa.bool_())
    sides = np.fromiter(chain.from_iterable(box.bbox for box in boxes), np.float64, 4 * len(boxes))
    values = {
        "bbox": pa.FixedSizeListArray.from_arrays(
            pa.array(sides.astype(np.float32)), type=form.field("bbox").type.value_type
        ),
        "category": [index[box.defect_type] for box in boxes],
        "score": [box.score for box in boxes],
        "iscrowd": [box.iscrowd for box in boxes],
    }
    lists = [
        pa.ListArray.from_arrays(ends, pa.array(values[field.name], field.type.value_type), type=field.type)
        for field in form
    ]
    return pa.StructArray.from_arrays(lists, type=form, mask=nulls)


def files_array(paths: Sequence[str | None], form: pa.StructType) -> pa.StructArray:
    """Image files as `datasets` keeps them, not read yet; null where a path is None.

    Args:
        paths: of the files.
        form: the type of a column of images.
    """
    values = {"path": pa.array(paths, pa.string()), "bytes": pa.nulls(len(paths), pa.binary())}
    nulls = pa.array([path is None for path in paths], pa.bool_())
    return pa.StructArray.from_arrays([values[field.name] for field in form], type=form, mask=nulls)


def _what_is_there(source: str) -> str:
    """For the error that a folder has no images: how many files of which kinds lie in it, the most frequent first."""
    files = [path for path in Path(source).rglob("*") if path.is_file()] if Path(source).is_dir() else []
    if not files:
        return "; there is no file" if Path(source).is_dir() else ""
    kinds = Counter(path.suffix.lower() or "no ending" for path in files).most_common(3)
    return f"; there are {', '.join(f'{count} with {kind}' for kind, count in kinds)}"
