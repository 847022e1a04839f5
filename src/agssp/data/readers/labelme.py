"""labelme's JSON files (one an image) as records."""

import base64
import math
import posixpath
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from agssp.data.images import MAX_PIXELS, open_image
from agssp.data.readers.image_folder import NORMAL_FOLDERS
from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord, Label, folder_category, stated_size
from agssp.data.readers.report import ReadReport
from agssp.data.readers.shapes import XYWH, box_of_circle, box_of_points
from agssp.data.readers.splits import in_split
from agssp.data.readers.unread import kind_of_json
from agssp.data.readers.voc_files import relative_key
from agssp.errors import InputError
from agssp.parsing import check_size

MOST_BYTES = 512 * 1024**2
"""Of the labels of one image, with the image itself, as labelme puts it there."""
_LARGER = "save it without its image (Save With Image Data)"
_MOST_BASE64 = 4 * MAX_PIXELS
_SNIFFED = 20
_RIM = 64
Points = Sequence[tuple[float, float]]


@dataclass
class LabelmeFile:
    """What one JSON file says.

    Attributes:
        labels: a box around each shape that has an area.
        without_area: number of its points and lines.
        flags: what is said of the image as a whole, but that it is good.
        outlines: of each label, as COCO writes polygons: `[[x, y, x, y, ...]]`; None for a mask, which is not decoded.
        size: (width, height) px that the file states.
        shape_flags: what is said of single shapes.
    """

    labels: list[Label] = field(default_factory=list)
    outlines: list[list[list[float]] | None] = field(default_factory=list)
    without_area: int = 0
    flags: list[str] = field(default_factory=list)
    size: tuple[float, float] | None = None
    shape_flags: list[str] = field(default_factory=list)


def is_labelme(listing: Listing) -> bool:
    """Whether JSON files of labelme lie in a folder."""
    # Those named like an image first: files of other tools lie among them.
    files = listing.named_like_images_first(".json")
    return any(_is_labelme(listing.json(name)) for name in islice(files, _SNIFFED))


def _is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read_labelme(
    listing: Listing, category: str | None, report: ReadReport, split: str | None = None
) -> list[ImageRecord]:
    """Read images and labelme's JSON files, which lie beside them or elsewhere in the folder.

    A file belongs to the image of the same name beside it, else to the one that its `imagePath` names, else to the only
    one of the same name. An image without a file is not annotated yet: nothing is known of it. A file without shapes
    says that its image has no defects; of one with points, lines or flags alone nothing is known.

    Args:
        listing: of the folder.
        category: the object category; default: the folder's name.
        report: gets a note of what was changed or left out.
        split: read only the images of the folder of this name; default: of that for training, where there are several.

    Raises:
        InputError: a file named like an image that is no JSON, a shape of a kind that is not known or whose points do
            not fit, or a file that several images may be meant by.
    """
    images = [name for name in listing.images if name not in listing.masks]
    by_stem = defaultdict(list)
    for name in images:
        stem = posixpath.splitext(name)[0]
        for key in {stem, posixpath.basename(stem)}:
            by_stem[key].append(name)
    chosen = in_split(images, split, listing.root, report)
    file_of: dict[str, str] = {}
    files = []
    for name in listing.with_suffix(".json"):
        file = listing.path(name)
        if posixpath.splitext(name)[0] in by_stem:
            check_size(file, MOST_BYTES, "JSON", remedy=_LARGER)
        content = listing.json(name)
        if not _is_labelme(content):
            if content is None and posixpath.splitext(name)[0] in by_stem:
                raise InputError(f"{file}: not valid JSON; label its image again, or take the file away")
            if posixpath.splitext(name)[0] in by_stem or kind_of_json(content, name):
                report.note("unread_files", f"{file} (beside labelme's)")
            continue
        files.append(name)
        image_path = str(content["imagePath"] or "")
        image = _image_of(listing, name, image_path, by_stem, report)
        if image is None:
            report.note("orphans", f"{listing.path(name)} (of {image_path or 'no image'})")
        elif image in file_of:
            raise InputError(
                f"{listing.path(name)}: {image} has labels in another file of labelme, too; take one of both away"
            )
        else:
            file_of[image] = name
    if files and not file_of:
        first = listing.json(files[0])
        how = "; it is within the file alone (imageData), which is not read: save it" if first.get("imageData") else ""
        raise InputError(
            f"{listing.path(files[0])}: its image {first['imagePath']!r} is not in {listing.root}, nor is that of any "
            f"other file{how}; put the images beside the JSON files"
        )
    report.labels_from = files[0] if files else ""
    object_category = category or folder_category(listing.root)
    records = [ImageRecord(listing.path(name), name, object_category) for name in images if name in chosen]
    report.with_label_file = sum(record.image_id in file_of for record in records)
    report.note_all("unannotated", [record.image_id for record in records if record.image_id not in file_of])
    for record in records:
        if record.image_id in file_of:
            name = file_of[record.image_id]
            found = parse_labelme(listing.json(name), str(listing.path(name)), report)
            record.stated_size = found.size
            if found.labels and (found.flags or found.shape_flags):
                report.note("shape_flags", f"{', '.join([*found.flags, *found.shape_flags])} ({listing.path(name)})")
            if found.labels or not (found.without_area or found.flags):
                record.labels = found.labels
            else:
                report.note("all_dropped" if found.without_area else "flagged", record.image_id)
    # Parsed files take more memory than what is kept of them.
    listing.forget_json()
    return records


def _image_of(
    listing: Listing, name: str, image_path: str, by_stem: Mapping[str, list[str]], report: ReadReport
) -> str | None:
    """The image that a file of labelme belongs to; None where there is none."""
    stem, folder = posixpath.splitext(name)[0], posixpath.dirname(name)
    asked = posixpath.basename(image_path.replace("\\", "/"))
    beside = [image for image in by_stem.get(stem, []) if posixpath.dirname(image) == folder]
    if len(beside) > 1:
        named = [image for image in beside if posixpath.basename(image) == asked]
        if not named:
            raise InputError(
                f"{listing.path(name)}: {' and '.join(beside)} have that name, and its imagePath {image_path!r} is "
                "neither"
            )
        return named[0]
    if beside:
        other = posixpath.join(folder, asked)
        if other != beside[0] and other in listing:
            report.note("found_by_name", f"{listing.path(name)}: names {image_path}, lies beside {beside[0]}")
        return beside[0]
    file = listing.path(name)
    try:
        image = listing.find(image_path, str(file), report, (folder,))
    except InputError as error:
        if "several files" in str(error):
            # The tree of the files may be that of the images.
            key = relative_key(name)
            alike = [image for image in by_stem.get(posixpath.basename(stem), []) if relative_key(image) == key]
            if len(alike) == 1 and posixpath.basename(alike[0]) == asked:
                return alike[0]
            raise
        alike = by_stem.get(posixpath.basename(stem), [])
        if len(alike) != 1:
            return None
        image = alike[0]
        report.note("found_by_name", f"{file}: {image_path or 'no imagePath'} is {image}")
    return image if image in by_stem.get(posixpath.splitext(image)[0], []) else None


def read_labelme_file(file: Path, report: ReadReport) -> LabelmeFile:
    """What one JSON file of labelme says; errors as `parse_labelme`."""
    check_size(file, MOST_BYTES, "JSON", remedy=_LARGER)
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
        flags=_flags(content.get("flags")),
    )
    for index, shape in enumerate(content.get("shapes", [])):
        here = f"{where} shape {index}"
        try:
            points: Points = [(float(x), float(y)) for x, y in shape["points"]]
            label, kind = shape["label"], str(shape.get("shape_type") or "polygon")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"{here}: expected a label and points [[x, y], ...], got {str(shape)[:60]}") from error
        name = "" if label is None else str(label).strip()
        if not name:
            raise InputError(f"{here}: has no label")
        if kind in ("point", "points", "line", "linestrip"):
            report.note("not_boxes", f"{here} ({kind})")
            found.without_area += 1
            continue
        if kind not in _SHAPES:
            raise InputError(f"{here}: shape_type {kind!r}: expected one of {', '.join(_SHAPES)}, or points and lines")
        found.shape_flags += _flags(shape.get("flags"))
        fits, expected, box, outline = _SHAPES[kind]
        if not fits(len(points)):
            raise InputError(f"{here}: expected {expected} for a {kind}, got {len(points)}")
        if kind == "mask":
            points = list(_painted(shape.get("mask"), points, here))
        found.labels.append(Label(box(points), name, here))
        drawn = outline(points)
        found.outlines.append(None if drawn is None else [[value for point in drawn for value in point]])
    return found


def _flags(flags: Any) -> list[str]:
    """Those that are set; not one that says that the image is good."""
    told = flags.items() if isinstance(flags, dict) else ()
    return [name for name, is_set in told if is_set and name.strip().lower() not in NORMAL_FOLDERS]


def _circle(points: Points) -> XYWH:
    return box_of_circle(*points)


def _corners(points: Points) -> Points:
    x, y, w, h = box_of_points(points)
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def _painted(mask: Any, points: Points, where: str) -> Points:
    """Corners of what is painted in a mask, a picture in base64 that may be empty towards its borders.

    Args:
        mask: the text of the picture; None: the whole rectangle is meant.
        points: two opposite pixels of the rectangle that it fills, both part of it.
        where: names the shape in errors.
    """
    (left, top), (right, bottom) = _sorted_corners(points)
    if mask is None:
        return [(left, top), (right + 1, bottom + 1)]
    try:
        if len(mask) > _MOST_BASE64:
            raise ValueError(f"{len(mask):,} letters, over the limit of {_MOST_BASE64:,}")
        with open_image(base64.b64decode(mask, validate=True), "the picture") as picture:
            size, painted = picture.size, picture.getbbox()
    except Exception as error:  # Pillow's decoders raise any kind on a damaged picture
        raise InputError(f"{where}: expected a picture in base64 as its mask: {error}") from error
    if max(abs(size[0] - (right + 1 - left)), abs(size[1] - (bottom + 1 - top))) > 1:
        raise InputError(
            f"{where}: its mask has {size[0]} x {size[1]} px, but its points are {right + 1 - left:g} x "
            f"{bottom + 1 - top:g} px apart; expected the same"
        )
    if painted is None:
        return [(left, top), (left, top)]
    return [(left + painted[0], top + painted[1]), (left + painted[2], top + painted[3])]


def _sorted_corners(points: Points) -> Points:
    x, y, w, h = box_of_points(points)
    return [(x, y), (x + w, y + h)]


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
    "quadrilateral": (lambda count: count == 4, "4 corners", box_of_points, list),
    "rotation": (lambda count: count == 4, "4 corners", box_of_points, list),
    "circle": (lambda count: count == 2, "a centre and a point of the rim", _circle, _rim),
    "mask": (lambda count: count == 2, "2 corners", box_of_points, lambda points: None),
}
