"""The `objects` of a row, in whatever form tables and JSON lines have them, as labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from agssp.data.readers.crowds import crowd_flag
from agssp.data.readers.records import Label, check_names
from agssp.data.readers.report import ReadReport
from agssp.errors import InputError

CLASS_KEYS = ("category", "categories", "category_id", "label", "labels")
"""The names that tables have for the field of the class, the one of the schema first."""
_EXPECTED = (
    "expected objects = {'bbox': [[x, y, w, h], ...], 'category': [name, ...]}, or a list of such with one box each"
)


def class_key(keys: Sequence[str] | Mapping[str, Any]) -> str | None:
    """The key of `objects` that holds the classes; None where there is none."""
    return next((key for key in CLASS_KEYS if key in keys), None)


def labels_of(objects: Any, where: str, report: ReadReport, names: Sequence[str] | None = None) -> list[Label] | None:
    """The boxes of a row.

    Args:
        objects: a table of lists (`bbox`, a field of classes, and, where wanted, `score` and `iscrowd`), or a list of
            tables with one box each.
        where: names the row in errors.
        report: gets a note of classes that have a number for a name.
        names: of the classes, in order, where they are numbered; else a number is a class's name.

    Returns:
        None where nothing is known: null, or a table of nulls, as some writers of Parquet keep it.

    Raises:
        InputError: it has another form, other numbers of classes, scores and crowd flags than boxes, a box that is not
            four numbers, or a class that is unknown; row and box are named.
    """
    if objects is None or (isinstance(objects, Mapping) and "bbox" in objects and objects["bbox"] is None):
        return None
    if isinstance(objects, list):
        objects = _as_table(objects, where)
    if not isinstance(objects, Mapping) or "bbox" not in objects:
        raise InputError(f"{where}: {_EXPECTED}; got {str(objects)[:80]}")
    bboxes, key = list(objects["bbox"]), class_key(objects)
    classes = _values(objects, key, None if bboxes else 0, where)
    scores = [1.0 if score is None else score for score in _values(objects, "score", len(bboxes), where, 1.0)]
    crowds = _values(objects, "iscrowd", len(bboxes), where, False)
    if not len(bboxes) == len(classes) == len(scores) == len(crowds):
        raise InputError(
            f"{where}: objects have {len(bboxes)} boxes, {len(classes)} categories, {len(scores)} scores and "
            f"{len(crowds)} iscrowd; expected as many of each"
        )
    labels = []
    for index, (bbox, label, score, crowd) in enumerate(zip(bboxes, classes, scores, crowds, strict=True)):
        here = f"{where} box {index}"
        try:
            x, y, w, h = map(float, bbox)
            labels.append(
                Label((x, y, w, h), _name(label, names, here, report), here, float(score), crowd_flag(crowd, here))
            )
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{here}: expected four numbers a box and one as its score, got {bbox!r}, {score!r}"
            ) from error
    return labels


def _as_table(rows: list[Any], where: str) -> dict[str, list[Any]]:
    """A list of tables with one box each as one table of lists."""
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or "bbox" not in row or class_key(row) is None:
            raise InputError(f"{where} box {index}: {_EXPECTED}; got {str(row)[:80]}")
    table: dict[str, list[Any]] = {"bbox": [row["bbox"] for row in rows]}
    table["category"] = [row[class_key(row)] for row in rows]  # type: ignore[index]
    table["score"] = [row.get("score") for row in rows]
    table["iscrowd"] = [row.get("iscrowd") for row in rows]
    return table


def _values(
    objects: Mapping[str, Any], key: str | None, count: int | None, where: str, default: Any = None
) -> list[Any]:
    """A field of the objects as a list; where it is missing or null, `count` times the default."""
    values = None if key is None else objects.get(key)
    if values is None:
        if count is None:
            raise InputError(f"{where}: objects have boxes but no category; {_EXPECTED}")
        return [default] * count
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
        raise InputError(f"{where}: {key} must be a list with one entry a box, got {values!r}")
    return list(values)


def _name(label: Any, names: Sequence[str] | None, where: str, report: ReadReport) -> str:
    if isinstance(label, str):
        if names is not None:
            check_names([label], names, where)
        if not label.strip():
            raise InputError(f"{where}: expected the name of a class, got an empty text")
        return label.strip() if names is None else label
    if label is None or isinstance(label, bool) or int(label) != label:
        raise InputError(f"{where}: expected the name or number of a class, got {label!r}")
    if names is None:
        report.note("numbered_classes", f"{int(label)} ({where})")
        return str(int(label))
    if int(label) not in range(len(names)):
        raise InputError(f"{where}: class id {label} is beyond the list of {len(names)} classes ({', '.join(names)})")
    return names[int(label)]
