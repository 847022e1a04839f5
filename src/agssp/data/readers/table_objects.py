"""The `objects` column of a table, in whatever form it is, brought to the schema."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Value

from agssp.data.readers.columns import with_values
from agssp.data.readers.frames import read_frame
from agssp.data.readers.geometry import FRACTION_ROUNDING, Frame, StatedLabels, settle_boxes
from agssp.data.readers.objects import EXPECTED, class_key, labels_of
from agssp.data.readers.records import class_order, objects_or_null, stated_size
from agssp.data.readers.report import ReadReport
from agssp.data.schema import defect_names, objects_feature
from agssp.errors import InputError

BATCH = 1000
SIZE_COLUMNS = ("width", "height")


@dataclass
class FlatObjects:
    """The objects of consecutive rows as arrays over all R rows or all N boxes.

    Attributes:
        known: (R,) bool, whether anything is said of a row's boxes.
        counts: (R,) boxes of each row.
        rows: (N,) the row of each box.
        bboxes: (N, 4) float64, xywh.
        classes: (N,) number of the class.
        crowds: (N,) bool.
        scores: (N,) float.
    """

    known: np.ndarray
    counts: np.ndarray
    rows: np.ndarray
    bboxes: np.ndarray
    classes: np.ndarray
    crowds: np.ndarray
    scores: np.ndarray


def flat_objects(column: pa.ChunkedArray) -> FlatObjects | None:
    """The objects of rows of the schema as arrays; None where a box lacks a value or a row has more of one than others.

    Args:
        column: `objects`, in the schema's type.
    """
    known = pc.is_valid(column).to_numpy()
    fields = dict(zip((field.name for field in column.type), column.combine_chunks().flatten(), strict=True))
    counts = {name: pc.fill_null(pc.list_value_length(field), 0).to_numpy() for name, field in fields.items()}
    values = {name: pc.list_flatten(field) for name, field in fields.items()}
    numbers = pc.list_flatten(values["bbox"])
    halves = any((counts[name] != counts["bbox"]).any() for name in counts)
    # A row that is there, and its boxes null, is for the other way to look at.
    if halves or (pc.is_valid(fields["bbox"]).to_numpy(zero_copy_only=False) != known).any():
        return None
    if numbers.null_count or any(value.null_count for value in values.values()):
        return None
    return FlatObjects(
        known,
        counts["bbox"],
        np.repeat(np.arange(len(known)), counts["bbox"]),
        numbers.to_numpy().astype(np.float64).reshape(-1, 4),
        values["category"].to_numpy(),
        values["iscrowd"].to_numpy(zero_copy_only=False).astype(bool),
        values["score"].to_numpy(),
    )


def stated_names(feature: Any, source: str) -> list[str] | None:
    """Names of the classes that the type of an `objects` column tells; None where it tells none.

    Raises:
        InputError: it is no column of boxes.
    """
    label = _class_feature(feature, source)
    return list(label.names) if isinstance(label, ClassLabel) else None


def has_numbers(feature: Any, source: str) -> bool:
    """Whether an `objects` column has numbers for classes."""
    label = _class_feature(feature, source)
    return isinstance(label, Value) and any(kind in label.dtype for kind in ("int", "float"))


def has_classes(feature: Any, source: str) -> bool:
    """Whether an `objects` column has a class that is not null, as far as its type tells."""
    return _class_feature(feature, source) not in (None, Value("null"))


def _class_feature(feature: Any, source: str) -> Any:
    rows = getattr(feature, "feature", feature)
    if rows == Value("null"):
        return None
    key = class_key(rows) if isinstance(rows, dict) else None
    if key is None or "bbox" not in rows:
        raise InputError(f"{source}: {EXPECTED}; got a column of {feature}")
    return getattr(rows[key], "feature", rows[key]) if rows is feature else rows[key]


def settle_objects(dataset: Dataset, source: str, report: ReadReport, crowds: str) -> Dataset:
    """Bring the `objects` of a table to the schema, as `settle_boxes` does with the labels of files.

    Classes are those of a ClassLabel; else texts are names, sorted, and numbers are called by their number. Columns
    `width` and `height` are the size that the boxes are for. Null stays null where nothing is known, unless an image is
    said to be normal: then it has none. A column that has the schema's type and nothing to be put right stays as it is.

    Args:
        dataset: with `image`, `image_id`, `is_normal` and `objects`.
        source: names the data set in errors.
        report: gets a note of every change.
        crowds: what boxes marked as crowds are, see `resolve_crowds`.

    Raises:
        InputError: objects of another form; row and box are named.
    """
    feature = dataset.features["objects"]
    names = stated_names(feature, source)
    is_own = names is not None and feature == objects_feature(names)
    # What crowds are is told by all boxes together, so no row can be passed over.
    has_crowds = is_own and _has_crowds(dataset)
    may_pass = is_own and not has_crowds and crowds == "auto"
    if has_crowds and crowds == "auto":
        # Of rows in the schema it was decided before, be they a part in which every box is a crowd region.
        crowds = "ignore"
    rows, images, before = [], [], []
    for row, image, value in _rows_to_settle(dataset, source, names, may_pass, report):
        rows.append(row)
        images.append(image)
        if is_own:
            before.append(value)
    settled = settle_boxes(images, report, crowds)
    if names is None:
        names = class_order({label.defect_type for image in images for label in image.labels or ()})
    index, normal = {name: position for position, name in enumerate(names)}, dataset["is_normal"][:]
    after = [objects_or_null(boxes, normal[row], index) for row, boxes in zip(rows, settled, strict=True)]
    if is_own and after == before:
        return dataset
    column = dataset["objects"][:] if len(rows) < len(dataset) else [None] * len(dataset)
    for row, value in zip(rows, after, strict=True):
        column[row] = value
    return with_values(dataset, "objects", objects_feature(names), column)


def count_rows(dataset: Dataset, report: ReadReport) -> None:
    """Fill in the numbers of a report on a table of the schema."""
    names = defect_names(dataset)
    report.boxes |= dict.fromkeys(names, 0)
    columns = [name for name in ("is_normal", "objects") if name in dataset.features]
    if "mask" in dataset.features:
        masks = dataset.select_columns("mask").with_format("arrow").iter(10 * BATCH)
        report.with_mask = sum(len(batch) - batch["mask"].null_count for batch in masks)
    for batch in dataset.select_columns(columns).with_format("arrow").iter(10 * BATCH):
        flat = flat_objects(batch["objects"]) if "objects" in columns else None
        normal = np.array([bool(value) for value in batch["is_normal"].to_pylist()])
        defective = pc.is_valid(batch["is_normal"]).to_numpy() & ~normal
        with_boxes = np.zeros(len(normal), bool) if flat is None else flat.counts > 0
        known = np.zeros(len(normal), bool) if flat is None else flat.known
        report.images += len(normal)
        report.with_boxes += int(with_boxes.sum())
        report.sound += int((~with_boxes & ~defective & (known | normal)).sum())
        report.unknown += int((~with_boxes & ~defective & ~known & ~normal).sum())
        if flat is not None:
            report.crowds += int(flat.crowds.sum())
            for name, boxes in zip(names, np.bincount(flat.classes[~flat.crowds], minlength=len(names)), strict=True):
                report.boxes[name] += int(boxes)


def _rows_to_settle(
    dataset: Dataset, source: str, names: Sequence[str] | None, may_pass: bool, report: ReadReport
) -> Iterator[tuple[int, StatedLabels, Any]]:
    """Number, labels and value of the rows of a table that may have to be changed.

    Args:
        dataset: as in `settle_objects`.
        source: names the data set in errors.
        names: of the classes, where the column's type tells them.
        may_pass: whether rows with nothing to be put right may be passed over, as told by their values as arrays. One
            of them is given all the same, lest the others be judged as if they were the whole data set.
        report: gets a note of images that are damaged.
    """
    size_columns = SIZE_COLUMNS if set(SIZE_COLUMNS) <= set(dataset.features) else ()
    columns = dataset.select_columns(["image_id", "is_normal", "image", "objects", *size_columns])
    batches = columns.with_format("arrow").iter(BATCH)
    witnessed = False
    for start, batch in zip(count(0, BATCH), batches, strict=False):
        ids, objects = batch["image_id"].to_pylist(), batch["objects"]
        stated = [batch[name].to_pylist() for name in size_columns] or [[None] * len(ids)] * 2
        sizes = [stated_size(*size) for size in zip(*stated, strict=True)]
        frames: dict[int, Frame | None] = {}
        doubtful: Sequence[int] = range(len(ids))
        flat = flat_objects(objects) if may_pass else None
        if flat is not None:
            labelled = np.flatnonzero(flat.counts).tolist()
            frames = {row: read_frame(_image(batch, row), f"{source}: {ids[row]}", report) for row in labelled}
            passed = rows_to_pass(flat, frames, sizes, len(names or []))
            if not witnessed and passed.any():
                passed[np.flatnonzero(passed)[0]] = False
                witnessed = True
            _measure(flat, frames, passed, names or [], report)
            normal = np.array([bool(value) for value in batch["is_normal"].to_pylist()])
            doubtful = np.flatnonzero(np.where(flat.counts > 0, ~passed, ~flat.known & normal)).tolist()
        for row in doubtful:
            value, where = objects[row].as_py(), f"{source}: {ids[row]}"
            labels = labels_of(value, where, report, names)
            if labels and row not in frames:
                frames[row] = read_frame(_image(batch, row), where, report)
            yield start + row, StatedLabels(ids[row], labels, frames.get(row), sizes[row]), value


def rows_to_pass(
    flat: FlatObjects,
    frames: Mapping[int, Frame | None],
    sizes: Sequence[tuple[float, float] | None],
    class_count: int,
) -> np.ndarray:
    """Which rows have boxes in px, not fractions, with nothing to be put right.

    Args:
        flat: boxes of R rows.
        frames: of the images of the rows with boxes; None: cannot be opened.
        sizes: that are stated for each row.
        class_count: number of classes.

    Returns:
        (R,) bool.
    """
    upright = np.full((len(flat.counts), 2), np.nan)
    for row, frame in frames.items():
        if frame is not None and frame.orientation == 1 and sizes[row] in (None, frame.size):
            upright[row] = frame.size
    near, far = flat.bboxes[:, :2], flat.bboxes[:, :2] + flat.bboxes[:, 2:]
    good = (near >= 0).all(1) & (flat.bboxes[:, 2:] > 0).all(1) & (far <= upright[flat.rows]).all(1)
    good &= np.isfinite(flat.scores)
    good &= (flat.classes >= 0) & (flat.classes < class_count)
    values = np.column_stack([flat.rows, flat.classes, flat.bboxes])
    order = np.lexsort(values.T)
    repeated = (np.diff(values[order], axis=0) == 0).all(1)
    good[order[1:][repeated]] = False
    beyond = (far > 1 + FRACTION_ROUNDING).any(1)
    rows = len(flat.counts)
    return (np.bincount(flat.rows[~good], minlength=rows) == 0) & (np.bincount(flat.rows[beyond], minlength=rows) > 0)


def _measure(
    flat: FlatObjects, frames: Mapping[int, Frame | None], passed: np.ndarray, names: Sequence[str], report: ReadReport
) -> None:
    """Keep how large the boxes of rows that were passed over are beside their images, as `settle_boxes` does."""
    longer = np.ones(len(passed))
    for row, frame in frames.items():
        longer[row] = max(frame.size) if frame is not None else 1
    shares = flat.bboxes[:, 2:].min(1, initial=np.inf) / longer[flat.rows]
    for number in np.unique(flat.classes[passed[flat.rows]]).tolist():
        report.keep_shares(names[number], shares[passed[flat.rows] & (flat.classes == number)].tolist())


def _has_crowds(dataset: Dataset) -> bool:
    batches = dataset.select_columns("objects").with_format("arrow").iter(10 * BATCH)
    flags = (pc.list_flatten(pc.struct_field(batch["objects"], "iscrowd")) for batch in batches)
    return any(pc.any(each).as_py() for each in flags)


def _image(batch: pa.Table, row: int) -> Any:
    """The image of a row as a path, or as a file in the table's own memory.

    Only what is read of that file is brought in from the disk: a header, not the whole data set.
    """
    image = batch["image"][row]
    if not image.is_valid:
        return None
    content = image["bytes"].as_buffer()
    if content is None:
        return image["path"].as_py()
    return pa.BufferReader(content) if content.size else b""
