"""A folder of images, with or without `metadata.jsonl`, as records."""

import json
from pathlib import Path
from typing import Any

from agssp.data.images import image_size
from agssp.data.readers.records import (
    Box,
    ImageRecord,
    ReadReport,
    clean_box,
    find_images,
    path_inside,
)
from agssp.errors import InputError

NORMAL_FOLDERS = {"normal", "good", "ok", "defect_free", "defect-free"}
DEFECT_FOLDERS = {"defect", "defective", "bad", "ng", "anomaly", "anomalous", "abnormal"}
MASK_FOLDERS = {"mask", "masks", "ground_truth"}


def read_image_folder(root: Path, category: str | None = None) -> list[ImageRecord]:
    """Read a plain folder of images.

    The category is the first folder below the root, or the root's own name where images lie flat, unless `category`
    says otherwise. A folder named `normal`, `good` or `ok` on the way makes an image normal, one named `defect`, `bad`
    or `ng` makes it not; otherwise it is unknown. Folders of masks are left out.
    """
    records = []
    for path in find_images(root):
        relative = path.relative_to(root)
        folders = [part.lower() for part in relative.parts[:-1]]
        if MASK_FOLDERS.intersection(folders):
            continue
        known = NORMAL_FOLDERS | DEFECT_FOLDERS | {"unlabelled", "unlabeled", "images"}
        named = [part for part in relative.parts[:-1] if part.lower() not in known]
        is_normal = (
            True if NORMAL_FOLDERS.intersection(folders) else False if DEFECT_FOLDERS.intersection(folders) else None
        )
        records.append(
            ImageRecord(
                path=path,
                image_id=relative.as_posix(),
                category=category or (named[0] if named else root.absolute().name),
                is_normal=is_normal,
            )
        )
    return records


def read_metadata_folder(root: Path, category: str | None, report: ReadReport) -> list[ImageRecord]:
    """Read a folder whose `metadata.jsonl` files list its images.

    Each line is a JSON object with `file_name` and, where known, `category`, `is_normal`, `mask_file_name` and
    `objects` = {"bbox": [[x, y, w, h], ...], "category": [name, ...], "score": [...]}, boxes in absolute px.

    Raises:
        InputError: a line that is no JSON object, lacks `file_name`, names a file that is missing or lies outside the
            folder, or whose `objects` do not fit together; file and line are named.
    """
    records = []
    for table in sorted(root.rglob("metadata.jsonl")):
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                records.append(_metadata_record(root, table, f"{table}:{number}", line, category, report))
    return records


def _metadata_record(
    root: Path, table: Path, where: str, line: str, category: str | None, report: ReadReport
) -> ImageRecord:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise InputError(f"{where}: expected an object with a `file_name`, got {line[:80]!r}")
    path = _existing(table.parent, row["file_name"], where)
    mask = _existing(table.parent, row["mask_file_name"], where) if row.get("mask_file_name") else None
    boxes = None
    if row.get("objects") is not None:
        boxes = _boxes(row["objects"], path, where, report)
    return ImageRecord(
        path=path,
        image_id=path.relative_to(root).as_posix(),
        category=category or row.get("category") or root.absolute().name,
        is_normal=row.get("is_normal"),
        mask=mask,
        boxes=boxes,
    )


def _existing(folder: Path, name: str, where: str) -> Path:
    path = path_inside(folder, name, where)
    if not path.is_file():
        raise InputError(f"{where}: names {name!r}, but there is no such file in {folder}")
    return path


def _boxes(objects: Any, path: Path, where: str, report: ReadReport) -> list[Box]:
    try:
        bboxes = [tuple(map(float, bbox)) for bbox in objects["bbox"]]
        names = [str(name) for name in objects["category"]]
        scores = [float(score) for score in objects.get("score") or [1.0] * len(bboxes)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{where}: expected objects = {{'bbox': [[x, y, w, h], ...], 'category': [name, ...]}}: {error!r}"
        ) from error
    if any(len(bbox) != 4 for bbox in bboxes) or not len(bboxes) == len(names) == len(scores):
        raise InputError(
            f"{where}: objects have {len(bboxes)} boxes, {len(names)} categories and {len(scores)} scores; expected as many "
            "of each, and four numbers a box"
        )
    if not bboxes:
        return []
    width, height = image_size(path, str(path))
    cleaned = (
        clean_box(Box(bbox, name, score), width, height, f"{where} box {index}", report)  # type: ignore[arg-type]
        for index, (bbox, name, score) in enumerate(zip(bboxes, names, scores, strict=True))
    )
    return [box for box in cleaned if box is not None]
