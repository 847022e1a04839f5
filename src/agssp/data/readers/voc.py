"""Pascal VOC annotations (one XML file an image) as records."""

import math
import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from xml.etree.ElementTree import Element

from agssp.data.readers.folder_masks import is_mask
from agssp.data.readers.listing import Listing, read_text
from agssp.data.readers.records import ImageRecord, Label, folder_category, stated_size
from agssp.data.readers.report import ReadReport
from agssp.data.readers.shapes import XYWH, box_of_points, rotated_box
from agssp.data.readers.splits import default_split, same_split, split_named
from agssp.data.readers.xml_files import read_xml, root_tag
from agssp.errors import InputError

ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "xml", "xmls")
MASK_FOLDERS = ("masks", "segmentationclass", "segmentationobject")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SNIFFED = 5
# A list of one class has, behind each name, whether the image shows that class: 1, -1, or 0 where it is hard to tell.
_MEMBERSHIP = re.compile(r"\s+-?[01]$")


def is_voc(listing: Listing, beside: bool = False) -> bool:
    """Whether a folder has a folder of VOC's XML files; or, with `beside`, XML files beside its images."""
    files = listing.with_suffix(".xml") if beside else _xml_files(listing)
    return any(root_tag(listing.path(name)) == "annotation" for name in islice(files, _SNIFFED))


def voc_lists(listing: Listing) -> dict[str, str]:
    """Lists of images of each split in `ImageSets/Main` (or `ImageSets`), by the split's name; not those of a class."""
    found: dict[str, str] = {}
    for name in listing.with_suffix(".txt"):
        folder, stem = posixpath.dirname(name).lower(), posixpath.splitext(posixpath.basename(name))[0]
        if folder in ("imagesets/main", "imagesets", "imagesets/segmentation") and "_" not in stem:
            found.setdefault(stem, name)
    return found


def read_voc(listing: Listing, category: str | None, report: ReadReport, split: str | None = None) -> list[ImageRecord]:
    """Read a Pascal VOC folder: images, XML files and, where there are any, masks of the same name.

    The XML of an image has its name, in the same subfolder of `Annotations` (or `labels`) or beside it; else it is the
    only one of that name, or the one that names the image as its `filename`. VOC's corners are taken as pixel edges: a
    box from 1 to 10 is 9 px wide. A rotated box becomes the upright one around it. An image without XML, or with none
    of its objects, is an image without boxes; where no image has any, nothing is known.

    Args:
        listing: of the folder.
        category: the object category; default: the folder's name.
        report: gets a note of what was changed or left out.
        split: read only what the list of this split in `ImageSets/Main` names; default: that for training, where there
            are lists.

    Raises:
        InputError: an XML file that cannot be read or lacks a box's name or corners, XML files of which none has an
            image, or names in the split's list that are not there; the file is named.
    """
    xml_files = _xml_files(listing) or listing.with_suffix(".xml")
    files = _by_name(xml_files, ANNOTATION_FOLDERS)
    images = [name for name in listing.images if not is_mask(name) and not _in_folder(name, MASK_FOLDERS)]
    masks = _by_name([name for name in listing.images if _in_folder(name, MASK_FOLDERS) or is_mask(name)], MASK_FOLDERS)
    chosen = _listed(listing, split, images, report)
    xml_of = {name: found for name in images if (found := _match(name, files))}
    named = _match_by_filename(
        listing, [name for name in xml_files if name not in set(xml_of.values())], images, report
    )
    xml_of |= {image: file for image, file in named.items() if image not in xml_of}
    orphans = [name for name in xml_files if name not in set(xml_of.values())]
    if orphans and not xml_of:
        raise InputError(
            f"{listing.path(orphans[0])}: has no image of that name in {listing.root}, nor has any other file beside it"
        )
    report.note_all("orphans", [str(listing.path(name)) for name in orphans])

    records = []
    owners: dict[Path, list[str]] = defaultdict(list)
    object_category = category or folder_category(listing.root)
    for name in images:
        if chosen is not None and name not in chosen:
            continue
        file = xml_of.get(name)
        labels, size = ([], None) if file is None else read_objects(listing.path(file), report)
        if labels and file is not None:
            owners[listing.path(file)].append(name)
        mask = _match(name, masks)
        records.append(
            ImageRecord(
                path=listing.path(name),
                image_id=name,
                category=object_category,
                mask=None if mask is None else listing.path(mask),
                labels=labels if xml_of else None,
                stated_size=size,
            )
        )
    report.share(owners)
    report.labels_from = min(xml_of.values(), default="")
    report.with_label_file = sum(record.image_id in xml_of for record in records)
    if xml_of:
        report.note_all("no_label_file", [record.image_id for record in records if record.image_id not in xml_of])
    return records


def read_objects(file: Path, report: ReadReport) -> tuple[list[Label], tuple[float, float] | None]:
    """The boxes of one XML file, in px of the (width, height) that it states, which come second.

    Raises:
        InputError: the file cannot be read or lacks a box's name or corners; it is named.
    """
    tree = read_xml(file)
    if tree.tag != "annotation":
        raise InputError(f"{file}: expected Pascal VOC, whose outermost element is `annotation`, got `{tree.tag}`")
    labels = []
    for index, node in enumerate(tree.findall("object")):
        where = f"{file} object {index}"
        name = (node.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where}: has no name")
        labels.append(Label(_bbox(node, where, report), name, where))
    return labels, stated_size(tree.findtext("size/width"), tree.findtext("size/height"))


def _bbox(node: Element, where: str, report: ReadReport) -> XYWH:
    rotated, polygon = node.find("robndbox"), node.find("polygon")
    try:
        if node.find("bndbox") is None and rotated is not None:
            # Centre, size and an angle in radians.
            cx, cy, w, h, angle = (float(rotated.findtext(key) or "") for key in ("cx", "cy", "w", "h", "angle"))
            report.note("rotated", where)
            return rotated_box((cx - w / 2, cy - h / 2, w, h), math.degrees(angle))
        if node.find("bndbox") is None and polygon is not None:
            report.note("outlines", where)
            return box_of_points(_polygon(polygon))
        left, top, right, bottom = (float(node.findtext(f"bndbox/{corner}") or "") for corner in CORNERS)
    except ValueError as error:
        found = [node.findtext(f"bndbox/{corner}") for corner in CORNERS]
        raise InputError(f"{where}: expected bndbox with numbers xmin, ymin, xmax, ymax, got {found}") from error
    if turn := _rotation(node, where):
        report.note("rotated", where)
        x, y, w, h = min(left, right), min(top, bottom), abs(right - left), abs(bottom - top)
        return rotated_box((x, y, w, h), turn)
    return left, top, right - left, bottom - top


def _polygon(node: Element) -> list[tuple[float, float]]:
    """Points of a polygon: `x1`, `y1`, `x2`, ...; or `pt` elements with `x` and `y`; none are a ValueError."""
    points = [(float(pt.findtext("x") or ""), float(pt.findtext("y") or "")) for pt in node.findall("pt")]
    number = 1
    while not node.findall("pt") and node.find(f"x{number}") is not None:
        points.append((float(node.findtext(f"x{number}") or ""), float(node.findtext(f"y{number}") or "")))
        number += 1
    return points


def _rotation(node: Element, where: str) -> float:
    """Degrees that CVAT keeps among an object's attributes, beside the box before it is turned."""
    for attribute in node.findall("attributes/attribute"):
        if attribute.findtext("name") == "rotation":
            try:
                return float(attribute.findtext("value") or 0) % 360
            except ValueError as error:
                raise InputError(
                    f"{where}: expected degrees as its rotation, got {attribute.findtext('value')!r}"
                ) from error
    return 0.0


def _xml_files(listing: Listing) -> list[str]:
    """XML files in a folder of annotations, at any depth."""
    return [
        name for name in listing.with_suffix(".xml") if name.split("/")[0].lower() in ANNOTATION_FOLDERS and "/" in name
    ]


def _in_folder(name: str, folders: Sequence[str]) -> bool:
    return any(part in folders for part in name.lower().split("/")[:-1])


def _key(name: str, passed: Sequence[str]) -> str:
    """A file's path without suffix and without the folder that all files of its kind lie in."""
    parts = posixpath.splitext(name)[0].split("/")
    while len(parts) > 1 and parts[0].lower() in (*passed, "images", "jpegimages", "data", "image", "img"):
        parts = parts[1:]
    return "/".join(parts)


def _by_name(files: Sequence[str], passed: Sequence[str]) -> dict[str, list[str]]:
    """Files by their path below their folder without suffix, and by their bare stem."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in files:
        key = _key(file, passed)
        for each in {key, key.rsplit("/", 1)[-1]}:
            found[each].append(file)
    return found


def _match(name: str, files: Mapping[str, list[str]]) -> str | None:
    """The file beside an image, else that of the same relative name, else the only one of the same stem."""
    key = _key(name, ())
    stem, folder = key.rsplit("/", 1)[-1], posixpath.dirname(name)
    for candidates in (
        [file for file in files.get(stem, []) if posixpath.dirname(file) == folder],
        files.get(key, []),
        files.get(stem, []),
    ):
        if len(candidates) == 1:
            return candidates[0]
    return None


def _match_by_filename(
    listing: Listing, xml_files: Sequence[str], images: Sequence[str], report: ReadReport
) -> dict[str, str]:
    """Image -> XML file, for files that are named otherwise than the image whose `filename` they give."""
    known, found = set(images), {}
    for name in xml_files:
        file = listing.path(name)
        text = (read_xml(file).findtext("filename") or "").strip()
        if not text:
            continue
        try:
            image = listing.find(text, str(file), ReadReport(), ("", posixpath.dirname(name)), alone=True)
        except InputError:
            continue
        if image in known and image not in found:
            report.note("found_by_name", f"{file}: {text} is {image}")
            found[image] = name
    return found


def _listed(listing: Listing, split: str | None, images: Sequence[str], report: ReadReport) -> set[str] | None:
    """The images of the asked split, or of the one for training where there are lists; None for all."""
    lists = voc_lists(listing)
    if not lists:
        return None
    splits = {name: file for name, file in lists.items() if split_named(name) or name.lower() == "trainval"}
    if split is not None:
        found = [name for name in lists if name == split] or [name for name in lists if same_split(name, split)]
        if len(found) != 1:
            raise InputError(f"{listing.root}: has no split {split!r}; it has {', '.join(lists)}")
        chosen = found[0]
    elif not splits:
        return None
    else:
        usual = default_split(name for name in splits if split_named(name))
        both = next((name for name in splits if name.lower() == "trainval"), None)
        if usual is None and both is None:
            raise InputError(f"{listing.root}: has the splits {', '.join(splits)}; say which one is to be read")
        chosen = usual or str(both)
        if len(splits) > 1:
            report.note("split_by_default", f"{chosen} of {', '.join(splits)} in {listing.root}")
    names = _names_in(listing.path(lists[chosen]))
    by_stem = defaultdict(list)
    for image in images:
        plain = posixpath.splitext(image)[0]
        for key in {image, plain, _key(image, ()), posixpath.basename(image), posixpath.basename(plain)}:
            by_stem[key].append(image)
    missing = [name for name in names if name not in by_stem]
    if missing:
        raise InputError(
            f"{listing.path(lists[chosen])}: lists images that are not in {listing.root}: {', '.join(missing[:3])}"
        )
    return {image for name in names for image in by_stem[name]}


def _names_in(file: Path) -> list[str]:
    """Names of a list, one a line, as they are, blanks and suffixes included; without whether they show a class."""
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    # In a list of names alone one may end in a number, too.
    of_class = bool(lines) and all(_MEMBERSHIP.search(line) for line in lines)
    return [(_MEMBERSHIP.sub("", line) if of_class else line).replace("\\", "/") for line in lines]
