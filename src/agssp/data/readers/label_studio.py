"""Label Studio's JSON tasks as records."""

from typing import Any

from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord
from agssp.data.readers.report import ReadReport


def is_label_studio(content: Any) -> bool:
    """Whether the content of a JSON file is Label Studio's: a list of tasks."""
    return False


def find_label_studio(listing: Listing) -> list[str]:
    """Label Studio's JSON files in a folder."""
    return []


def choose_label_studio(listing: Listing) -> str:
    """Label Studio's JSON file of a folder."""
    return find_label_studio(listing)[0]


def read_label_studio(
    listing: Listing, name: str, category: str | None, report: ReadReport
) -> tuple[list[ImageRecord], list[str] | None]:
    """Read it."""
    return [], None
