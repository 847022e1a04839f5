"""A folder whose `metadata.jsonl` files list its images, as records."""

import posixpath

from agssp.data.readers.folder_masks import is_mask
from agssp.data.readers.listing import Listing, read_text
from agssp.data.readers.objects import LABEL_FIELDS, labels_of
from agssp.data.readers.records import ImageRecord, folder_category, stated_size
from agssp.data.readers.report import ReadReport
from agssp.errors import InputError
from agssp.parsing import parse_json

TABLE = "metadata.jsonl"
MOST_BYTES = 1024**3
"""Of a table: a million images with ten boxes each have less."""
_LARGER = "put parts of the images into folders of their own, each with its table, or write Parquet"


def read_metadata_folder(listing: Listing, category: str | None, report: ReadReport) -> list[ImageRecord]:
    """Read a folder with one or more `metadata.jsonl`.

    Each line is a JSON object with `file_name` and, where known, `category`, `is_normal`, `mask_file_name`, `width` and
    `height` (px of the image that the boxes are for), and `objects` in a form of `labels_of`: {"bbox": [[x, y, w, h],
    ...], "category": [name, ...], "score": [...], "iscrowd": [...]}, the last two where wanted, boxes in absolute px.
    Names of files are relative to the table.

    Raises:
        InputError: a table of more than `MOST_BYTES`, a line that is no JSON object, lacks `file_name`, names a file
            that is missing, or whose values do not fit; file and line are named.
    """
    tables = [name for name in listing.files if posixpath.basename(name).lower() == TABLE]
    report.labels_from = report.labels_from or next(iter(tables), "")
    lines = [
        (posixpath.dirname(name), f"{listing.path(name)}:{number}", line)
        for name in tables
        for number, line in enumerate(read_text(listing.path(name), MOST_BYTES, _LARGER).split("\n"), 1)
        if line.strip()
    ]
    alone = len(lines) == 1
    records = [_record(listing, folder, where, line, category, report, alone) for folder, where, line in lines]
    listed = {record.image_id for record in records}
    masks = {record.mask for record in records}
    for name in listing.images:
        if name not in listed and listing.path(name) not in masks and not is_mask(name):
            report.note("unlisted", name)
    return records


def _record(
    listing: Listing, folder: str, where: str, line: str, category: str | None, report: ReadReport, alone: bool
) -> ImageRecord:
    try:
        row = parse_json(line, where)
    except InputError as error:
        raise InputError(f"{error}; expected one object a line, each for one image") from error
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise InputError(f"{where}: expected an object with a `file_name`, got {line[:80]!r}")
    is_normal = row.get("is_normal")
    if is_normal is not None and not isinstance(is_normal, bool):
        raise InputError(f"{where}: `is_normal` must be true, false or null, got {is_normal!r}")
    own_category = row.get("category")
    if own_category is not None and not isinstance(own_category, str):
        raise InputError(f"{where}: `category` must be the name of the object, got {own_category!r}")
    report.note_all("unread_fields", [f"{name} ({where})" for name in row if name.lower() in LABEL_FIELDS])
    name = listing.find(row["file_name"], where, report, (folder,), alone=alone)
    mask = None
    if row.get("mask_file_name"):
        # A mask often has the name of its image, which is not to be taken for it.
        mask = listing.find(str(row["mask_file_name"]), where, report, (folder,), alone=True)
    return ImageRecord(
        path=listing.path(name),
        image_id=name,
        category=category or own_category or folder_category(listing.root),
        is_normal=is_normal,
        mask=None if mask is None else listing.path(mask),
        labels=labels_of(row.get("objects"), where, report),
        stated_size=stated_size(row.get("width"), row.get("height")),
    )
