"""The `objects` of a row, in whatever form tables and JSON lines have them, as labels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agssp.data.readers.crowds import crowd_flag
from agssp.data.readers.records import Label, check_names, score_of
from agssp.data.readers.report import ReadReport
from agssp.errors import InputError

CLASS_KEYS = ("category", "categories", "category_id", "label", "labels")
"""The names that tables have for the field of the class, the one of the schema first."""
LABEL_FIELDS = {
    "annotation", "annotations", "bbox", "bboxes", "bounding_box", "bounding_boxes", "box", "boxes", "class", "classes",
    "defect", "defects", "label", "labels", "mask", "masks", "polygon", "polygons", "segmentation", "target",
}  # fmt: skip
"""Names, in small letters, that fields beside `objects` have in tables that keep their labels in another way."""
EXPECTED = (
    "expected objects = {'bbox': [[x, y, w, h], ...], 'category': [name, ...]}, or a list of such with one box each"
)


def class_key(keys: Iterable[str]) -> str | None:
    """The field of `objects` that holds the classes; None where there is none."""
    keys = set(keys)
    return next((key for key in CLASS_KEYS if key in keys), None)


def labels_of(objects: Any, where: str, report: ReadReport, names: Sequence[str] | None = None) -> list[Label] | None:
    """The boxes of a row.

    Args:
        objects: a table of lists (`bbox`, a field of `CLASS_KEYS`, and, where wanted, `score` and `iscrowd`), or a list
            of tables with one box each.
        where: names the row in errors.
        report: gets a note of classes that have a number for a name, and of fields that are left out.
        names: of the classes, in order, where they are numbered; else a number is a class's name.

    Returns:
        None where nothing is known: null, or a table of nulls, as some writers of Parquet keep it.

    Raises:
        InputError: it has another form, other numbers of classes, scores and crowd flags than boxes, a box that is not
            four numbers, or a class that is unknown; row and box are named.
    """
    if objects is None or (isinstance(objects, Mapping) and "bbox" in objects and objects["bbox"] is None):
        return None
    rows = objects if isinstance(objects, list) else _by_box(objects, where)
    labels = []
    extra: dict[str, None] = {}
    for index, row in enumerate(rows):
        here = f"{where} box {index}"
        key = class_key(row) if isinstance(row, Mapping) else None
        if key is None or "bbox" not in row:
            raise InputError(f"{here}: {EXPECTED}; got {str(row)[:80]}")
        extra |= dict.fromkeys(field for field in row if field not in ("bbox", "score", "iscrowd", key))
        labels.append(
            Label(
                _bbox(row["bbox"], here),
                _class_name(row[key], names, here, report),
                here,
                score_of(row.get("score"), here),
                crowd_flag(row.get("iscrowd"), here),
            )
        )
    if extra:
        report.note("extra_fields", f"{', '.join(extra)} ({where})")
    return labels


def _by_box(objects: Any, where: str) -> list[dict[str, Any]]:
    """A table of lists as a list of tables with one box each."""
    if not isinstance(objects, Mapping) or "bbox" not in objects:
        raise InputError(f"{where}: {EXPECTED}; got {str(objects)[:80]}")
    key = class_key(objects)
    fields = ("bbox", key or CLASS_KEYS[0], "score", "iscrowd")
    columns = [objects.get(field) for field in fields]
    for field, column in zip(fields, columns, strict=True):
        if column is not None and (isinstance(column, (str, bytes, Mapping)) or not hasattr(column, "__len__")):
            raise InputError(f"{where}: {field} must be a list with one entry a box, got {column!r}")
    if len(objects["bbox"]) and columns[1] is None:
        raise InputError(f"{where}: objects have boxes but no category; {EXPECTED}")
    counts = [len(objects["bbox"] if column is None else column) for column in columns]
    if len(set(counts)) > 1:
        raise InputError(
            f"{where}: objects have {counts[0]} boxes, {counts[1]} categories, {counts[2]} scores and {counts[3]} "
            "iscrowd; expected as many of each"
        )
    # What else there is may have any form, and only its name matters.
    others = dict.fromkeys(field for field in objects if field not in fields)
    rows = zip(*([None] * counts[0] if column is None else column for column in columns), strict=True)
    return [dict(zip(fields, row, strict=True)) | others for row in rows]


def _bbox(bbox: Any, where: str) -> tuple[float, float, float, float]:
    try:
        x, y, w, h = map(float, bbox)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: expected four numbers a box, [x, y, width, height], got {bbox!r}") from error
    return x, y, w, h


def _class_name(label: Any, names: Sequence[str] | None, where: str, report: ReadReport) -> str:
    if isinstance(label, str):
        name = label if names is not None and label in names else label.strip()
        if not name:
            raise InputError(f"{where}: expected the name of a class, got an empty text")
        if names is not None:
            check_names([name], names, where)
        return name
    if isinstance(label, bool) or not isinstance(label, (int, float)) or label != label // 1:
        raise InputError(f"{where}: expected the name or number of a class, got {label!r}")
    if names is None:
        report.note("numbered_classes", f"{int(label)} ({where})")
        return str(int(label))
    if int(label) not in range(len(names)):
        raise InputError(f"{where}: class id {label} is beyond the list of {len(names)} classes ({', '.join(names)})")
    return names[int(label)]
