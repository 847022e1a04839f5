"""Bring the class labels of a data set to lists of names that are asked for."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow.compute as pc
from datasets import ClassLabel, Dataset

from agssp.data.readers.columns import with_column
from agssp.data.readers.records import check_names
from agssp.data.readers.report import ReadReport
from agssp.data.schema import category_names, defect_names, objects_feature


def relabel(
    dataset: Any,
    source: str,
    categories: Sequence[str] | None = None,
    defect_types: Sequence[str] | None = None,
    report: ReadReport | None = None,
) -> Any:
    """Bring the class labels of a data set in the schema to the asked lists of names.

    A class that is not in the list is left out where it has no boxes, and is an error where it has; of a stream only
    when such a box comes. Classes that are called by their numbers, since their table has no names for them, are taken
    as places in the list, unless the list has numbers for names, too.

    Args:
        dataset: a `Dataset` or `IterableDataset`.
        source: names it in errors.
        categories: all object categories in the wanted order; default: as they are.
        defect_types: all classes of boxes in the wanted order; default: as they are.
        report: gets a note of what was left out or guessed; its boxes are then by the asked classes.

    Raises:
        InputError: the data set has a category, or boxes of a class, that is not in the list; near names are shown.
    """
    if categories is not None and list(categories) != category_names(dataset):
        found = category_names(dataset)
        check_names(found, categories, source, "category")
        make = partial(_renumbered_category, [list(categories).index(name) for name in found])
        dataset = with_column(dataset, "category", ClassLabel(names=list(categories)), ["category"], make)
    if defect_types is not None and "objects" in dataset.features and list(defect_types) != defect_names(dataset):
        dataset = _with_classes(dataset, source, list(defect_types), ReadReport() if report is None else report)
    return dataset


def without_unused(dataset: Dataset, source: str, known: Sequence[str], report: ReadReport) -> Dataset:
    """Leave out the classes without boxes that are not among those known elsewhere, as files of tests may list some.

    Args:
        dataset: in the schema.
        source: names it in errors.
        known: names of the classes that are kept in any case.
        report: gets a note of what was left out.
    """
    names = defect_names(dataset)
    used = {names[number] for number in _numbers_with_boxes(dataset)}
    return relabel(
        dataset, source, defect_types=[name for name in names if name in used or name in known], report=report
    )


def _with_classes(dataset: Any, source: str, asked: list[str], report: ReadReport) -> Any:
    names = defect_names(dataset)
    found = _by_place(names, asked, report) if report.count("numbered_classes") else names
    if isinstance(dataset, Dataset):
        unknown = [name for name in found if name not in asked]
        used = {found[number] for number in _numbers_with_boxes(dataset)} if unknown else set()
        check_names([name for name in unknown if name in used], asked, source)
        report.note_all("empty_classes", [f"{name} of {source}" for name in unknown])
        counts = dict(zip(found, (report.boxes.get(name, 0) for name in names), strict=True))
        report.boxes = {name: counts.get(name, 0) for name in asked}
        renamed = dict(zip(names, found, strict=True))
        report.shares = {renamed.get(name, name): shares for name, shares in report.shares.items()}
    numbers = {number: asked.index(name) for number, name in enumerate(found) if name in asked}
    make = partial(_renumbered_objects, source, numbers, found, asked)
    return with_column(dataset, "objects", objects_feature(asked), ["image_id", "objects"], make)


def _renumbered_category(numbers: Sequence[int], row: dict[str, Any]) -> int | None:
    return None if row["category"] is None else numbers[row["category"]]


def _renumbered_objects(
    source: str, numbers: Mapping[int, int], found: Sequence[str], asked: Sequence[str], row: dict[str, Any]
) -> dict[str, Any] | None:
    """The objects of a row by the new numbers; of a stream a class without one is found only here."""
    objects = row["objects"]
    if objects is None:
        return None
    for index, label in enumerate(objects["category"]):
        if label not in numbers:
            check_names([found[label]], asked, f"{source}: {row['image_id']} box {index}")
    return {**objects, "category": [numbers[label] for label in objects["category"]]}


def _by_place(names: list[str], asked: list[str], report: ReadReport) -> list[str]:
    """Names that are numbers, as the names at those places of a list; as they are where the list has such names."""
    if not all(name.isdecimal() for name in names) or set(names) & set(asked):
        return names
    found = [asked[int(name)] if int(name) < len(asked) else name for name in names]
    report.note_all("numbers_as_places", [f"{name} is {new}" for name, new in zip(names, found, strict=True)])
    return found


def _numbers_with_boxes(dataset: Dataset) -> set[int]:
    batches = dataset.select_columns("objects").with_format("arrow").iter(10_000)
    columns = (pc.list_flatten(pc.struct_field(batch["objects"], "category")) for batch in batches)
    return {number for column in columns for number in pc.unique(column).to_pylist()}
