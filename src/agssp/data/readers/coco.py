"""COCO annotations (one JSON file) as records."""

import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agssp.data.readers.coco_images import find_images, image_folders, note_unlisted
from agssp.data.readers.crowds import crowd_flag
from agssp.data.readers.json_rows import is_list
from agssp.data.readers.label_columns import LabelColumns
from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord, Label, MadeRecords, folder_category, score_of, stated_size
from agssp.data.readers.report import ReadReport
from agssp.data.readers.shapes import XYWH, box_of_outline, rotated_box
from agssp.data.readers.splits import default_split, same_split, split_in
from agssp.data.run_lengths import checked_runs
from agssp.errors import InputError

ANNOTATION_FOLDERS = ("", "annotations", "annotation", "labels")
_WORDS = re.compile(r"[A-Za-z0-9]+")


@dataclass
class CocoImage:
    """One image of a COCO file: its name there, the (width, height) px that it states, and the labels.

    `outlines` holds the segmentation of each label, null where there is none; it is empty where they are not kept.
    `labels` is None where the file has no annotations at all, as those of images to be tested have none.
    """

    file_name: str
    size: tuple[float, float] | None
    labels: Sequence[Label] | None
    outlines: Sequence[Any]


class CocoImages(Mapping[int | str, CocoImage]):
    """The images of a COCO file by their ids, made from columns each time one is asked for.

    Args:
        rows: the file's list of images.
        labelled: whether the file has annotations.
        with_outlines: whether segmentations are kept.
        file: names the file in errors and the report.

    Attributes:
        numbers: the number of the image of each id.
        file_names: of each image.
        sizes: (width, height) px that the file states for each image.
        labels: of all images; None where the file has no annotations.
        outlines: of each image; None where they are not kept.

    Raises:
        KeyError, TypeError, AttributeError: a row is no image of a COCO file.
    """

    def __init__(self, rows: Iterable[Any], labelled: bool, with_outlines: bool, file: str) -> None:
        self.numbers: dict[int | str, int] = {}
        self.file_names: list[str] = []
        self.sizes: list[tuple[float, float] | None] = []
        # Most images have the size of many others.
        same: dict[tuple[float, float] | None, tuple[float, float] | None] = {}
        for row in rows:
            self.numbers[_id(row["id"])] = len(self.file_names)
            self.file_names.append(str(row["file_name"]))
            size = stated_size(row.get("width"), row.get("height"))
            self.sizes.append(same.setdefault(size, size))
        self.labels = LabelColumns(lambda mark: f"{file} annotation {mark}") if labelled else None
        self.outlines: list[list[Any]] | None = [[] for _ in self.file_names] if with_outlines else None

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[int | str]:
        return iter(self.numbers)

    def __getitem__(self, key: int | str) -> CocoImage:
        number = self.numbers[key]
        return CocoImage(
            self.file_names[number],
            self.sizes[number],
            None if self.labels is None else self.labels.of(number),
            [] if self.outlines is None else self.outlines[number],
        )


def find_coco(listing: Listing) -> list[str]:
    """COCO files of a folder: JSON in it or in its `annotations` that holds images, annotations and categories."""
    found = []
    for name in listing.with_suffix(".json"):
        folder = posixpath.dirname(name)
        if folder.lower() in ANNOTATION_FOLDERS and is_coco(listing.json(name)):
            found.append(name)
    return found


def is_coco(content: Any) -> bool:
    """Whether the content of a JSON file is a COCO detection file."""
    if not isinstance(content, dict) or not {"images", "categories"} <= content.keys():
        return False
    return is_list(content["images"]) and is_list(content["categories"])


def is_upright(content: dict[str, Any]) -> bool:
    """Whether boxes are of the upright images whatever size the file states, as Label Studio shows and writes them."""
    about = content.get("info")
    return isinstance(about, dict) and about.get("contributor") == "Label Studio"


def choose_coco(listing: Listing, split: str | None, report: ReadReport) -> str:
    """The COCO file of a folder, or of one of its splits (told by the words of the file's name).

    Raises:
        InputError: there is none, or more than one and none of them is of that split; they are named.
    """
    files = find_coco(listing)
    stems = {name: posixpath.splitext(posixpath.basename(name))[0] for name in files}
    if split is not None:
        chosen = [name for name in files if (told := split_in(stems[name])) and same_split(told, split)]
        chosen = chosen or [name for name in files if split.lower() in _WORDS.findall(stems[name].lower())]
    else:
        by_split = {split_in(stems[name]) or name: name for name in files}
        asked = default_split(by_split) if len(by_split) == len(files) else None
        chosen = [by_split[asked]] if asked is not None else files
        if len(files) > 1 and asked is not None:
            report.note("split_by_default", f"{asked} of {', '.join(files)}")
    if len(chosen) != 1:
        found = ", ".join(chosen or files) or "none"
        raise InputError(
            f"{listing.root}: expected one COCO .json{f' of split {split!r}' if split else ''}, found {found}; "
            "name the file itself, or a split"
        )
    return chosen[0]


def locate_coco(file: Path) -> tuple[Listing, str]:
    """The folder that a COCO file given by itself belongs to, and the file's name below it.

    That is the folder it lies in; or the one above, where its first image lies below that by the file's own word.
    """
    inside = Listing(file.parent)
    content = inside.json(file.name)
    rows = content.get("images") if isinstance(content, dict) else None
    row = rows[0] if is_list(rows) and rows else None
    first = row.get("file_name") if isinstance(row, dict) else None
    if isinstance(first, str) and file.name in inside:
        own = posixpath.basename(first.replace("\\", "/"))
        if not any(posixpath.basename(name).lower() == own.lower() for name in inside.images):
            above = file.absolute().parent.parent
            text = posixpath.normpath(first.replace("\\", "/"))
            places = image_folders(f"{file.absolute().parent.name}/{file.name}")
            if file.parent.name.lower() in ANNOTATION_FOLDERS or any(
                (above / place / text).is_file() for place in places
            ):
                return Listing(above, parsed=inside), f"{file.absolute().parent.name}/{file.name}"
    return inside, file.name


def read_coco(
    listing: Listing, name: str, category: str | None, report: ReadReport
) -> tuple[Sequence[ImageRecord], list[str]]:
    """Read a COCO detection file.

    Images are looked for beside the file and one folder up, there also in `images/`, `data/` and in the folder that the
    end of the file's name gives (`instances_train.json`: `train/`, `images/train/`), and then by their own name; all of
    the file's images must be there. A box that is missing is drawn around its segmentation; one with a `rotation` among
    its attributes becomes the upright box around the turned one.

    Args:
        listing: of the data set's folder.
        name: of the file, below that folder.
        category: the object category; default: the folder's name.
        report: gets a note of what was changed or left out.

    Returns:
        The records, and the class names in the order of their ids.

    Raises:
        InputError: no valid COCO file, an annotation of an unknown image or category, or a missing image.
    """
    file = listing.path(name)
    content = listing.json(name)
    if content is None:
        raise InputError(f"{file}: not valid JSON; expected a COCO file with images, annotations and categories")
    others = (listing.json(other)["images"] for other in find_coco(listing) if other != name)
    elsewhere = [str(row.get("file_name")) for rows in others for row in rows if isinstance(row, dict)]
    images, classes = parse_coco(content, str(file), report, with_outlines=False)
    upright = is_upright(content)
    # A parsed file takes several times the memory of what is kept of it.
    del content
    listing.forget_json()
    if not images:
        raise InputError(f"{file}: lists no images")
    report.labels_from = name
    root, paths = find_images(listing, name, images.file_names, report)
    object_category = category or folder_category(listing.root / root)
    prefix = f"{root}/" if root else ""
    labels, sizes = images.labels, images.sizes
    # As text, which is made ten times as fast as a path.
    folder = str(listing.root / "_")[:-1]
    note_unlisted(listing, root, paths, elsewhere, report)

    def record(number: int) -> ImageRecord:
        return ImageRecord(
            path=folder + paths[number],
            image_id=paths[number].removeprefix(prefix),
            category=object_category,
            labels=None if labels is None else labels.of(number),
            stated_size=sizes[number],
            upright=upright,
        )

    return MadeRecords(len(paths), record), classes


def parse_coco(
    content: Any, file: str, report: ReadReport, *, with_outlines: bool = True
) -> tuple[CocoImages, list[str]]:
    """What a COCO file says, its images not looked for yet.

    Ids may be numbers or text. Two categories of one name of which one stands above the other are one class; a category
    that stands above others and has no boxes, as Roboflow writes one, is none.

    Args:
        content: of the JSON file.
        file: names it in errors.
        report: gets a note of what was changed or left out.
        with_outlines: whether segmentations are kept.

    Returns:
        Images by their id, and the class names in the order of their ids.

    Raises:
        InputError: it is no COCO file, or an annotation of it is none; named by its id.
    """
    try:
        annotations = content.get("annotations")
        images = CocoImages(content["images"], annotations is not None, with_outlines, file)
        categories = list(content["categories"])
        names = {_id(row["id"]): _name(row["name"]) for row in sorted(categories, key=_order)}
        # A class may name itself as what it belongs to, and stands above no other for that.
        above = {
            name
            for row in categories
            if (name := str(row.get("supercategory") or "").strip()) != str(row["name"]).strip()
            or list(names.values()).count(name) > 1
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{file}: expected a COCO file with images, annotations and categories: {error!r}") from error
    if len(images) != len(images.file_names):
        raise InputError(f"{file}: two images share an id")
    if len(names) != len(categories):
        raise InputError(f"{file}: two categories share an id")
    if annotations is not None and not is_list(annotations):
        raise InputError(f"{file}: expected annotations to be a list, got {type(annotations).__name__}")
    used = (
        set() if images.labels is None else _read_annotations(annotations, images, images.labels, names, file, report)
    )
    return images, _classes(names, above, used, file, report)


def _read_annotations(
    rows: Iterable[Any],
    images: CocoImages,
    labels: LabelColumns,
    names: Mapping[int | str, str],
    file: str,
    report: ReadReport,
) -> set[int | str]:
    """Read the annotations of a file into the labels of its images; gives the ids of the categories that they have."""
    used: set[int | str] = set()
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{file} annotation {index}: expected an object, got {row!r}")
        where = f"{file} annotation {row.get('id', index)}"
        image, label = images.numbers.get(_id(row.get("image_id"))), _id(row.get("category_id"))
        if image is None:
            raise InputError(f"{where}: image_id {row.get('image_id')!r} is not among the file's images")
        if label not in names:
            raise InputError(
                f"{where}: category_id {row.get('category_id')!r} is not among the {len(names)} categories "
                f"({', '.join(f'{number} {name}' for number, name in names.items())})"
            )
        used.add(label)
        bbox = _bbox(row, where, report, images.sizes[image])
        score = score_of(row.get("score"), where)
        labels.add(image, bbox, names[label], row.get("id", index), score, crowd_flag(row.get("iscrowd"), where))
        if images.outlines is not None:
            images.outlines[image].append(row.get("segmentation") or None)
    labels.group(len(images))
    return used


def _classes(
    names: Mapping[int | str, str], above: set[str], used: set[int | str], file: str, report: ReadReport
) -> list[str]:
    """Names of the classes, without categories that only stand above others."""
    kept: list[str] = []
    for key, name in names.items():
        twice = [other for other in names if names[other] == name]
        if len(twice) > 1 and name not in above:
            raise InputError(
                f"{file}: categories {', '.join(map(str, twice))} share the name {name!r}; give each a name of its own"
            )
        if len(twice) == 1 and key not in used and name in above:
            report.note("empty_classes", f"{name} (stands above other categories in {file})")
        elif name not in kept:
            kept.append(name)
        else:
            report.note("same_class", f"{name} in {file}")
    return kept


def _bbox(row: dict[str, Any], where: str, report: ReadReport, size: tuple[float, float] | None) -> XYWH:
    bbox, outline = row.get("bbox"), row.get("segmentation")
    try:
        if not bbox or (outline and not any(bbox[2:])):
            own = [float(side) for side in outline["size"]] if isinstance(outline, dict) else None
            if own is not None and size is not None and own != [size[1], size[0]]:
                raise ValueError(
                    f"its run lengths are of {own[1]:g} x {own[0]:g} px (`size` is height, width), but its image has "
                    f"{size[0]:g} x {size[1]:g} px by the file's word"
                )
            report.note("outlines", where)
            return box_of_segmentation(outline)
        x, y, w, h = map(float, bbox)
    # What is wrong with run lengths is a RuntimeError of the library that decodes them.
    except (TypeError, ValueError, KeyError, OverflowError, RuntimeError) as error:
        raise InputError(
            f"{where}: expected bbox = [x, y, width, height], or a segmentation to draw one around; got bbox {bbox!r} "
            f"and segmentation {str(outline)[:60]}: {error}"
        ) from error
    turn = _rotation(row.get("attributes"))
    if turn:
        report.note("rotated", where)
        return rotated_box((x, y, w, h), turn)
    return x, y, w, h


def _rotation(attributes: Any) -> float:
    """Degrees by which a box is turned, as CVAT says; 0 where it is not, or what is called so is something else."""
    if attributes is None:
        return 0.0
    try:
        degrees = float(attributes["rotation"])
    except (TypeError, ValueError, KeyError, IndexError):
        return 0.0
    return degrees % 360 if math.isfinite(degrees) else 0.0


def box_of_segmentation(outline: Any) -> XYWH:
    """The upright box xywh px around a COCO segmentation: polygons, or run lengths `{"size", "counts"}`.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    if isinstance(outline, dict):
        from faster_coco_eval.core import mask as coco_mask

        runs = checked_runs(outline)
        x, y, w, h = map(float, coco_mask.toBbox(coco_mask.frPyObjects(runs, *runs["size"])))
        return x, y, w, h
    return box_of_outline([number for polygon in _polygons(outline) for number in polygon])


def _polygons(outline: Any) -> Iterator[list[float]]:
    """Polygons as lists x, y, x, y, ..., however deep their numbers lie."""
    if any(isinstance(part, (list, tuple)) for part in outline):
        for part in outline:
            yield from _polygons(part)
    elif len(outline) % 2:
        raise ValueError(f"expected pairs x, y, got {len(outline)} numbers")
    else:
        yield [float(number) for number in outline]


def _name(value: Any) -> str:
    """The name of a class, be it a number."""
    name = "" if value is None or isinstance(value, (bool, dict, list)) else str(value).strip()
    if not name:
        raise ValueError(f"expected the name of a category, got {value!r}")
    return name


def _id(value: Any) -> int | str:
    """An id, 1, 1.0 and "1" alike; of what can be none, a text that is none."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.removeprefix("-").isdecimal() else text
    return f"{value!r}\0"


def _order(row: dict[str, Any]) -> tuple[bool, int, str]:
    key = _id(row["id"])
    return (False, key, "") if isinstance(key, int) else (True, 0, key)
