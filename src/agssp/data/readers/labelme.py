"""labelme's JSON files beside their images as records."""

from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord
from agssp.data.readers.report import ReadReport


def is_labelme(listing: Listing) -> bool:
    """Whether JSON files of labelme lie beside the images of a folder."""
    return False


def read_labelme(listing: Listing, category: str | None, report: ReadReport) -> list[ImageRecord]:
    """Read them."""
    return []
