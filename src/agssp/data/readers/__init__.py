"""Read any of the usual layouts of a data set into the one schema."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset

from agssp.data.readers.coco import choose_coco, find_coco, read_coco
from agssp.data.readers.image_folder import read_image_folder
from agssp.data.readers.metadata import TABLE, read_metadata_folder
from agssp.data.readers.records import (
    SPLIT_FOLDERS,
    ImageRecord,
    ReadReport,
    list_files,
    logger,
    to_dataset,
)
from agssp.data.readers.tables import NamedRows, load_table, parquet_splits, reading, relabel, to_schema
from agssp.data.readers.voc import is_voc, read_voc, split_list
from agssp.data.readers.yolo import ALIASES, is_yolo, read_yolo
from agssp.errors import InputError
from agssp.hub_ids import is_hub_id, near_hint

FORMATS = ("imagefolder", "metadata", "coco", "yolo", "voc", "parquet", "saved", "hub")

__all__ = ["FORMATS", "NamedRows", "ReadReport", "find_format", "find_splits", "read_dataset", "reading"]


def read_dataset(
    source: str | Path,
    *,
    split: str | None = None,
    streaming: bool = False,
    category: str | None = None,
    format: str | None = None,
    categories: Sequence[str] | None = None,
    defect_types: Sequence[str] | None = None,
    report: ReadReport | None = None,
) -> Dataset | IterableDataset:
    """Read a data set into the schema of `agssp.data.schema`.

    Args:
        source: a folder of images, with `metadata.jsonl` or without; a COCO .json or the folder around it; a YOLO
            folder or its data.yaml; a Pascal VOC folder; a Parquet file or folder; a `save_to_disk` folder; or a Hub
            id `owner/name`.
        split: which split of a data set that has several: a subfolder, a split of data.yaml, a list in
            `ImageSets/Main`, a COCO file of that name, or a split of a table. Default: all images of a plain folder;
            of a labelled data set `train`, or the only one there is.
        streaming: give an `IterableDataset`; tables are read as they are needed.
        category: the object category of all images, where the layout does not tell.
        format: one of `FORMATS`; default: found out by looking.
        categories: all object categories in the wanted order; one that is not among them is an error.
        defect_types: all classes of boxes in the wanted order; one that is not among them is an error.
        report: gets the names of what was clipped, dropped or left out, instead of a warning.

    Returns:
        Rows with `image` (still encoded), `image_id` (unique, stable: the path relative to the source), `category`,
        `is_normal`, and `mask` and `objects` (boxes COCO xywh in px) where known, null where not. Boxes
        are clipped to their image and those without area dropped; what was changed or left out is counted in a
        warning.

    Raises:
        InputError: nothing there, no images, or files that contradict the layout; the file, line or row is named.
    """
    name = format or find_format(source)
    if name not in FORMATS:
        raise InputError(f"format {name!r}: expected one of {', '.join(FORMATS)}")
    found = ReadReport() if report is None else report
    if name in ("parquet", "saved", "hub"):
        table = load_table(str(source), name, split, streaming)
        dataset: Any = to_schema(table, str(source), category, found, defect_types)
    else:
        records, names = _read_records(Path(source), name, split, category, found)
        dataset = to_dataset(records, str(source), names)
        if streaming:
            dataset = dataset.to_iterable_dataset(num_shards=min(8, len(dataset)))
    if report is None:
        found.log(str(source))
    return relabel(dataset, str(source), categories, defect_types)


def find_format(source: str | Path) -> str:
    """Tell the layout of a data set by looking at it: one of `FORMATS`.

    Raises:
        InputError: there is nothing at `source` and it is no Hub id.
    """
    path = Path(source)
    if path.is_file():
        formats = {".json": "coco", ".parquet": "parquet", ".yaml": "yolo", ".yml": "yolo"}
        if path.suffix not in formats:
            raise InputError(f"{source}: expected a folder, a COCO .json, a YOLO data.yaml or a .parquet file")
        return formats[path.suffix]
    if path.is_dir():
        if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
            return "saved"
        if (path / TABLE).is_file():
            return "metadata"
        if is_voc(path):
            return "voc"
        if is_yolo(path):
            return "yolo"
        if find_coco(path):
            return "coco"
        files = list_files(path)
        if any(name.endswith(f"/{TABLE}") for name in files):
            return "metadata"
        return "parquet" if any(name.endswith(".parquet") for name in files) else "imagefolder"
    if not is_hub_id(source):
        raise InputError(
            f"{source}: no such file or folder, and not a Hub id of the form owner/name{near_hint(source)}"
        )
    return "hub"


def find_splits(source: str | Path) -> list[str]:
    """Names of the splits that a data set has, as `read_dataset` takes them; empty for one that is all one.

    Splits that only a YOLO `data.yaml`, Pascal VOC lists, COCO file names or the Hub tell of are not looked for.
    """
    path, kind = Path(source), find_format(source)
    if kind == "parquet":
        return list(parquet_splits(path))
    if kind == "saved":
        table = path / "dataset_dict.json"
        return list(json.loads(table.read_text(encoding="utf-8"))["splits"]) if table.is_file() else []
    if not path.is_dir() or kind == "voc" or (path / TABLE).is_file():
        return []
    return _labelled_folders(path)


def _read_records(
    path: Path, name: str, split: str | None, category: str | None, report: ReadReport
) -> tuple[list[ImageRecord], list[str] | None]:
    if name == "coco":
        return read_coco(path if path.is_file() else choose_coco(path, split), category, report)
    if name == "yolo":
        return read_yolo(path, split, category, report)
    if not path.is_dir():
        raise InputError(f"{path}: expected a folder to read as {name!r}")
    if name == "voc" and split is not None and split_list(path, split).is_file():
        return read_voc(path, category, report, split), None
    folder = _split_folder(path, name, split)
    if folder != path:
        # Ids stay relative to the source, so that they are the same whichever split is read.
        records, names = _read_records(folder, find_format(folder), None, category, report)
        for record in records:
            record.image_id = f"{folder.relative_to(path).as_posix()}/{record.image_id}"
        return records, names
    if name == "voc":
        return read_voc(path, category, report), None
    if name == "metadata":
        return read_metadata_folder(path, category, report), None
    return read_image_folder(path, category), None


def _split_folder(root: Path, name: str, split: str | None) -> Path:
    """The subfolder of the asked or usual split, or the root itself if it holds more than splits."""
    folders = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and path.name in SPLIT_FOLDERS}
    if split is not None:
        wanted = {split, ALIASES.get(split, split), *(key for key, value in ALIASES.items() if value == split)}
        found = [folder for key, folder in folders.items() if key in wanted]
        if not found and not (root / split).is_dir():
            raise InputError(
                f"{root}: has no split {split!r}; it has {', '.join(folders) or 'no folders train, val, test'}"
            )
        return found[0] if found else root / split
    if name == "voc" or (root / TABLE).is_file():
        return root
    labelled = _labelled_folders(root)
    if not labelled:
        return root
    if len(labelled) > 1 and "train" not in labelled:
        raise InputError(f"{root}: has the splits {', '.join(labelled)}; say which one is to be read")
    chosen = "train" if "train" in labelled else labelled[0]
    if len(labelled) > 1:
        logger.warning("%s: reads its split %s of %s", root, chosen, ", ".join(labelled))
    return folders[chosen]


def _labelled_folders(root: Path) -> list[str]:
    """Subfolders that are labelled splits; none if the root holds other labelled images too."""
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name in SPLIT_FOLDERS]
    labelled = [folder.name for folder in folders if find_format(folder) != "imagefolder"]
    elsewhere = (file for file in list_files(root) if file.endswith(f"/{TABLE}") and file.split("/")[0] not in labelled)
    return [] if labelled and any(elsewhere) else labelled
