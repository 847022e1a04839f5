"""Pascal VOC annotations (one XML file an image) as records."""

from pathlib import Path
from xml.etree import ElementTree

from agssp.data.images import ImageError, image_size
from agssp.data.readers.records import Box, ImageRecord, ReadReport, clean_box, find_images
from agssp.errors import InputError

ANNOTATION_FOLDERS = ("annotations",)
IMAGE_FOLDERS = ("images", "jpegimages")
MASK_FOLDERS = ("masks", "segmentationclass", "segmentationobject")


def is_voc(root: Path) -> bool:
    """Whether a folder looks like Pascal VOC: a folder of annotations with XML files."""
    folder = _subfolder(root, ANNOTATION_FOLDERS)
    return folder is not None and any(folder.glob("*.xml"))


def read_voc(root: Path, category: str | None, report: ReadReport) -> list[ImageRecord]:
    """Read a Pascal VOC folder: images, `Annotations/*.xml` and, where there are any, masks of the same stem.

    Names of the folders may be in any case. VOC's corners are taken as pixel edges: a box from 1 to 10 is 9 px wide.
    An image without XML is an image without boxes.

    Raises:
        InputError: an XML file that cannot be read, lacks a box's corners, or has no image; the file is named.
    """
    annotations = _subfolder(root, ANNOTATION_FOLDERS)
    if annotations is None:
        raise InputError(f"{root}: expected a folder Annotations with Pascal VOC XML files")
    images = _subfolder(root, IMAGE_FOLDERS) or root
    mask_folder = _subfolder(root, MASK_FOLDERS)
    masks = {path.stem: path for path in find_images(mask_folder)} if mask_folder else {}
    xml_files = {path.stem: path for path in sorted(annotations.glob("*.xml"))}

    records, used = [], set()
    for path in find_images(images):
        if mask_folder and path.is_relative_to(mask_folder):
            continue
        xml = xml_files.get(path.stem)
        used.add(path.stem)
        records.append(
            ImageRecord(
                path=path,
                image_id=path.relative_to(root).as_posix(),
                category=category or root.absolute().name,
                mask=masks.get(path.stem),
                boxes=_read_boxes(xml, path, report) if xml else [],
            )
        )
    orphans = sorted(set(xml_files) - used)
    if orphans:
        raise InputError(f"{xml_files[orphans[0]]}: has no image of that name in {images} ({len(orphans)} such files)")
    return records


def _subfolder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((path for path in sorted(root.iterdir()) if path.is_dir() and path.name.lower() in names), None)


def _read_boxes(file: Path, image: Path, report: ReadReport) -> list[Box]:
    try:
        tree = ElementTree.fromstring(file.read_bytes())
    except ElementTree.ParseError as error:
        raise InputError(f"{file}: not valid XML: {error}") from error
    objects = tree.findall("object")
    if not objects:
        return []
    try:
        width, height = image_size(image, str(image))
    except ImageError:
        # A damaged image is skipped and counted where it is decoded; without its size its boxes mean nothing.
        return []
    boxes = []
    for index, node in enumerate(objects):
        where = f"{file} object {index}"
        name = (node.findtext("name") or "").strip()
        try:
            left, top, right, bottom = (
                float(node.findtext(f"bndbox/{corner}") or "missing") for corner in ("xmin", "ymin", "xmax", "ymax")
            )
        except ValueError as error:
            raise InputError(f"{where}: expected bndbox with xmin, ymin, xmax, ymax: {error}") from error
        if not name:
            raise InputError(f"{where}: has no name")
        box = clean_box(Box((left, top, right - left, bottom - top), name), width, height, where, report)
        if box is not None:
            boxes.append(box)
    return boxes
