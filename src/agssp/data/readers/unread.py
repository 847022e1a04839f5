"""Files of labels that are not read as they lie there: what they are, and what to do with them."""

import posixpath
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from agssp.data.readers.coco import is_coco
from agssp.data.readers.label_studio import is_label_studio
from agssp.data.readers.listing import IMAGE_SUFFIXES, Listing
from agssp.data.readers.voc_files import ANNOTATION_FOLDERS, in_folder
from agssp.data.readers.xml_files import root_tag

YOLO_LABELS = "labels/a.txt for images/a.jpg, or a.txt beside a.jpg"
CONVERT = "export COCO, or CVAT for images, from the tool, or convert it with `datumaro convert`"
SUPERVISELY = "Supervisely JSON, which is not read; export COCO from Supervisely (its app `Export to COCO`)"
_SNIFFED = 20
# Of all JSON files together that are looked into, so that no folder takes long.
_MOST_BYTES = 64 * 1024**2
_TABLES = (".tfrecord", ".record", ".tfrecords", ".mat", ".ndjson", ".h5", ".manifest")
_LINE = 10_000
_CELLS = re.compile(r"[,;\t|]+| +")
_NUMBER = re.compile(r"-?\d+(\.\d*)?")
# Names of columns: of a side or corner of a box, of an image, of its label.
_SIDE = re.compile(
    r"(?:(?:bbox|box|roi)[._-]?)?(?:[xy][._-]?(?:min|max|[12]|tl|br|c|center)?|w|width|h|height|left|top|right|bottom)"
)
_OF_IMAGE = ("file", "image", "img", "path", "name")
_OF_LABEL = {"label", "labels", "class", "classes", "class_id", "classid", "category", "defect", "target"}


def unread_labels(listing: Listing) -> list[tuple[str, str]]:
    """Files that look like labels in a form that is not read: the first of each kind, and what it is and what to do."""
    found: dict[str, str] = {}
    for name, what in _looked_at(listing):
        if what not in found.values():
            found[name] = what
    return list(found.items())


def what_lies_there(listing: Listing) -> str:
    """Files of a folder that look like labels, and how to give each; empty where there are none."""
    unread = dict(unread_labels(listing))
    told = [f"{listing.path(name)} is {what}" for name, what in unread.items()]
    told += [f"{listing.path(name)}: {how}" for name, how in _near_misses(listing) if name not in unread]
    return f"there lies {'; '.join(told)}" if told else ""


def _looked_at(listing: Listing) -> Iterator[tuple[str, str]]:
    stems = {stem for name in listing.images for stem in (name, posixpath.splitext(name)[0])}
    for name, content in _small_json(listing, _SNIFFED):
        if what := kind_of_json(content, name) or _kind_elsewhere(content):
            yield name, what
        elif posixpath.splitext(name)[0] in stems and not (isinstance(content, dict) and "shapes" in content):
            told = f"JSON of a form that is not read ({_keys(content)})"
            yield name, "no valid JSON" if content is None else f"{told}; {CONVERT}"
    for suffix in (".csv", ".tsv", ".txt"):
        for name in islice(listing.with_suffix(suffix), _SNIFFED):
            if what := _kind_of_table(listing.path(name)):
                yield name, what
    for name in islice(listing.with_suffix(".xml"), _SNIFFED):
        tag = root_tag(listing.path(name))
        like_labels = (
            posixpath.splitext(name)[0] in stems
            or in_folder(name, ANNOTATION_FOLDERS)
            or posixpath.basename(name).lower().startswith("annotation")
        )
        if tag == "annotations":
            yield name, "CVAT's; give the file itself as the data set"
        elif tag != "annotation" and like_labels:
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


def _kind_elsewhere(content: Any) -> str | None:
    """What is read, but not where it lies or not in this part."""
    if is_coco(content):
        return "COCO; give the file itself as the data set"
    if is_label_studio(content):
        return "Label Studio's; give the file itself as the data set"
    if isinstance(content, dict) and (
        {"data", "annotations"} <= content.keys() or {"task", "result"} <= content.keys()
    ):
        return "one task of Label Studio, which is not read; export the whole project as `JSON`"
    return None


def _kind_of_table(file: Path) -> str | None:
    """What a text of rows is, told by its first line: the names of its columns, or an image and numbers."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            cells = [cell.strip(" \"'\n") for cell in _CELLS.split(lines.readline(_LINE))]
    except (UnicodeDecodeError, OSError):
        return None
    header = {cell.lower() for cell in cells}
    how = "which is not read; write it as metadata.jsonl (see README)"
    if {"region_shape_attributes", "filename"} <= header:
        return "VIA's CSV, which is not read; export `COCO format` from VIA"
    if "encodedpixels" in header:
        return "a CSV of run lengths, which is not read; convert it to COCO (pycocotools.mask.frPyObjects)"
    if {"annotation_id", "annotator"} <= header:
        return "Label Studio's CSV, which is not read; export the project as `JSON`"
    # A text may be prose.
    is_table = file.suffix.lower() != ".txt"
    sides = sum(_SIDE.fullmatch(word) is not None for word in header)
    of_image = any(part in word for word in header for part in _OF_IMAGE)
    of_numbers = sum(_NUMBER.fullmatch(cell) is not None for cell in cells[1:]) > 3
    named = posixpath.splitext(cells[0])[1].lower() in IMAGE_SUFFIXES
    if (is_table and ("bbox" in header or (sides > 3 and of_image))) or (named and of_numbers):
        return f"a CSV of boxes, {how}, or {CONVERT}"
    return f"a CSV of labels, {how}" if is_table and of_image and header & _OF_LABEL else None


def _keys(content: Any) -> str:
    """The first keys of a JSON file, in words."""
    return (", ".join(list(content)[:5]) or "nothing in it") if isinstance(content, dict) else type(content).__name__


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
    lines = (name for name in listing.with_suffix(".jsonl") if posixpath.basename(name) != "metadata.jsonl")
    for name in islice(lines, 1):
        yield name, "if each line is an image and its labels, call it metadata.jsonl and name images `file_name`"
    for name in islice(listing.with_suffix(".json"), 1):
        if listing.path(name).stat().st_size > _MOST_BYTES:
            yield name, "is JSON; if it is COCO or Label Studio's, give the file itself as the data set"
            continue
        content = listing.json(name)
        if content is None:
            yield name, "is no valid JSON"
        elif not (kind_of_json(content, name) or (isinstance(content, dict) and "shapes" in content)):
            what = f"is JSON with {_keys(content)}"
            yield name, f"{what}; if it is COCO or Label Studio's, give the file itself as the data set"
