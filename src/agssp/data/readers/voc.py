"""Pascal VOC annotations (one XML file an image) as records."""

from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord
from agssp.data.readers.report import ReadReport

ANNOTATION_FOLDERS = ("annotations",)
IMAGE_FOLDERS = ("images", "jpegimages")
MASK_FOLDERS = ("masks", "segmentationclass", "segmentationobject")


def is_voc(listing: Listing, beside: bool = False) -> bool:
    """Whether a folder has a folder of VOC's XML files; or, with `beside`, XML files beside its images."""
    return False


def voc_lists(listing: Listing) -> dict[str, str]:
    """Lists of images of each split in `ImageSets/Main`, by the split's name."""
    return {}


def read_voc(listing: Listing, category: str | None, report: ReadReport, split: str | None = None) -> list[ImageRecord]:
    """Read it."""
    return []
