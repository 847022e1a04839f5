"""Files of labels that are not read as they lie there: what they are, and what to do with them."""

import csv
import posixpath
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from agssp.data.readers.listing import Listing
from agssp.data.readers.voc_files import ANNOTATION_FOLDERS, in_folder
from agssp.data.readers.xml_files import root_tag

YOLO_LABELS = "labels/a.txt for images/a.jpg, or a.txt beside a.jpg"
CONVERT = "export COCO, or CVAT for images, from the tool, or convert it with `datumaro convert`"
SUPERVISELY = "Supervisely JSON, which is not read; export COCO from Supervisely (its app `Export to COCO`)"
_SNIFFED = 20
# Of all JSON files together that are looked into, so that no folder takes long.
_MOST_BYTES = 64 * 1024**2
_TABLES = {".tfrecord", ".record", ".tfrecords", ".mat", ".ndjson", ".h5"}


def unread_labels(listing: Listing) -> list[tuple[str, str]]:
    """Files that look like labels in a form that is not read: the first of each kind, and what it is and what to do."""
    found: dict[str, str] = {}
    for name, what in _looked_at(listing):
        if what not in found.values():
            found[name] = what
    return list(found.items())


def what_lies_there(listing: Listing) -> str:
    """Files of a folder that look like labels, and how to give each; empty where there are none."""
    told = [f"{listing.path(name)} is {what}" for name, what in unread_labels(listing)]
    told += [f"{listing.path(name)}: {how}" for name, how in _near_misses(listing)]
    return f"there lies {'; '.join(told)}" if told else ""


def _looked_at(listing: Listing) -> Iterator[tuple[str, str]]:
    for name, content in _small_json(listing, _SNIFFED):
        if what := kind_of_json(content, name):
            yield name, what
    for name in islice(listing.with_suffix(".csv"), _SNIFFED):
        if what := _kind_of_csv(listing.path(name)):
            yield name, what
    stems = {posixpath.splitext(name)[0] for name in listing.images}
    like_labels = (
        name
        for name in listing.with_suffix(".xml")
        if posixpath.splitext(name)[0] in stems or in_folder(name, ANNOTATION_FOLDERS)
    )
    for name in islice(like_labels, _SNIFFED):
        tag = root_tag(listing.path(name))
        if tag not in ("annotation", "annotations"):
            yield name, f"XML of a form that is not read (`{tag or 'no XML'}`); {CONVERT}"
    for suffix in _TABLES:
        for name in islice(listing.with_suffix(suffix), 1):
            yield name, f"a {suffix} file, which is not read; export COCO from the tool that wrote it"


def _small_json(listing: Listing, most: int) -> Iterator[tuple[str, Any]]:
    """The first JSON files and their content, as long as they are not too large to be looked into."""
    left = _MOST_BYTES
    for name in islice(listing.with_suffix(".json"), most):
        left -= listing.path(name).stat().st_size
        if left < 0:
            return
        yield name, listing.json(name)


def kind_of_json(content: Any, name: str) -> str | None:
    """What the content of a JSON file of labels is and what to do with it; None for what is read, or is no labels."""
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and "image" in first and isinstance(first.get("annotations"), list):
        return f"CreateML JSON, which is not read; {CONVERT}"
    if isinstance(first, dict) and ({"data_row", "projects"} <= first.keys() or "External ID" in first):
        return f"Labelbox JSON, which is not read; {CONVERT}"
    if isinstance(first, dict) and "name" in first and isinstance(first.get("labels"), list):
        return f"Scalabel (BDD100K) JSON, which is not read; {CONVERT}"
    if not isinstance(content, dict):
        return None
    values = [value for value in islice(content.values(), 3) if isinstance(value, dict)]
    if (
        "_via_img_metadata" in content
        or {"attribute", "file", "metadata"} <= content.keys()
        or any("regions" in value and "filename" in value for value in values)
    ):
        return f"VIA (VGG Image Annotator) JSON, which is not read; export `COCO format` from VIA, or {CONVERT}"
    if isinstance(content.get("items"), list) and "categories" in content:
        return f"Datumaro JSON, which is not read; {CONVERT} to `coco`"
    if isinstance(content.get("objects"), list) and "size" in content:
        return SUPERVISELY
    if isinstance(content.get("classes"), list) and posixpath.basename(name) == "meta.json":
        return SUPERVISELY
    return None


def _kind_of_csv(file: Path) -> str | None:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            header = {word.strip().lower() for word in next(csv.reader(lines), [])}
    except (UnicodeDecodeError, csv.Error, OSError):
        return None
    if {"region_shape_attributes", "filename"} <= header:
        return "VIA's CSV, which is not read; export `COCO format` from VIA"
    if "encodedpixels" in header:
        return "a CSV of run lengths, which is not read; convert it to COCO (pycocotools.mask.frPyObjects)"
    if {"xmin", "ymin", "xmax", "ymax"} <= header or "bbox" in header:
        return f"a CSV of boxes, which is not read; write it as metadata.jsonl (see README), or {CONVERT}"
    return None


def _near_misses(listing: Listing) -> Iterator[tuple[str, str]]:
    """Files that are read where something is added, or where they are named themselves."""
    for suffix in (".yaml", ".yml"):
        for name in islice(listing.with_suffix(suffix), 1):
            yield name, f"if it is YOLO's table, it needs `names` and label files: {YOLO_LABELS}"
    names = [name for name in listing.files if posixpath.basename(name).lower() in ("obj.names", "obj.data")]
    if names:
        yield names[0], f"is of YOLO 1.1 (darknet), of which no label file was found: {YOLO_LABELS}"
    texts = [
        name for name in listing.with_suffix(".txt") if posixpath.basename(posixpath.dirname(name)).lower() == "labels"
    ]
    if texts:
        yield (
            texts[0],
            "if these are YOLO's labels, add a data.yaml with `names`, or a classes.txt with one name a line",
        )
    for name in islice((name for name in listing.with_suffix(".xml")), 1):
        tag = root_tag(listing.path(name))
        if tag == "annotation":
            yield name, "is Pascal VOC; put it beside its image, or into a folder Annotations beside the images' folder"
        elif tag == "annotations":
            yield name, "is CVAT's; give the file itself as the data set"
    for name in islice(listing.with_suffix(".json"), 1):
        if listing.path(name).stat().st_size > _MOST_BYTES:
            yield name, "is JSON; if it is COCO or Label Studio's, give the file itself as the data set"
            continue
        content = listing.json(name)
        if content is None:
            yield name, "is no valid JSON"
        elif kind_of_json(content, name) is None:
            keys = ", ".join(list(content)[:5]) if isinstance(content, dict) else type(content).__name__
            what = f"is JSON with {keys or 'nothing in it'}"
            yield name, f"{what}; if it is COCO or Label Studio's, give the file itself as the data set"
