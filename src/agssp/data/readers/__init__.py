"""Read any of the usual layouts of a data set into the one schema."""

import difflib
from pathlib import Path
from typing import Any

from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    Image,
    IterableDataset,
    IterableDatasetDict,
    List,
    Value,
    load_dataset,
    load_from_disk,
)

from agssp.data.readers.coco import read_coco
from agssp.data.readers.image_folder import read_image_folder, read_metadata_folder
from agssp.data.readers.records import ReadReport, to_dataset
from agssp.data.readers.voc import is_voc, read_voc
from agssp.data.readers.yolo import is_yolo, read_yolo
from agssp.data.schema import check_columns
from agssp.errors import InputError

FORMATS = ("imagefolder", "metadata", "coco", "yolo", "voc", "parquet", "saved", "hub")

__all__ = ["FORMATS", "find_format", "read_dataset"]


def read_dataset(
    source: str | Path,
    *,
    split: str | None = None,
    streaming: bool = False,
    category: str | None = None,
    format: str | None = None,
) -> Dataset | IterableDataset:
    """Read a data set into the schema of `agssp.data.schema`.

    Args:
        source: a folder of images, with `metadata.jsonl` or without; a COCO .json; a YOLO or Pascal VOC folder; a folder
            of Parquet files; a `save_to_disk` folder; or a Hub id `owner/name`.
        split: which split of a Hub, saved or YOLO data set; default: `train`, or the only one there is.
        streaming: read rows as they are needed (Parquet and Hub only).
        category: the object category of all images, where the layout does not tell.
        format: one of `FORMATS`; default: found out by looking.

    Returns:
        Rows with `image` (still encoded), `image_id` (unique, stable: the path relative to the source), `category`,
        `is_normal`, and `mask` and `objects` (boxes COCO xywh in px) where known. Boxes are clipped to their image;
        those without area are dropped; both are counted in a warning.

    Raises:
        InputError: nothing there, no images, or files that contradict the layout; the file, line or row is named.
    """
    path = Path(source)
    name = format or find_format(source)
    if name not in FORMATS:
        raise InputError(f"format {name!r}: expected one of {', '.join(FORMATS)}")
    if name in ("parquet", "saved", "hub"):
        return _to_schema(_load_table(path, str(source), name, split, streaming), str(source), category)
    if streaming:
        raise InputError(f"{source}: only Parquet folders and Hub data sets can be streamed; this is read as {name!r}")

    report = ReadReport()
    defect_types = None
    if name == "coco":
        records, defect_types = read_coco(path, category, report)
    elif name == "yolo":
        records, defect_types = read_yolo(path, split, category, report)
    elif name == "voc":
        records = read_voc(path, category, report)
    elif name == "metadata":
        records = read_metadata_folder(path, category, report)
    else:
        records = read_image_folder(path, category)
    report.log(str(source))
    return to_dataset(records, str(source), defect_types)


def find_format(source: str | Path) -> str:
    """Tell the layout of a data set by looking at it: one of `FORMATS`.

    Raises:
        InputError: there is nothing at `source` and it is no Hub id.
    """
    path = Path(source)
    if path.is_file():
        if path.suffix == ".json":
            return "coco"
        if path.suffix == ".parquet":
            return "parquet"
        raise InputError(f"{source}: expected a folder, a COCO .json or a .parquet file")
    if path.is_dir():
        if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
            return "saved"
        if any(path.rglob("metadata.jsonl")):
            return "metadata"
        if any(path.rglob("*.parquet")):
            return "parquet"
        if is_voc(path):
            return "voc"
        if is_yolo(path):
            return "yolo"
        return "imagefolder"
    text = str(source)
    if path.is_absolute() or text.startswith(".") or text.count("/") != 1 or path.parent.is_dir():
        siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=3)
        hint = f"; near it are {', '.join(near)}" if near else ""
        raise InputError(f"{source}: no such file or folder, and not a Hub id of the form owner/name{hint}")
    return "hub"


def _load_table(path: Path, source: str, name: str, split: str | None, streaming: bool) -> Any:
    if name == "saved":
        loaded: Any = load_from_disk(source)
    elif name == "parquet":
        files = (
            [path]
            if path.is_file()
            else sorted(file for file in path.rglob("*.parquet") if not file.name.startswith("."))
        )
        splits: dict[str, list[str]] = {}
        for file in files:
            # `train-00000-of-00004.parquet` and `train/part.parquet` both belong to `train`.
            key = file.name.split("-")[0] if "-" in file.name else file.parent.name if file.parent != path else "train"
            splits.setdefault(key, []).append(str(file))
        loaded = load_dataset("parquet", data_files=splits, streaming=streaming)
    else:
        loaded = load_dataset(source, streaming=streaming)
    if isinstance(loaded, (DatasetDict, IterableDatasetDict)):
        available = list(loaded)
        split = split or (available[0] if len(available) == 1 else "train")
        if split not in loaded:
            raise InputError(f"{source}: has no split {split!r}; it has {', '.join(available)}")
        return loaded[split]
    return loaded


def _to_schema(dataset: Any, source: str, category: str | None) -> Any:
    if dataset.features is None:
        dataset = dataset._resolve_features()
    check_columns(dataset, ["image"], source)
    columns = dataset.features
    for column in ("image", "mask"):
        if column in columns:
            dataset = dataset.cast_column(column, Image(decode=False))
    if "image_id" not in columns:
        dataset = dataset.map(_with_row_id, with_indices=True)
    if "is_normal" not in columns:
        dataset = dataset.map(_with_unknown_normal, features=_extended(dataset.features, is_normal=Value("bool")))
    current = dataset.features.get("category")
    if category is not None or current is None:
        name = category or Path(source).name
        if "category" in dataset.features:
            dataset = dataset.remove_columns("category")
        dataset = dataset.map(
            _with_category,
            features=_extended(dataset.features, category=ClassLabel(names=[name])),
            fn_kwargs={"index": 0},
        )
    elif not isinstance(current, ClassLabel):
        if isinstance(dataset, IterableDataset):
            raise InputError(
                f"{source}: `category` is plain text; a streamed data set needs a ClassLabel column, or give --category NAME"
            )
        dataset = dataset.class_encode_column("category")
    _check_objects(dataset, source)
    return dataset


def _check_objects(dataset: Any, source: str) -> None:
    objects = dataset.features.get("objects")
    if objects is None:
        return
    fields = objects.feature if isinstance(objects, List) else objects
    if not isinstance(fields, dict) or "bbox" not in fields or "category" not in fields:
        raise InputError(f"{source}: `objects` must hold bbox (COCO xywh in px) and category, got {objects}")
    if not isinstance(getattr(fields["category"], "feature", fields["category"]), ClassLabel):
        raise InputError(
            f"{source}: objects.category must be a ClassLabel with the names of the defects, got {fields['category']}"
        )


def _extended(features: Any, **columns: Any) -> Any:
    features = features.copy()
    features.update(columns)
    return features


def _with_row_id(row: dict[str, Any], index: int) -> dict[str, Any]:
    path = (row["image"] or {}).get("path")
    return {"image_id": f"{index:08d}-{Path(path).name}" if path else f"{index:08d}"}


def _with_unknown_normal(row: dict[str, Any]) -> dict[str, Any]:
    return {"is_normal": None}


def _with_category(row: dict[str, Any], index: int) -> dict[str, Any]:
    return {"category": index}
