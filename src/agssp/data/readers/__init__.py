"""Read any of the usual layouts of a data set into the one schema."""

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset

from agssp.data.image_notes import begin_image_notes
from agssp.data.readers.assembly import to_dataset
from agssp.data.readers.box_columns import BoxColumns
from agssp.data.readers.coco import choose_coco, locate_coco, read_coco
from agssp.data.readers.crowds import check_crowds
from agssp.data.readers.cvat import choose_cvat, read_cvat
from agssp.data.readers.frames import StatedImages
from agssp.data.readers.garbage import rare_collections
from agssp.data.readers.geometry import settle_boxes
from agssp.data.readers.image_folder import read_image_folder
from agssp.data.readers.label_studio import choose_label_studio, read_label_studio
from agssp.data.readers.labelme import read_labelme
from agssp.data.readers.layouts import (
    FORMATS,
    SPLITS,
    choose_split_folder,
    find_format,
    find_splits,
    labelled_layouts,
    labels_beside,
    layout_of,
)
from agssp.data.readers.listing import OTHER_PICTURES, Listing, locate_table
from agssp.data.readers.metadata import read_metadata_folder
from agssp.data.readers.records import ImageRecord, MadeRecords
from agssp.data.readers.relabelling import relabel
from agssp.data.readers.report import ReadReport
from agssp.data.readers.table_schema import to_schema
from agssp.data.readers.tables import NamedRows, load_table, reading
from agssp.data.readers.unread import broken_tables, unread_labels
from agssp.data.readers.voc import read_voc
from agssp.data.readers.yolo import locate_yolo, read_yolo
from agssp.data.source_names import GIVEN
from agssp.errors import InputError

__all__ = ["FORMATS", "NamedRows", "ReadReport", "find_format", "find_splits", "read_dataset", "reading"]

# The suffix of the files of labels of layouts that have one for each image.
BESIDE = {"voc": ".xml", "labelme": ".json", "yolo": ".txt"}
# Records, and the class names in order where the layout tells it.
Read = tuple[Sequence[ImageRecord], list[str] | None]


def read_dataset(
    source: str | Path | Dataset | IterableDataset,
    *,
    split: str | None = None,
    streaming: bool = False,
    category: str | None = None,
    format: str | None = None,
    categories: Sequence[str] | None = None,
    defect_types: Sequence[str] | None = None,
    crowds: str = "auto",
    report: ReadReport | None = None,
) -> Dataset | IterableDataset:
    """Read a data set into the schema of `agssp.data.schema`.

    Args:
        source: a folder of images, with `metadata.jsonl` or without; a COCO .json or the folder around it; a YOLO
            folder, its data.yaml or obj.data; a Pascal VOC folder; images with labelme's JSON beside them; Label
            Studio's JSON or the folder around it; CVAT's annotations.xml or the folder around it; a Parquet file or
            folder; a `save_to_disk` folder; a Hub id `owner/name`; or a table that is open already.
        split: which split of a data set that has several: a subfolder, a split of data.yaml, a list in
            `ImageSets/Main`, a COCO file of that name, or a split of a table. Default: all images of a plain folder;
            of a labelled data set `train`, or the only one there is.
        streaming: give an `IterableDataset`; tables are read as they are needed.
        category: the object category of all images, where the layout does not tell.
        format: one of `FORMATS`; default: found out by looking.
        categories: all object categories in the wanted order; one that is not among them is an error.
        defect_types: all classes of boxes in the wanted order; one with boxes that is not among them is an error.
        crowds: what boxes marked as crowds are: `auto`, `ignore` or `objects`, see `resolve_crowds`.
        report: is filled with what was found, changed and left out; default: that is logged. Of a stream of a table its
            numbers grow with the rows that are read, and the first change of each kind is logged as it happens.

    Returns:
        Rows with `image` (still encoded), `image_id` (unique, stable: the path relative to the source), `category`,
        `is_normal`, and `mask` and `objects` (boxes COCO xywh in px of the upright image) where known, null where not.

    Raises:
        InputError: nothing there, no images, or files that contradict the layout; the file, line or row is named.
    """
    check_crowds(crowds)
    if format is not None and format not in FORMATS:
        raise InputError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    found = ReadReport() if report is None else report
    if isinstance(source, Dataset | IterableDataset):
        if split is not None or format is not None:
            raise InputError(f"{GIVEN}: is one table; `split` and `format` are for what is yet to be opened")
        found.image_notes, found.layout = begin_image_notes(), "table"
        found.streamed = isinstance(source, IterableDataset)
        rows = to_schema(source, GIVEN, category, found, defect_types, crowds)
        return _finished(rows, GIVEN, categories, defect_types, found, told=report is not None)
    if not isinstance(source, str | Path):
        raise InputError(
            f"a data set is given as {type(source).__name__}; expected a path, a Hub id, a `Dataset` or an "
            "`IterableDataset` (of a DatasetDict one of its splits)"
        )
    path = Path(source)
    name = format or (find_format(source) if not path.is_dir() else None)
    listing = Listing(path) if name is None or (path.is_dir() and name not in ("parquet", "saved", "hub")) else None
    name = name or layout_of(listing)  # type: ignore[arg-type]
    found.image_notes = begin_image_notes()
    found.layout = name
    if listing is not None:
        found.note_all("linked_folders", listing.links)
    if name in ("parquet", "saved", "hub"):
        found.streamed = streaming
        if listing is not None:
            found.note_all("unlisted", [name for name in listing.images if name not in listing.masks])
        table = load_table(str(source), name, split, streaming, found)
        dataset: Any = to_schema(table, str(source), category, found, defect_types, crowds, is_hub=name == "hub")
    else:
        if listing is not None:
            found.note_all("other_pictures", listing.with_suffix(*OTHER_PICTURES))
        with rare_collections():
            records, names = (
                _read_file(path, name, split, category, found)
                if listing is None
                else _read_folder(listing, name, split, category, found)
            )
            # Its names of all files are needed no more.
            del listing
            boxes = settle_boxes(StatedImages(records, found), found, crowds)
            dataset = to_dataset(records, boxes, str(source), names)
            del records
        _count(dataset, boxes, names, found)
        if streaming:
            dataset = dataset.to_iterable_dataset(num_shards=min(8, len(dataset)))
    return _finished(dataset, str(source), categories, defect_types, found, told=report is not None)


def _finished(
    dataset: Any, source: str, categories: Sequence[str] | None, defect_types: Sequence[str] | None,
    report: ReadReport, *, told: bool,
) -> Any:  # fmt: skip
    """The rows with the names that were asked for; what was found is logged unless somebody else tells it."""
    dataset = relabel(dataset, source, categories, defect_types, report)
    # What happens to the rows of a stream is told as they come.
    if not told and not report.streamed:
        report.log(source)
    return dataset


def _read_file(file: Path, name: str, split: str | None, category: str | None, report: ReadReport) -> Read:
    """Read a data set that a single file stands for: a table, which says where its images are."""
    if not file.is_file():
        raise InputError(f"{file}: expected a file or folder to read as {name!r}, there is none")
    if name == "coco":
        return read_coco(*locate_coco(file), category, report)
    if name == "yolo":
        return read_yolo(*locate_yolo(file), split, category, report)
    if name == "cvat":
        return read_cvat(*locate_table(file), category, report, split)
    if name == "label_studio":
        return read_label_studio(*locate_table(file), category, report)
    raise InputError(f"{file}: expected a folder to read as {name!r}")


def _read_folder(listing: Listing, name: str, split: str | None, category: str | None, report: ReadReport) -> Read:
    own_splits = name in ("coco", "yolo", "cvat", "voc", "labelme")
    if name == SPLITS or (split is not None and not own_splits):
        folder = choose_split_folder(listing, split, report)
        below = listing.below(folder)
        if layout_of(below) == "imagefolder":
            # Masks lie beside the splits, and what a split lacks tells of its folders.
            records = read_image_folder(listing, category, report)
            return [record for record in records if record.image_id.startswith(f"{folder}/")], None
        # Ids stay relative to the source, so that they are the same whichever split is read.
        report.layout = layout_of(below)
        found, names = _read_folder(below, report.layout, None, category, report)
        return MadeRecords(len(found), lambda number: _in_folder(folder, found[number])), names
    others = [other for other in (*labelled_layouts(listing), *labels_beside(listing)) if other != name]
    if name != "imagefolder":
        report.note_all("ignored_tables", [f"{other} in {listing.root}" for other in dict.fromkeys(others)])
    if name in BESIDE:
        beside, names = _read_beside(listing, name, split, category, report)
        _unknown_where_others_tell(listing, beside, [BESIDE[other] for other in others if other in BESIDE], report)
        return beside, names
    if name in ("coco", "label_studio"):
        report.note_all("unread_files", broken_tables(listing))
    if name == "coco":
        return read_coco(listing, choose_coco(listing, split, report), category, report)
    if name == "label_studio":
        return read_label_studio(listing, choose_label_studio(listing), category, report)
    if name == "cvat":
        return read_cvat(listing, choose_cvat(listing, split, report), category, report, split)
    if name == "metadata":
        return read_metadata_folder(listing, category, report), None
    report.note_all("unread_files", [f"{listing.path(file)} ({what})" for file, what in unread_labels(listing)])
    return read_image_folder(listing, category, report), None


def _in_folder(folder: str, record: ImageRecord) -> ImageRecord:
    return replace(record, image_id=f"{folder}/{record.image_id}")


def _read_beside(listing: Listing, name: str, split: str | None, category: str | None, report: ReadReport) -> Read:
    """Read a layout with a file of labels for each image."""
    if name == "voc":
        return read_voc(listing, category, report, split), None
    report.note_all("masks_aside", sorted(listing.masks))
    if name == "yolo":
        return read_yolo(listing, None, split, category, report)
    return read_labelme(listing, category, report, split), None


def _unknown_where_others_tell(
    listing: Listing, records: Sequence[ImageRecord], suffixes: Sequence[str], report: ReadReport
) -> None:
    """Of images without boxes that have a file of labels of another tool beside them nothing is known."""
    others = {posixpath.splitext(name)[0] for suffix in suffixes for name in listing.with_suffix(suffix)}
    for record in records:
        if record.labels is not None and not record.labels and posixpath.splitext(record.image_id)[0] in others:
            record.labels = None
            report.note("other_labels", record.image_id)
            report.take_back("no_label_file", record.image_id)


def _count(dataset: Dataset, boxes: BoxColumns, names: Sequence[str] | None, report: ReadReport) -> None:
    """Fill in the numbers of a report."""
    table = dataset.data
    normal = [pc.fill_null(pc.equal(table["is_normal"], said), False).to_numpy() for said in (True, False)]
    with_boxes, known = np.diff(boxes.starts) > 0, boxes.known
    report.images += len(dataset)
    report.with_mask = len(dataset) - table["mask"].null_count if "mask" in table.column_names else 0
    report.with_boxes += int(with_boxes.sum())
    report.sound += int((~with_boxes & ~normal[1] & (known | normal[0])).sum())
    report.unknown += int((~with_boxes & ~normal[1] & ~known & ~normal[0]).sum())
    report.crowds += int(boxes.crowds.sum())
    report.boxes |= dict.fromkeys(names or [], 0)
    report.boxes |= {name: report.boxes.get(name, 0) + len(places) for name, places in boxes.of_classes().items()}
