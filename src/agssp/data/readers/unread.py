"""Files of labels that are not read as they lie there: what they are, and what to do with them."""

import posixpath
import re
from collections.abc import Container, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from agssp.data.readers.coco import is_coco
from agssp.data.readers.json_rows import is_list
from agssp.data.readers.label_studio import is_label_studio
from agssp.data.readers.listing import IMAGE_SUFFIXES, Listing, decode_text
from agssp.data.readers.metadata import TABLE
from agssp.data.readers.voc_files import ANNOTATION_FOLDERS, in_folder
from agssp.data.readers.xml_files import root_tag
from agssp.data.readers.yolo_labels import looks_like_labels
from agssp.faults import raise_storage_fault

YOLO_LABELS = "labels/a.txt for images/a.jpg, or a.txt beside a.jpg"
YOLO_WITHOUT = (
    "like a label file of YOLO, without an image of its own or names of classes; if it is one, add a data.yaml with "
    f"`names`, or a classes.txt with one name a line, and put labels so: {YOLO_LABELS}"
)
CONVERT = "export COCO, or CVAT for images, from the tool, or convert it with `datumaro convert`"
SUPERVISELY = "Supervisely JSON, which is not read; export COCO from Supervisely (its app `Export to COCO`)"
BROKEN_JSON = "no valid JSON in UTF-8 or UTF-16; export it again, or save it in UTF-8"
_SNIFFED = 20
# Of all JSON files together that are looked into, so that no folder takes long.
_MOST_BYTES = 64 * 1024**2
_TABLES = (
    ".tfrecord",
    ".record",
    ".tfrecords",
    ".mat",
    ".ndjson",
    ".h5",
    ".manifest",
    ".xlsx",
    ".xls",
    ".ods",
    ".pkl",
    ".npz",
)
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
_NAMED = re.compile(r"annotation|label|instances|coco|export|(^|[._-])via([._-]|$)", re.IGNORECASE)
_BOX_KEYS = {
    "annotations", "annotation", "bbox", "bboxes", "bounding_box", "bounding_boxes", "boundingbox", "box", "boxes",
    "labels", "objects", "polygon", "regions", "segmentation",
}  # fmt: skip
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
        is_labelme = isinstance(content, dict) and isinstance(content.get("shapes"), list)
        if what := kind_of_json(content, name) or _kind_elsewhere(content):
            yield name, what
        elif content is None and (posixpath.splitext(name)[0] in stems or _named_like_labels(name)):
            yield name, BROKEN_JSON
        elif not is_labelme and (posixpath.splitext(name)[0] in stems or _speaks_of_boxes(content)):
            yield name, f"JSON of a form that is not read ({_keys(content)}); {CONVERT}"
    own = {posixpath.basename(stem) for stem in stems}
    for suffix in (".csv", ".tsv", ".txt"):
        for name in islice(listing.with_suffix(suffix), _SNIFFED):
            if suffix == ".txt" and _is_label_file(listing, name, own):
                yield name, YOLO_WITHOUT
            elif what := _kind_of_table(listing.path(name), own):
                yield name, what
    for name in islice(listing.with_suffix(".jsonl"), _SNIFFED):
        if posixpath.basename(name).lower() != TABLE:
            yield (
                name,
                f"lines of JSON; if each is an image and its labels, call it {TABLE} and name images `file_name`",
            )
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
    for suffix in _ARCHIVES:
        for name in islice(listing.with_suffix(suffix), 1):
            yield name, "an archive, which is not read; unpack it"


def _small_json(listing: Listing, most: int) -> Iterator[tuple[str, Any]]:
    """The first JSON files and their content, as long as they are not too large to be looked into."""
    left = _MOST_BYTES
    for name in islice(listing.with_suffix(".json"), most):
        left -= listing.path(name).stat().st_size
        if left < 0:
            return
        yield name, listing.json(name)


def broken_tables(listing: Listing) -> list[str]:
    """JSON files beside the tables of labels that are called like one and are none, as they are told in the report."""
    names = (name for name, content in _small_json(listing, _SNIFFED) if content is None and _named_like_labels(name))
    return [f"{listing.path(name)} ({BROKEN_JSON})" for name in names]


def _named_like_labels(name: str) -> bool:
    return _NAMED.search(posixpath.basename(name)) is not None or in_folder(name, ANNOTATION_FOLDERS)


def _speaks_of_boxes(content: Any, depth: int = 4) -> bool:
    """Whether a value that is not empty stands under a key like `bbox`, some levels deep."""
    if isinstance(content, dict):
        entries = list(islice(content.items(), _SNIFFED))
        return any(
            str(key).lower() in _BOX_KEYS and (is_list(value) or isinstance(value, dict)) and value
            for key, value in entries
        ) or (depth > 0 and any(_speaks_of_boxes(value, depth - 1) for _, value in entries))
    return (
        is_list(content)
        and depth > 0
        and any(_speaks_of_boxes(value, depth - 1) for value in islice(content, _SNIFFED))
    )


def kind_of_json(content: Any, name: str) -> str | None:
    """What the content of a JSON file of labels is and what to do with it; None for what is read, or is no labels."""
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and {"image_id", "bbox"} <= first.keys() and "score" in first:
        return "COCO's list of what a detector found, which is no labels; give the COCO file of the labels"
    if isinstance(content, dict) and "annotations" in content and len({"images", "categories"} & content.keys()) == 1:
        lacks = "categories" if "images" in content else "images"
        return f"like COCO, but without its list `{lacks}`; export it again"
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


def _is_label_file(listing: Listing, name: str, stems: Container[str]) -> bool:
    """Whether a text begins with numbers as YOLO's do, and lies in a folder or is called like an image."""
    is_named = "/" in name or posixpath.splitext(name)[0] in stems
    return is_named and bool(looks_like_labels(listing.path(name)))


def _kind_of_table(file: Path, stems: Container[str] = ()) -> str | None:
    """What a text of rows is, told by its first line: the names of its columns, or an image and numbers.

    Args:
        file: the text.
        stems: names of images, with suffix and without: a table whose second line names one is one of labels.
    """
    try:
        with file.open("rb") as opened:
            lines = decode_text(opened.read(2 * _LINE), errors="replace").splitlines()
    except OSError as error:
        raise_storage_fault(error, file)
        return None
    cells, second = ([cell.strip(" \"'\r\n") for cell in _CELLS.split(line)] for line in [*lines, "", ""][:2])
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
    of_named = any(posixpath.basename(cell) in stems for cell in second if cell and not _NUMBER.fullmatch(cell))
    if is_table and ((of_image and header & _OF_LABEL) or (len(cells) > 1 and of_named)):
        return f"a CSV of labels, {how}"
    like_rows = len(cells) > 4 and of_numbers and in_folder(file.as_posix(), (*ANNOTATION_FOLDERS, "labeltxt"))
    return f"rows of numbers in a form that is not read; {CONVERT}" if not is_table and like_rows else None


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
