"""Pascal VOC annotations (one XML file an image) as records."""

import math
from collections import defaultdict
from pathlib import Path
from xml.etree.ElementTree import Element

from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord, Label, folder_category, stated_size
from agssp.data.readers.report import ReadReport
from agssp.data.readers.shapes import XYWH, box_of_points, rotated_box
from agssp.data.readers.voc_files import by_name, chosen_images, images_and_masks, match, match_xml
from agssp.data.readers.xml_files import read_xml, texts_below
from agssp.errors import InputError

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(listing: Listing, category: str | None, report: ReadReport, split: str | None = None) -> list[ImageRecord]:
    """Read a Pascal VOC folder: images, XML files and, where there are any, masks of the same name.

    The XML of an image has its name, beside it or in the same subfolder of `Annotations` (or `labels`); else it is the
    only one of that name, or the one that names the image as its `filename`. VOC's corners are taken as pixel edges: a
    box from 1 to 10 is 9 px wide. A rotated box becomes the upright one around it. An image without XML, or with none
    of its objects, is an image without boxes; where no image has any, nothing is known.

    Args:
        listing: of the folder.
        category: the object category; default: the folder's name.
        report: gets a note of what was changed or left out.
        split: read only what the list of this split in `ImageSets/Main` names, or the folder of this name holds;
            default: that for training, where there are several.

    Raises:
        InputError: an XML file that cannot be read or lacks a box's name or corners, XML files of which none has an
            image, or names in the split's list that are not there; the file is named.
    """
    images, mask_files = images_and_masks(listing)
    masks = by_name(mask_files)
    chosen = chosen_images(listing, split, images, report)
    xml_of = match_xml(listing, images, report)
    mask_of = {name: found for name in images if (found := match(name, masks))}
    report.note_all("unmatched_masks", sorted(set(mask_files) - set(mask_of.values())))

    records = []
    owners: dict[Path, list[str]] = defaultdict(list)
    object_category = category or folder_category(listing.root)
    for name in images:
        if name not in chosen:
            continue
        file = listing.path(xml_of[name]) if name in xml_of else None
        labels, size = ([], None) if file is None else read_objects(file, report)
        if labels and file is not None:
            owners[file].append(name)
        records.append(
            ImageRecord(
                path=listing.path(name),
                image_id=name,
                category=object_category,
                mask=listing.path(mask_of[name]) if name in mask_of else None,
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
        if len(node.findall("bndbox")) > 1:
            raise InputError(
                f"{where}: has {len(node.findall('bndbox'))} bndbox; expected one; give each its own object"
            )
        if (node.findtext("difficult") or "").strip() == "1":
            report.note("difficult", where)
        if (node.findtext("deleted") or "").strip() == "1":
            report.note("deleted", where)
            continue
        name = (node.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where}: has no name")
        labels.append(Label(_bbox(node, where, report), name, where))
    size = texts_below(tree, "size")
    return labels, stated_size(size.get("width"), size.get("height"))


def _bbox(node: Element, where: str, report: ReadReport) -> XYWH:
    rotated = node.find("robndbox")
    polygon = node.find("polygon") if node.find("polygon") is not None else node.find("segmentation")
    texts = texts_below(node, "bndbox")
    corners = [texts.get(corner) for corner in CORNERS]
    boxed = bool((corners[0] or "").strip())
    try:
        if not boxed and rotated is not None:
            # Centre, size and an angle in radians.
            cx, cy, w, h, angle = (float(rotated.findtext(key) or "") for key in ("cx", "cy", "w", "h", "angle"))
            report.note("rotated", where)
            return rotated_box((cx - w / 2, cy - h / 2, w, h), math.degrees(angle))
        if not boxed and polygon is not None:
            report.note("outlines", where)
            return box_of_points(_polygon(polygon))
        left, top, right, bottom = (float(corner or "") for corner in corners)
    except ValueError as error:
        raise InputError(f"{where}: expected bndbox with numbers xmin, ymin, xmax, ymax, got {corners}") from error
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
    attributes = [attribute for each in node.findall("attributes") for attribute in each.findall("attribute")]
    for attribute in attributes:
        if attribute.findtext("name") == "rotation":
            try:
                return float(attribute.findtext("value") or 0) % 360
            except ValueError as error:
                raise InputError(
                    f"{where}: expected degrees as its rotation, got {attribute.findtext('value')!r}"
                ) from error
    return 0.0
