"""A folder whose `metadata.jsonl` files list its images, as records."""

import json
from pathlib import Path
from typing import Any

from agssp.data.readers.crowds import crowd_flag
from agssp.data.readers.image_folder import MASK_FOLDERS
from agssp.data.readers.records import (
    Box,
    ImageRecord,
    ReadReport,
    clean_box,
    find_images,
    folder_category,
    list_files,
    path_inside,
    read_text,
    readable_size,
)
from agssp.errors import InputError

TABLE = "metadata.jsonl"


def read_metadata_folder(root: Path, category: str | None, report: ReadReport) -> list[ImageRecord]:
    """Read a folder with one or more `metadata.jsonl`.

    Each line is a JSON object with `file_name` and, where known, `category`, `is_normal`, `mask_file_name` and
    `objects` = {"bbox": [[x, y, w, h], ...], "category": [name, ...], "score": [...], "iscrowd": [...]}, the last
    two where wanted, boxes in absolute px. Names of files are relative to the table.

    Raises:
        InputError: a line that is no JSON object, lacks `file_name`, names a file that is missing or lies outside the
            folder, or whose values do not fit; file and line are named.
    """
    names = list_files(root)
    files = {root / name for name in names}
    records = []
    for table in (root / name for name in names if name.rsplit("/", 1)[-1] == TABLE):
        for number, line in enumerate(read_text(table).split("\n"), 1):
            if line.strip():
                records.append(_record(root, table, f"{table}:{number}", line, category, files, report))
    listed = {record.path for record in records}
    for path in find_images(root):
        folders = path.relative_to(root).parts[:-1]
        if path not in listed and not MASK_FOLDERS.intersection(folder.lower() for folder in folders):
            report.unlisted.append(path.relative_to(root).as_posix())
    return records


def _record(
    root: Path, table: Path, where: str, line: str, category: str | None, files: set[Path], report: ReadReport
) -> ImageRecord:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise InputError(f"{where}: expected an object with a `file_name`, got {line[:80]!r}")
    is_normal = row.get("is_normal")
    if is_normal is not None and not isinstance(is_normal, bool):
        raise InputError(f"{where}: `is_normal` must be true, false or null, got {is_normal!r}")
    own_category = row.get("category")
    if own_category is not None and not isinstance(own_category, str):
        raise InputError(f"{where}: `category` must be the name of the object, got {own_category!r}")
    path = _existing(table.parent, row["file_name"], where, files)
    mask = _existing(table.parent, str(row["mask_file_name"]), where, files) if row.get("mask_file_name") else None
    return ImageRecord(
        path=path,
        image_id=path.relative_to(root).as_posix(),
        category=category or own_category or folder_category(root),
        is_normal=is_normal,
        mask=mask,
        boxes=None if row.get("objects") is None else _boxes(row["objects"], path, where, report),
    )


def _existing(folder: Path, name: str, where: str, files: set[Path]) -> Path:
    path = path_inside(folder, name, where)
    if path not in files and not path.is_file():
        raise InputError(f"{where}: names {name!r}, but there is no such file in {folder}")
    return path


def _boxes(objects: Any, path: Path, where: str, report: ReadReport) -> list[Box]:
    try:
        bboxes = [tuple(map(float, bbox)) for bbox in objects["bbox"]]
        # The image folders of `datasets` call the same field `categories`.
        names = [str(name) for name in objects.get("category", objects.get("categories"))]
        scores = [float(score) for score in objects.get("score") or [1.0] * len(bboxes)]
        marks = objects.get("iscrowd") or [False] * len(bboxes)
        crowds = [crowd_flag(mark, f"{where} box {index}") for index, mark in enumerate(marks)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{where}: expected objects = {{'bbox': [[x, y, w, h], ...], 'category': [name, ...]}}: {error!r}"
        ) from error
    if any(len(bbox) != 4 for bbox in bboxes) or not len(bboxes) == len(names) == len(scores) == len(crowds):
        raise InputError(
            f"{where}: objects have {len(bboxes)} boxes, {len(names)} categories, {len(scores)} scores and "
            f"{len(crowds)} iscrowd; expected as many of each, and four numbers a box"
        )
    size = readable_size(path, report) if bboxes else None
    if size is None:
        return []
    cleaned = (
        clean_box(Box(bbox, name, score, crowd), *size, f"{where} box {index}", report)  # type: ignore[arg-type]
        for index, (bbox, name, score, crowd) in enumerate(zip(bboxes, names, scores, crowds, strict=True))
    )
    return [box for box in cleaned if box is not None]
