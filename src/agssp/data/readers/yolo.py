"""YOLO's layouts (`images/`, `labels/`, `data.yaml`; CVAT's and darknet's `obj.data`) as records."""

from pathlib import Path

from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord
from agssp.data.readers.report import ReadReport


def has_table(listing: Listing) -> bool:
    """Whether a folder has a table of YOLO data (a YAML table with `names`, or `obj.data`) and labels."""
    return False


def has_labels(listing: Listing) -> bool:
    """Whether a folder has YOLO's text files of labels for its images, without a table."""
    return False


def locate_yolo(file: Path) -> tuple[Listing, str]:
    """The folder of the data that a table given by itself belongs to, and the table's path."""
    return Listing(file.parent), file.name


def read_yolo(
    listing: Listing, table: str | None, split: str | None, category: str | None, report: ReadReport
) -> tuple[list[ImageRecord], list[str]]:
    """Read it."""
    return [], []
