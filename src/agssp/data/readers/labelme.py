"""labelme's JSON files (one an image) as records."""

import math
import posixpath
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from agssp.data.readers.folder_masks import is_mask
from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord, Label, folder_category, stated_size
from agssp.data.readers.report import ReadReport
from agssp.data.readers.shapes import XYWH, box_of_circle, box_of_points
from agssp.errors import InputError

_SNIFFED = 5
_RIM = 64
Points = Sequence[tuple[float, float]]


@dataclass
class LabelmeFile:
    """What one JSON file says.

    Attributes:
        labels: a box around each shape that has an area.
        outlines: of each label, as COCO writes polygons: `[[x, y, x, y, ...]]`; None for a mask, which is not decoded.
        size: (width, height) px that the file states.
        image_path: name of the image there.
    """

    labels: list[Label] = field(default_factory=list)
    outlines: list[list[list[float]] | None] = field(default_factory=list)
    size: tuple[float, float] | None = None
    image_path: str = ""


def is_labelme(listing: Listing) -> bool:
    """Whether JSON files of labelme lie in a folder."""
    return any(_is_labelme(listing.json(name)) for name in islice(listing.with_suffix(".json"), _SNIFFED))


def _is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read_labelme(listing: Listing, category: str | None, report: ReadReport) -> list[ImageRecord]:
    """Read images and labelme's JSON files, which lie beside them or elsewhere in the folder.

    A file belongs to the image of the same name beside it, else to the one that its `imagePath` names. An image without
    a file is not annotated yet: nothing is known of it. A file without shapes says that its image has no defects.

    Args:
        listing: of the folder.
        category: the object category; default: the folder's name.
        report: gets a note of what was changed or left out.

    Raises:
        InputError: a file that is no JSON of labelme, a shape of a kind that is not known, or whose points do not fit.
    """
    images = [name for name in listing.images if not is_mask(name)]
    beside = defaultdict(list)
    for name in images:
        beside[posixpath.splitext(name)[0]].append(name)
    read: dict[str, LabelmeFile] = {}
    files = [name for name in listing.with_suffix(".json") if _is_labelme(listing.json(name))]
    for name in files:
        file = listing.path(name)
        found = parse_labelme(listing.json(name), str(file), report)
        own = beside.get(posixpath.splitext(name)[0], [])
        if len(own) > 1:
            # Several images of one stem: the file says which one it is of.
            asked = posixpath.basename(found.image_path)
            own = [image for image in own if posixpath.basename(image) == asked] or own[:1]
        try:
            image = own[0] if own else listing.find(found.image_path, str(file), report, (posixpath.dirname(name),))
        except InputError:
            report.note("orphans", f"{file} (of {found.image_path or 'no image'})")
            continue
        if image in read:
            raise InputError(f"{file}: {image} has labels in another file of labelme, too; take one of both away")
        read[image] = found
    if files and not read:
        raise InputError(
            f"{listing.path(files[0])}: its image {listing.json(files[0])['imagePath']!r} is not in {listing.root}, "
            "nor is that of any other file; put the images beside the JSON files"
        )
    report.labels_from = files[0] if files else ""
    report.with_label_file = len(read)
    report.note_all("unannotated", [name for name in images if name not in read])
    object_category = category or folder_category(listing.root)
    return [
        ImageRecord(
            path=listing.path(name),
            image_id=name,
            category=object_category,
            labels=read[name].labels if name in read else None,
            stated_size=read[name].size if name in read else None,
        )
        for name in images
    ]


def read_labelme_file(file: Path, report: ReadReport) -> LabelmeFile:
    """What one JSON file of labelme says; errors as `parse_labelme`."""
    return parse_labelme(Listing(file.parent, [file.name]).json(file.name), str(file), report)


def parse_labelme(content: Any, where: str, report: ReadReport) -> LabelmeFile:
    """What the content of a JSON file of labelme says.

    Polygons, rectangles (corners in any order), circles, masks and oriented rectangles become upright boxes around
    them; points and lines have no area and are left out.

    Args:
        content: of the file.
        where: names it in errors and the report.
        report: gets a note of shapes that are left out.

    Raises:
        InputError: it is no file of labelme, or a shape does not fit; named by its number.
    """
    if not isinstance(content, dict) or not isinstance(content.get("shapes", []), list):
        raise InputError(f"{where}: expected labelme's JSON with a list `shapes`")
    found = LabelmeFile(
        size=stated_size(content.get("imageWidth"), content.get("imageHeight")),
        image_path=str(content.get("imagePath") or ""),
    )
    for index, shape in enumerate(content.get("shapes", [])):
        here = f"{where} shape {index}"
        try:
            points = [(float(x), float(y)) for x, y in shape["points"]]
            name, kind = str(shape["label"]).strip(), str(shape.get("shape_type") or "polygon")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{here}: expected a label and points [[x, y], ...], got {str(shape)[:60]}") from error
        if not name:
            raise InputError(f"{here}: has no label")
        if kind in ("point", "points", "line", "linestrip"):
            report.note("not_boxes", f"{here} ({kind})")
            continue
        if kind not in _SHAPES:
            raise InputError(f"{here}: shape_type {kind!r}: expected one of {', '.join(_SHAPES)}, or points and lines")
        fits, expected, box, outline = _SHAPES[kind]
        if not fits(len(points)):
            raise InputError(f"{here}: expected {expected} for a {kind}, got {len(points)}")
        found.labels.append(Label(box(points), name, here))
        drawn = outline(points)
        found.outlines.append(None if drawn is None else [[value for point in drawn for value in point]])
    return found


def _circle(points: Points) -> XYWH:
    return box_of_circle(*points)


def _corners(points: Points) -> Points:
    x, y, w, h = box_of_points(points)
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def _mask(points: Points) -> XYWH:
    """The box of a mask, whose second point names its last pixel and not that pixel's far edge."""
    (left, top), (right, bottom) = points
    return box_of_points([(left, top), (right + 1, bottom + 1)])


def _rim(points: Points) -> Points:
    """Points of a circle's rim, its outermost four among them."""
    (x, y), radius = points[0], math.dist(*points)
    angles = [2 * math.pi * step / _RIM for step in range(_RIM)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


# How many points a kind of shape has, in words, the box around it, and its outline.
_SHAPES: dict[str, tuple[Callable[[int], bool], str, Callable[[Points], XYWH], Callable[[Points], Points | None]]] = {
    "polygon": (lambda count: count > 2, "3 points or more", box_of_points, list),
    "rectangle": (lambda count: count in (2, 4), "2 corners, or 4", box_of_points, _corners),
    "oriented_rectangle": (lambda count: count == 4, "4 corners", box_of_points, list),
    "rotation": (lambda count: count == 4, "4 corners", box_of_points, list),
    "circle": (lambda count: count == 2, "a centre and a point of the rim", _circle, _rim),
    "mask": (lambda count: count == 2, "2 corners", _mask, lambda points: None),
}
