"""CVAT for images 1.1 (one XML file of many images) as records."""

from pathlib import Path

from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord
from agssp.data.readers.report import ReadReport


def is_cvat(file: Path) -> bool:
    """Whether an XML file is one of CVAT for images: its outermost element is `annotations`."""
    return False


def find_cvat(listing: Listing) -> list[str]:
    """CVAT's XML files in a folder."""
    return []


def choose_cvat(listing: Listing) -> str:
    """CVAT's XML file of a folder."""
    return find_cvat(listing)[0]


def read_cvat(
    listing: Listing, name: str, category: str | None, report: ReadReport
) -> tuple[list[ImageRecord], list[str]]:
    """Read it."""
    return [], []
