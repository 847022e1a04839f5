"""CVAT for images 1.1 (one XML file of many images) as records."""

import math
import posixpath
from collections.abc import Collection
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from agssp.data.images import MAX_PIXELS
from agssp.data.readers.folder_masks import is_mask
from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord, Label, folder_category, stated_size
from agssp.data.readers.report import ReadReport
from agssp.data.readers.shapes import XYWH, box_of_ellipse, box_of_points, rotated_box
from agssp.data.readers.splits import default_split, same_split, split_in, split_named
from agssp.data.readers.xml_files import number_of, read_xml, root_tag
from agssp.errors import InputError

FOLDERS = ("", "annotations", "annotation")
_WITH_AREA = ("box", "polygon", "ellipse", "mask", "cuboid")


def is_cvat(file: Path) -> bool:
    """Whether an XML file is one of CVAT: its outermost element is `annotations`."""
    return root_tag(file) == "annotations"


def find_cvat(listing: Listing) -> list[str]:
    """CVAT's XML files of a folder, in it or in its `annotations`."""
    near = [name for name in listing.with_suffix(".xml") if posixpath.dirname(name).lower() in FOLDERS]
    # A folder of Pascal VOC has thousands; the names of CVAT's are few.
    if len(near) > 50:
        near = [name for name in near if posixpath.basename(name).lower() == "annotations.xml"]
    return [name for name in near if is_cvat(listing.path(name))]


def choose_cvat(listing: Listing, split: str | None, report: ReadReport) -> str:
    """CVAT's XML file of a folder; of several the one whose name tells the asked split, or that for training.

    Raises:
        InputError: there is none, or more than one that may be meant; they are named.
    """
    files = find_cvat(listing)
    if len(files) == 1:
        return files[0]
    wanted = split_named(split) if split else "train"
    chosen = [name for name in files if wanted and split_in(posixpath.splitext(posixpath.basename(name))[0]) == wanted]
    if len(chosen) != 1:
        raise InputError(
            f"{listing.root}: expected one XML file of CVAT, found {', '.join(files) or 'none'}; name the file itself"
        )
    if split is None:
        report.note("split_by_default", f"{chosen[0]} of {', '.join(files)} in {listing.root}")
    return chosen[0]


def read_cvat(
    listing: Listing, name: str, category: str | None, report: ReadReport, split: str | None = None
) -> tuple[list[ImageRecord], list[str]]:
    """Read a file of CVAT for images 1.1.

    Boxes, also rotated ones, polygons, ellipses, masks and cuboids become upright boxes around them; points, lines and
    tags have no area and are left out; of an image that has no others nothing is known. One without any has no defects.
    Of several subsets one is read.

    Args:
        listing: of the data set's folder.
        name: of the file, below that folder.
        category: the object category; default: the folder's name.
        report: gets a note of what was changed or left out.
        split: the subset to read; default: the only one, or that for training.

    Returns:
        The records, and the class names in the order of the file.

    Raises:
        InputError: no such file, the video form, an image that is missing, or a shape that does not fit.
    """
    file = listing.path(name)
    root = read_xml(file)
    if root.tag != "annotations":
        raise InputError(f"{file}: expected CVAT's XML, whose outermost element is `annotations`, got `{root.tag}`")
    if root.find("track") is not None:
        raise InputError(
            f"{file}: is CVAT for video, whose tracks are not read; export it as `CVAT for images 1.1`, or as COCO"
        )
    listed = root.findall("image")
    images = _of_split(listed, split, file, report)
    if not images:
        raise InputError(f"{file}: lists no images")
    classes = [(label.findtext("name") or "").strip() for label in root.iterfind("meta//labels/label")]
    folder = posixpath.dirname(name)
    above = posixpath.dirname(folder)
    parts = ("", "images", "data")
    places = list(dict.fromkeys(posixpath.join(place, part).rstrip("/") for place in (folder, above) for part in parts))
    report.labels_from = name
    records: dict[str, ImageRecord] = {}
    for node in images:
        text = (node.get("name") or "").strip()
        where = f"{file} image {text or node.get('id')}"
        subset = node.get("subset") or "default"
        own = [posixpath.join(place, subset) for place in places]
        path = listing.find(text, where, report, [*own, *places], alone=len(listed) == 1)
        if path in records:
            raise InputError(f"{where}: {path} is listed twice; take one of both away")
        found = [_label(shape, f"{where} shape {index}", report) for index, shape in enumerate(node)]
        labels = [label for label in found if label is not None]
        if found and not labels:
            report.note("all_dropped", path)
        records[path] = ImageRecord(
            path=listing.path(path),
            image_id=path,
            category=category or folder_category(listing.root),
            labels=labels if labels or not found else None,
            stated_size=stated_size(node.get("width"), node.get("height")),
        )
    _note_unlisted(listing, name, records, listed, report)
    used = [label.defect_type for record in records.values() for label in record.labels or []]
    return list(records.values()), list(dict.fromkeys([*filter(None, classes), *used]))


def _of_split(images: list[Element], split: str | None, file: Path, report: ReadReport) -> list[Element]:
    """The images of the asked subset, or of the usual one."""
    subsets = list(dict.fromkeys(node.get("subset") or "" for node in images))
    if split is not None and subsets == [""] and split_in(file.stem) == split_named(split):
        return images
    if split is None and len(subsets) < 2:
        return images
    if split is None:
        chosen = default_split(subsets)
        if chosen is None:
            raise InputError(f"{file}: has the subsets {', '.join(map(repr, subsets))}; say which one is to be read")
        report.note("split_by_default", f"{chosen} of {', '.join(map(repr, subsets))} in {file}")
    else:
        found = [name for name in subsets if same_split(name, split)]
        if len(found) != 1:
            there = ", ".join(map(repr, filter(None, subsets))) or "none"
            raise InputError(f"{file}: has no subset {split!r}; it has {there}")
        chosen = found[0]
    return [node for node in images if (node.get("subset") or "") == chosen]


def _note_unlisted(
    listing: Listing, name: str, read: Collection[str], nodes: list[Element], report: ReadReport
) -> None:
    """Note images that were not read and that, by their own names, no subset or file of the folder lists."""
    known = {posixpath.basename((node.get("name") or "").replace("\\", "/")) for node in nodes if node.get("subset")}
    for other in find_cvat(listing):
        if other != name:
            nodes = read_xml(listing.path(other)).findall("image")
            known |= {posixpath.basename((node.get("name") or "").replace("\\", "/")) for node in nodes}
    there = [image for image in listing.images if image not in read and not is_mask(image)]
    report.note_all("unlisted", [image for image in there if posixpath.basename(image) not in known])


def _label(shape: Element, where: str, report: ReadReport) -> Label | None:
    if shape.tag not in _WITH_AREA:
        report.note("not_boxes", f"{where} ({shape.tag})")
        return None
    name = (shape.get("label") or "").strip()
    if not name:
        raise InputError(f"{where}: has no label")
    turn = number_of(shape.get("rotation", "0"), "rotation", where) % 360
    if turn and shape.tag in ("box", "ellipse"):
        report.note("rotated", where)
    return Label(_bbox(shape, turn, where), name, where)


def _box_of_runs(text: str, width: int, height: int, where: str) -> XYWH:
    """The box around a mask given by the lengths of its runs, `0` and `1` in turns, row by row."""
    try:
        runs = np.array([int(word) for word in text.split(",") if word.strip()], np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{where}: expected run lengths `n, n, ...` as rle, got {text[:60]!r}") from error
    fits = 0 < width * height <= MAX_PIXELS and width > 0 and ((runs >= 0) & (runs <= MAX_PIXELS)).all()
    if not fits or runs.sum() != width * height:
        raise InputError(
            f"{where}: its run lengths make {runs.sum():,} px, its size is {width} x {height}; expected the same"
        )
    starts = np.concatenate([[0], np.cumsum(runs)])
    # The first, third, ... run is of what is not painted.
    on = [(first, last - 1) for first, last in zip(starts[1:-1:2], starts[2::2], strict=False) if last > first]
    if not on:
        return 0, 0, 0, 0
    firsts, lasts = np.array(on).T
    rows, across = (firsts // width, lasts // width), (firsts % width, lasts % width)
    # A run over the end of a row reaches both sides of the mask.
    whole = bool((rows[0] != rows[1]).any())
    left, right = (0, width - 1) if whole else (int(across[0].min()), int(across[1].max()))
    return left, int(rows[0].min()), right - left + 1, int(rows[1].max() - rows[0].min()) + 1


def _bbox(shape: Element, turn: float, where: str) -> XYWH:
    def number(key: str) -> float:
        return number_of(shape.get(key), key, where)

    if shape.tag == "box":
        left, top = number("xtl"), number("ytl")
        right, bottom = number("xbr"), number("ybr")
        if not turn:
            return left, top, right - left, bottom - top
        return rotated_box((min(left, right), min(top, bottom), abs(right - left), abs(bottom - top)), turn)
    if shape.tag == "mask":
        values = [number(key) for key in ("left", "top", "width", "height")]
        if not all(map(math.isfinite, values)):
            raise InputError(f"{where}: expected left, top, width and height in px, got {values}")
        left, top, width, height = map(int, values)
        # Some writers give the whole image as the mask's place, so that only its runs tell where it is.
        x, y, w, h = _box_of_runs(shape.get("rle") or "", width, height, where)
        return left + x, top + y, w, h
    if shape.tag == "ellipse":
        return box_of_ellipse((number("cx"), number("cy")), number("rx"), number("ry"), turn)
    if shape.tag == "cuboid":
        keys = [key for key in shape.keys() if key[0] in "xy" and key[1:2] in ("t", "b")]  # noqa: SIM118
        xs, ys = ([number(key) for key in keys if key[0] == axis] for axis in "xy")
        if not xs or len(xs) != len(ys):
            raise InputError(
                f"{where}: expected the corners xtl1, ytl1, ... of a cuboid, got {', '.join(shape.keys())}"
            )
        return box_of_points(zip(xs, ys, strict=True))
    try:
        return box_of_points(pair.split(",") for pair in (shape.get("points") or "").split(";"))  # type: ignore[misc]
    except ValueError as error:
        raise InputError(f"{where}: expected points `x,y;x,y;...`, got {(shape.get('points') or '')[:60]!r}") from error
