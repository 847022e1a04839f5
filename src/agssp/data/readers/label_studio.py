"""Label Studio's JSON tasks as records."""

import posixpath
from collections.abc import Mapping
from typing import Any

from agssp.data.readers.listing import IMAGE_SUFFIXES, Listing
from agssp.data.readers.records import ImageRecord, Label, folder_category, stated_size
from agssp.data.readers.report import ReadReport
from agssp.data.readers.shapes import XYWH, box_of_points, rotated_box
from agssp.errors import InputError

FOLDERS = ("", "annotations")
_NO_BOX = ("choices", "textarea", "rating", "number", "relation", "taxonomy", "datetime", "ranker", "keypointlabels",
           "keypoint", "vectorlabels", "pairwise")  # fmt: skip
Size = tuple[float, float]


def is_label_studio(content: Any) -> bool:
    """Whether the content of a JSON file is Label Studio's: a list of tasks."""
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    task = content[0]
    if isinstance(task.get("data"), dict):
        return any(key in task for key in ("annotations", "completions", "predictions", "id"))
    # The short form has the labels right in the task.
    return "annotation_id" in task or ("id" in task and "lead_time" in task)


def find_label_studio(listing: Listing) -> list[str]:
    """Label Studio's JSON files of a folder, in it or in its `annotations`."""
    near = [name for name in listing.with_suffix(".json") if posixpath.dirname(name).lower() in FOLDERS]
    # Elsewhere a JSON file stands for one image, and there are thousands.
    return [name for name in near if is_label_studio(listing.json(name))] if len(near) <= 50 else []


def choose_label_studio(listing: Listing) -> str:
    """Label Studio's JSON file of a folder.

    Raises:
        InputError: there is none, or more than one; they are named.
    """
    files = find_label_studio(listing)
    if len(files) != 1:
        raise InputError(
            f"{listing.root}: expected one JSON file of Label Studio, found {', '.join(files) or 'none'}; name the file"
        )
    return files[0]


def read_label_studio(
    listing: Listing, name: str, category: str | None, report: ReadReport
) -> tuple[list[ImageRecord], list[str] | None]:
    """Read Label Studio's JSON, whole (`JSON`) or short (`JSON_MIN`).

    Rectangles, also rotated ones, polygons and ellipses, all in percent of the image, become upright boxes around them;
    points, choices and texts have no box and are left out. Of several annotations of a task the ground truth is read,
    else the newest. A task with an empty annotation has no defects; of one without any nothing is known.

    Args:
        listing: of the data set's folder.
        name: of the file, below that folder.
        category: the object category; default: the folder's name.
        report: gets a note of what was changed or left out.

    Returns:
        The records, and no class names: those that occur are the classes.

    Raises:
        InputError: no such file, a task without an image, an image that is missing, or a region that does not fit.
    """
    file = listing.path(name)
    tasks = listing.json(name)
    if not is_label_studio(tasks):
        raise InputError(f"{file}: expected a JSON file of Label Studio, a list of tasks")
    folder = posixpath.dirname(name)
    above = posixpath.dirname(folder)
    parts = ("", "images")
    places = dict.fromkeys(posixpath.join(place, part).rstrip("/") for place in (folder, above) for part in parts)
    report.labels_from = name
    records: dict[str, ImageRecord] = {}
    for index, task in enumerate(tasks):
        where = f"{file} task {task.get('id', index) if isinstance(task, dict) else index}"
        if not isinstance(task, dict):
            raise InputError(f"{where}: expected an object, got {str(task)[:60]}")
        path = listing.find(_image_of(task, where), where, report, list(places), alone=len(tasks) == 1)
        if path in records:
            raise InputError(f"{where}: {path} is the image of another task, too; take one of both away")
        regions = _regions(task, where, report)
        labels: list[Label] | None = None if regions is None else []
        sizes: set[Size] = set()
        for number, region in enumerate(regions or []):
            label, size = _label(region, f"{where} region {number}", report)
            if size is not None:
                sizes.add(size)
            if label is not None and labels is not None:
                labels.append(label)
        if len(sizes) > 1:
            raise InputError(f"{where}: its regions are for images of other sizes ({sorted(sizes)}); export it again")
        records[path] = ImageRecord(
            path=listing.path(path),
            image_id=path,
            category=category or folder_category(listing.root),
            labels=labels,
            stated_size=next(iter(sizes), None),
        )
    listed = set(records)
    report.note_all("unlisted", [image for image in listing.images if image not in listed])
    report.note_all("unannotated", [record.image_id for record in records.values() if record.labels is None])
    return list(records.values()), None


def _image_of(task: Mapping[str, Any], where: str) -> str:
    """What a task says of its image's file: the value of the data that looks like one."""
    data = task["data"] if isinstance(task.get("data"), dict) else task
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    for key in ("image", "img", "picture", "photo", "url"):
        if key in texts:
            return texts[key]
    like = [text for text in texts.values() if posixpath.splitext(text.split("?")[0])[1].lower() in IMAGE_SUFFIXES]
    like += [text for text in texts.values() if "?d=" in text]
    if not like:
        raise InputError(f"{where}: names no image in its data; got {', '.join(data) or 'nothing'}")
    return like[0]


def _regions(task: Mapping[str, Any], where: str, report: ReadReport) -> list[Any] | None:
    """The regions of the annotation that counts; None where a task has none."""
    if not isinstance(task.get("data"), dict):
        fields = [one for value in task.values() if isinstance(value, list) for one in value if isinstance(one, dict)]
        found = [region for region in fields if {"x", "points", "rle"} & region.keys()]
        return found if found or "annotation_id" in task else None
    annotations = task.get("annotations", task.get("completions")) or []
    usable = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    if not usable:
        if task.get("predictions"):
            report.note("predictions", where)
        return None
    if len(usable) > 1:
        report.note("other_annotations", f"{where} ({len(usable)})")
    best = max(usable, key=lambda one: (bool(one.get("ground_truth")), _written_at(one)))
    result = best.get("result")
    if not isinstance(result, list):
        raise InputError(f"{where}: expected an annotation with a list `result`, got {str(best)[:60]}")
    return result


def _written_at(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _label(region: Any, where: str, report: ReadReport) -> tuple[Label | None, Size | None]:
    """The box of a region in px of the (width, height) that it states, and that size."""
    if not isinstance(region, dict):
        raise InputError(f"{where}: expected an object, got {str(region)[:60]}")
    kind = str(region.get("type") or "").lower()
    value = region["value"] if isinstance(region.get("value"), dict) else region
    size = stated_size(region.get("original_width"), region.get("original_height"))
    if kind in _NO_BOX or not {"x", "points", "rle"} & value.keys():
        report.note("not_boxes", f"{where} ({kind or 'of no type'})")
        return None, size
    if "rle" in value:
        report.note("unread_masks", where)
        return None, size
    if value.keys() >= {"x", "y"} and not {"width", "height"} & value.keys() and "radiusX" not in value:
        report.note("not_boxes", f"{where} (a point)")
        return None, size
    if size is None:
        raise InputError(f"{where}: expected original_width and original_height, without which percent are no px")
    if float(region.get("image_rotation") or 0) % 360:
        raise InputError(
            f"{where}: was drawn on an image turned by {region['image_rotation']} degrees, which is not read; turn the "
            "file itself and label it again, or export COCO"
        )
    name = _class_of(value, where)
    try:
        bbox, turn = _bbox(value)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where}: expected numbers of a {kind or 'region'} in percent, got {str(value)[:80]}"
        ) from error
    x, y, w, h = (part * side / 100 for part, side in zip(bbox, (*size, *size), strict=True))
    if turn % 360:
        report.note("rotated", where)
        # A rectangle is turned about its upper left corner, an ellipse about its centre.
        x, y, w, h = rotated_box((x, y, w, h), turn, None if "radiusX" in value else (x, y))
    return Label((x, y, w, h), name, where), size


def _bbox(value: Mapping[str, Any]) -> tuple[XYWH, float]:
    """The box in percent before it is turned, and the degrees."""
    turn = float(value.get("rotation") or 0)
    if "points" in value:
        return box_of_points(value["points"]), 0.0
    x, y = float(value["x"]), float(value["y"])
    if "radiusX" in value:
        rx, ry = float(value["radiusX"]), float(value["radiusY"])
        return (x - rx, y - ry, 2 * rx, 2 * ry), turn
    return (x, y, float(value["width"]), float(value["height"])), turn


def _class_of(value: Mapping[str, Any], where: str) -> str:
    """The label of a region: the first of its list of labels."""
    for key, names in value.items():
        if key.endswith("labels") and isinstance(names, list) and names:
            if len(names) > 1:
                raise InputError(f"{where}: has the labels {', '.join(map(str, names))}; expected one for each region")
            return str(names[0]).strip()
    raise InputError(f"{where}: has no label; give each region one, or delete it")
