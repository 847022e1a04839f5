"""Pseudo boxes on disk: Parquet with `objects`, and the same as COCO or YOLO files."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Value

from agssp.data.coco_file import FIRST_COCO_ID, write_coco_file
from agssp.data.parquet_files import check_footer, naming, read_table
from agssp.data.schema import PSEUDO_CLASS, objects_feature
from agssp.errors import InputError
from agssp.files import whole_folder, write_text
from agssp.hub_client.names import written_by
from agssp.maps.store import write_parquet
from agssp.parsing import read_json

THRESHOLDS = "thresholds.json"
_BATCH = 500


def box_features(categories: Sequence[str]) -> Features:
    """Columns of the boxes' Parquet files."""
    return Features(
        {
            "image_id": Value("string"),
            "category": ClassLabel(names=list(categories)),
            "is_normal": Value("bool"),
            "width": Value("int32"),
            "height": Value("int32"),
            "anomaly_score": Value("float32"),
            "objects": objects_feature([PSEUDO_CLASS]),
        }
    )


def write_boxes(path: Path, categories: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write one Parquet file, whole or not at all.

    Args:
        path: of the file.
        categories: names, in label order.
        rows: columns of `box_features`; `objects` has COCO xywh boxes.
    """
    schema = box_features(categories).arrow_schema
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
    write_parquet(path, pa.Table.from_arrays(columns, schema=schema), compression="zstd")


def pseudo_objects(bbox: np.ndarray, scores: np.ndarray) -> dict[str, list[Any]]:
    """The `objects` of an image whose boxes were cut of a map: all of one class, no crowds.

    Args:
        bbox: (n, 4) COCO xywh px.
        scores: (n,).
    """
    count = len(bbox)
    return {
        "bbox": bbox.tolist(),
        "category": [0] * count,
        "score": scores.tolist(),
        "iscrowd": [False] * count,
    }


def read_boxes(path: str | Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read what `agssp pseudo-boxes` wrote.

    Args:
        path: the output folder.

    Returns:
        image_id -> boxes float32 (n, 4) COCO xywh px, and scores float32 (n,); images without boxes are there too.

    Raises:
        InputError: no boxes there.
    """
    # pyarrow takes a relative path whose first folder has a colon for an address.
    files = sorted((Path(path).absolute() / "data").glob("boxes-*.parquet"))
    if not files or not (Path(path) / THRESHOLDS).is_file():
        raise InputError(f"{path}: holds no finished pseudo boxes; {written_by(path, 'pseudo-boxes')}")
    boxes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for file in files:
        table = read_table(file, ["image_id", "objects"])
        for image_id, objects in zip(table["image_id"].to_pylist(), table["objects"].to_pylist(), strict=True):
            try:
                found = np.asarray(objects["bbox"], np.float32).reshape(-1, 4)
                boxes[image_id] = (found, np.asarray(objects["score"], np.float32).reshape(len(found)))
            except (TypeError, ValueError, KeyError) as error:
                raise InputError(
                    f"{file}: expected `objects` with bbox [[x, y, w, h], ...] and a score each, got "
                    f"{str(objects)[:80]} for {image_id!r}; {written_by(path, 'pseudo-boxes')}"
                ) from error
    return boxes


def boxes_of(dataset: Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The boxes that came with a data set, whatever their classes, in the form of `read_boxes`.

    Args:
        dataset: rows of the schema, with `objects`; a row whose objects are null has no entry.
    """
    boxes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for row in dataset.select_columns(["image_id", "objects"]):
        objects = row["objects"]
        if objects is not None and objects["bbox"] is not None:
            found = np.asarray(objects["bbox"], np.float32).reshape(-1, 4)
            boxes[row["image_id"]] = (found, np.asarray(objects["score"], np.float32))
    return boxes


def box_facts(path: str | Path) -> dict[str, Any]:
    """What a run's record says about the pseudo boxes that it learned from: how they were cut, and of whose maps."""
    facts = read_json(Path(path) / THRESHOLDS, remedy="run `agssp pseudo-boxes` again")
    names = ("teacher", "licence", "rule", "delta", "top_k", "images", "images_with_boxes", "boxes")
    return {name: facts[name] for name in names if facts.get(name) is not None}


class BoxRows:
    """The rows of `agssp pseudo-boxes`' files in order, read anew, some at a time, whenever they are gone through.

    Args:
        files: Parquet files with the columns of `box_features`, absolute.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for file in self.files:
            check_footer(file)
            with naming(file), pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(batch_size=_BATCH):
                    yield from batch.to_pylist()


def write_coco(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write the boxes as one COCO file, `file_name` being the image id; ids begin with `FIRST_COCO_ID`.

    Args:
        path: of the file.
        rows: columns of `box_features`; gone through twice.
    """
    images = (
        {"id": number, "file_name": row["image_id"], "width": row["width"], "height": row["height"]}
        for number, row in enumerate(rows, FIRST_COCO_ID)
    )
    annotations = (
        {
            "image_id": number,
            "category_id": FIRST_COCO_ID,
            "bbox": [float(value) for value in bbox],
            "area": float(bbox[2] * bbox[3]),
            "iscrowd": 0,
            "score": float(score),
        }
        for number, row in enumerate(rows, FIRST_COCO_ID)
        for bbox, score in zip(row["objects"]["bbox"], row["objects"]["score"], strict=True)
    )
    write_coco_file(path, {"categories": [{"id": FIRST_COCO_ID, "name": PSEUDO_CLASS}]}, images, annotations)


def yolo_name(image_id: str, folder: str | Path) -> str:
    """The label file of an image, `ID.txt` with `.txt` for its suffix, below the folder `labels`.

    Raises:
        InputError: the id leads out of that folder.
    """
    path = Path(os.path.normpath(image_id))
    if path.is_absolute() or path.drive or path.parts[:1] in ((), ("..",)):
        raise InputError(f"image id {image_id!r} points outside of {folder}; YOLO files cannot be written for it")
    return str(path.with_suffix(".txt"))


def check_yolo_names(image_ids: Iterable[str], folder: str | Path) -> None:
    """Raise unless each image has a YOLO label file of its own in the folder.

    Raises:
        InputError: an id leads out of the folder, or two images would share a file; they are named.
    """
    owners: dict[str, str] = {}
    for image_id in image_ids:
        other = owners.setdefault(yolo_name(image_id, folder), image_id)
        if other is not image_id:
            raise _shared(other, image_id, yolo_name(image_id, folder))


def write_yolo(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one YOLO text file an image (`labels/ID.txt`, empty where there is no box) and `data.yaml`.

    The files take the place of an old folder `labels` together, and are made durable together.

    Args:
        folder: made if missing.
        rows: columns of `box_features`; gone through once.

    Raises:
        InputError: as `check_yolo_names`.
    """
    made: set[Path] = set()
    with whole_folder(folder / "labels", many=True) as labels:
        for row in rows:
            path = labels / yolo_name(row["image_id"], folder)
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            try:
                with path.open("x", encoding="utf-8", newline="") as file:
                    file.write(_yolo_lines(row))
            except FileExistsError as error:
                raise _shared("another", row["image_id"], path.name) from error
    write_text(folder / "data.yaml", f"names:\n  0: {PSEUDO_CLASS}\n")


def _yolo_lines(row: dict[str, Any]) -> str:
    lines = []
    for x, y, w, h in row["objects"]["bbox"]:
        values = ((x + w / 2) / row["width"], (y + h / 2) / row["height"], w / row["width"], h / row["height"])
        lines.append("0 " + " ".join(f"{value:.6f}" for value in values) + "\n")
    return "".join(lines)


def _shared(first: str, second: str, name: str) -> InputError:
    return InputError(
        f"images {first!r} and {second!r} would share the YOLO file {Path(name).name}; take the Parquet files or COCO"
    )
