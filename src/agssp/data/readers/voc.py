"""Pascal VOC annotations (one XML file an image) as records."""

from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from agssp.data.readers.records import (
    Box,
    ImageRecord,
    ReadReport,
    clean_box,
    find_images,
    folder_category,
    list_files,
    read_text,
    readable_size,
)
from agssp.errors import InputError

ANNOTATION_FOLDERS = ("annotations",)
IMAGE_FOLDERS = ("images", "jpegimages")
MASK_FOLDERS = ("masks", "segmentationclass", "segmentationobject")


def is_voc(root: Path) -> bool:
    """Whether a folder looks like Pascal VOC: a folder of annotations with XML files."""
    folder = _subfolder(root, ANNOTATION_FOLDERS)
    return folder is not None and any(folder.rglob("*.xml"))


def split_list(root: Path, split: str) -> Path:
    """Where Pascal VOC lists the images of a split, one stem a line."""
    return root / "ImageSets" / "Main" / f"{split}.txt"


def read_voc(root: Path, category: str | None, report: ReadReport, split: str | None = None) -> list[ImageRecord]:
    """Read a Pascal VOC folder: images, `Annotations/*.xml` and, where there are any, masks of the same name.

    Names of the folders may be in any case, and both may have the same subfolders. VOC's corners are taken as pixel
    edges: a box from 1 to 10 is 9 px wide. An image without XML, or with none of its objects, is an image without
    boxes.

    Args:
        root: the folder that holds `Annotations`.
        category: the object category; default: the folder's name.
        report: gets the boxes that were changed, and XML files with no image or with several.
        split: read only what `ImageSets/Main/SPLIT.txt` lists.

    Raises:
        InputError: an XML file that cannot be read or lacks a box's name or corners, XML files of which none has an
            image, or names in the split's list that are not there; the file is named.
    """
    annotations = _subfolder(root, ANNOTATION_FOLDERS)
    if annotations is None:
        raise InputError(f"{root}: expected a folder Annotations with Pascal VOC XML files")
    images = _subfolder(root, IMAGE_FOLDERS) or root
    mask_folder = _subfolder(root, MASK_FOLDERS)
    xml_files = _by_name(annotations, [annotations / name for name in list_files(annotations) if name.endswith(".xml")])
    masks = _by_name(mask_folder, find_images(mask_folder)) if mask_folder else {}
    wanted = (
        None if split is None else {line.split()[0] for line in read_text(split_list(root, split)).split("\n") if line}
    )

    records, used = [], set()
    owners: dict[Path, list[str]] = defaultdict(list)
    for path in find_images(images):
        if mask_folder and path.is_relative_to(mask_folder):
            continue
        key = path.relative_to(images).with_suffix("").as_posix()
        xml = _match(key, xml_files)
        if xml is not None:
            used.add(xml)
        if wanted is not None and key not in wanted and path.stem not in wanted:
            continue
        boxes = read_boxes(xml, path, report) if xml else []
        if xml is not None and boxes:
            owners[xml].append(path.relative_to(root).as_posix())
        records.append(
            ImageRecord(
                path=path,
                image_id=path.relative_to(root).as_posix(),
                category=category or folder_category(root),
                mask=_match(key, masks),
                boxes=boxes,
            )
        )
    orphans = sorted({file for files in xml_files.values() for file in files} - used)
    if orphans and not used:
        raise InputError(f"{orphans[0]}: has no image of that name in {images}, nor has any other file beside it")
    report.orphans += map(str, orphans)
    report.share(owners)
    if wanted is not None and len(records) < len(wanted):
        missing = sorted(wanted - {Path(record.image_id).stem for record in records})
        raise InputError(
            f"{split_list(root, str(split))}: lists images that are not in {images}: {', '.join(missing[:3])}"
        )
    return records


def _subfolder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((path for path in sorted(root.iterdir()) if path.is_dir() and path.name.lower() in names), None)


def _by_name(root: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Files by their path below the root without suffix, and by their bare stem."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        for key in {file.relative_to(root).with_suffix("").as_posix(), file.stem}:
            found[key].append(file)
    return found


def _match(key: str, files: dict[str, list[Path]]) -> Path | None:
    """The file of the same relative name, else the only one of the same stem."""
    for name in (key, key.rsplit("/", 1)[-1]):
        if len(files.get(name, [])) == 1:
            return files[name][0]
    return None


def read_boxes(file: Path, image: Path, report: ReadReport) -> list[Box]:
    """The boxes of one XML file, clipped to their image; none where the image is damaged.

    Raises:
        InputError: the file cannot be read or lacks a box's name or corners; it is named.
    """
    try:
        tree = ElementTree.fromstring(file.read_bytes())
    except ElementTree.ParseError as error:
        raise InputError(f"{file}: not valid XML: {error}") from error
    except (ValueError, LookupError) as error:
        raise InputError(f"{file}: expected XML in UTF-8, got an encoding that cannot be read: {error}") from error
    objects = tree.findall("object")
    size = readable_size(image, report) if objects else None
    boxes = []
    for index, node in enumerate(objects):
        where = f"{file} object {index}"
        name = (node.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where}: has no name")
        corners = [node.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        try:
            left, top, right, bottom = map(float, corners)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: expected bndbox with numbers xmin, ymin, xmax, ymax, got {corners}") from error
        if size is not None:
            box = clean_box(Box((left, top, right - left, bottom - top), name), *size, where, report)
            if box is not None:
                boxes.append(box)
    return boxes
