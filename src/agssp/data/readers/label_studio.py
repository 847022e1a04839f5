"""Label Studio's JSON tasks as records."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agssp.data.readers.listing import IMAGE_SUFFIXES, Listing
from agssp.data.readers.records import ImageRecord, Label, folder_category, stated_size
from agssp.data.readers.report import ReadReport
from agssp.data.readers.shapes import XYWH, box_of_ellipse, box_of_points, rotated_box
from agssp.errors import InputError
from agssp.faults import raise_storage_fault
from agssp.parsing import check_size

FOLDERS = ("", "annotations")
MOST_BYTES = 1024**3
"""Of a file of tasks."""
_LARGER = "export COCO, or parts of the project"
_FIRST_BYTES = 4096
_NO_BOX = ("choices", "textarea", "rating", "number", "relation", "taxonomy", "datetime", "ranker", "keypointlabels",
           "keypoint", "vectorlabels", "pairwise")  # fmt: skip
# A region that is drawn with a tool without labels of its own has them in another region of the same id.
_PLAIN = ("rectangle", "polygon", "ellipse", "brush")
IMAGE_KEYS = ("image", "img", "picture", "photo")
# Of a task in the short form what is neither a region nor what a person chose or wrote.
_SHORT_KEYS = {"id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time", "file_upload",
               "storage_filename", "url", *IMAGE_KEYS}  # fmt: skip
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|/data/|.*\?d=")
Size = tuple[float, float]


def is_label_studio(content: Any) -> bool:
    """Whether the content of a JSON file is Label Studio's: a list of tasks."""
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    task = content[0]
    if isinstance(task.get("data"), dict):
        return any(key in task for key in ("annotations", "completions", "predictions", "id"))
    # The short form has the labels right in the task.
    return "annotation_id" in task or (
        "id" in task and ("lead_time" in task or any("original_width" in region for region in _short_regions(task)))
    )


def find_label_studio(listing: Listing) -> list[str]:
    """Label Studio's JSON files of a folder, in it or in its `annotations`.

    Raises:
        InputError: a list in JSON of more than `MOST_BYTES`; COCO's and others' files are no lists.
    """
    near = [name for name in listing.with_suffix(".json") if posixpath.dirname(name).lower() in FOLDERS]
    # Elsewhere a JSON file stands for one image, and there are thousands.
    return [name for name in near if is_label_studio(_content(listing, name))] if len(near) <= 50 else []


def _content(listing: Listing, name: str) -> Any:
    """Content of a JSON file that is a list and small enough; None of others, which are no tasks."""
    file = listing.path(name)
    try:
        with file.open("rb") as opened:
            start = opened.read(_FIRST_BYTES).replace(b"\0", b"")
    except OSError as error:
        raise_storage_fault(error, file)
        raise InputError(f"{file}: cannot be opened: {error.strerror}") from error
    if not start.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"["):
        return None
    check_size(file, MOST_BYTES, "tasks in JSON", remedy=_LARGER)
    return listing.json(name)


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
    points, choices, texts and brush masks are left out; of a task that has nothing else nothing is known. Of several
    annotations of a task the ground truth is read, else the newest. A task with an empty annotation has no defects; of
    one without any nothing is known.

    Args:
        listing: of the data set's folder.
        name: of the file, below that folder.
        category: the object category; default: the folder's name.
        report: gets a note of what was changed or left out.

    Returns:
        The records, and no class names: those that occur are the classes.

    Raises:
        InputError: no such file, one of more than `MOST_BYTES`, a task without an image, an image that is missing, or a
            region that does not fit.
    """
    file = listing.path(name)
    tasks = _content(listing, name)
    if not is_label_studio(tasks):
        raise InputError(f"{file}: expected a JSON file of Label Studio, a list of tasks")
    folder = posixpath.dirname(name)
    above = posixpath.dirname(folder)
    parts = ("", "images")
    places = dict.fromkeys(posixpath.join(place, part).rstrip("/") for place in (folder, above) for part in parts)
    report.labels_from = name
    records: dict[str, ImageRecord] = {}
    for task in _newest(tasks, str(file), report):
        where = f"{file} task {task.get('id')}"
        regions = _regions(task, where, report)
        text = _image_of(task, regions or [], where)
        # What Label Studio served lies elsewhere on its machine, so that no folder of the path need agree.
        alone = len(tasks) == 1 and not _ADDRESS.match(text)
        path = listing.find(text, where, report, list(places), alone=alone)
        if path in records:
            raise InputError(f"{where}: {path} is the image of another task, too; take one of both away")
        labels: list[Label] | None = None if regions is None else []
        sizes: set[Size] = set()
        for number, region in enumerate(_with_labels(regions or [])):
            label, size = _label(region, f"{where} region {number}", report)
            if size is not None:
                sizes.add(size)
            if label is not None and labels is not None:
                labels.append(label)
        if regions and not labels:
            report.note("all_dropped", path)
            labels = None
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
    return list(records.values()), None


def _newest(tasks: Sequence[Any], file: str, report: ReadReport) -> list[dict[str, Any]]:
    """One row a task: the short form has one for each of its annotations, of which the newest counts."""
    found: dict[Any, dict[str, Any]] = {}
    for index, task in enumerate(tasks):
        if not isinstance(task, dict):
            raise InputError(f"{file} task {index}: expected an object, got {str(task)[:60]}")
        short = not isinstance(task.get("data"), dict) and task.get("id") is not None
        key = ("id", str(task["id"])) if short else ("row", str(index))
        if key in found:
            report.note("other_annotations", f"{file} task {task['id']}")
        if key not in found or _written_at(task) >= _written_at(found[key]):
            found[key] = task if task.get("id") is not None else task | {"id": index}
    return list(found.values())


def _with_labels(regions: Sequence[Any]) -> list[Any]:
    """Regions, with the labels that another one of the same id holds for those drawn without any."""
    ids = [str(region.get("id") or "") if isinstance(region, dict) else "" for region in regions]
    kinds = [str(region.get("type")) if isinstance(region, dict) else "" for region in regions]
    values = [region.get("value") if isinstance(region, dict) else None for region in regions]
    plain = {number for number, kind in zip(ids, kinds, strict=True) if number and kind in _PLAIN}
    labels = {
        number: value["labels"]
        for number, kind, value in zip(ids, kinds, values, strict=True)
        if kind == "labels" and number in plain and isinstance(value, dict) and value.get("labels")
    }
    found = []
    for region, number, kind, value in zip(regions, ids, kinds, values, strict=True):
        if number not in labels or kind not in (*_PLAIN, "labels"):
            found.append(region)
        elif kind != "labels" and isinstance(value, dict):
            found.append(region | {"value": value | {"labels": labels[number]}})
    return found


def _image_of(task: Mapping[str, Any], regions: Sequence[Any], where: str) -> str:
    """What a task says of its image's file: the value of the data that looks like one, or is called `image`.

    Of several images of a task it is the one that the regions are of, by the name that they give (`to_name`).
    """
    data = task["data"] if isinstance(task.get("data"), dict) else task
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value.strip()}
    if any(text.startswith("data:") for text in texts.values()):
        raise InputError(f"{where}: holds its image itself (`data:`); save it as a file and name that in the task")
    like = {key: text for key, text in texts.items() if _like_image(text)}
    drawn_on = {str(region.get("to_name")) for region in regions if isinstance(region, dict)} & like.keys()
    if len(drawn_on) > 1:
        raise InputError(f"{where}: has regions on {', '.join(sorted(drawn_on))}; expected one image a task")
    likely = [*drawn_on, *(key for key in IMAGE_KEYS if key in texts), *(like if len(like) == 1 else ())]
    if likely or (not like and "url" in texts):
        return texts[likely[0] if likely else "url"]
    if like:
        raise InputError(f"{where}: which of {', '.join(like)} is its image cannot be told; expected one, or `image`")
    if isinstance(task.get("file_upload"), str) and task["file_upload"]:
        return f"/data/upload/{task['file_upload']}"
    raise InputError(f"{where}: names no image in its data; got {', '.join(data) or 'nothing'}")


def _like_image(text: str) -> bool:
    return "?d=" in text or posixpath.splitext(text.split("?")[0])[1].lower() in IMAGE_SUFFIXES


def _regions(task: Mapping[str, Any], where: str, report: ReadReport) -> list[Any] | None:
    """The regions of the annotation that counts; None where a task has none."""
    if not isinstance(task.get("data"), dict):
        found = _short_regions(task)
        if not found and "annotation_id" not in task:
            report.note("unannotated", where)
            return None
        # What a person chose or wrote stands there like a column of the data; where nothing is drawn it may say a lot.
        return found or [{"type": key, "value": {"text": value}} for key, value in task.items() if _is_word(key, value)]
    annotations = task.get("annotations", task.get("completions")) or []
    if not isinstance(annotations, list):
        raise InputError(f"{where}: expected a list of annotations, got {str(annotations)[:60]}")
    usable = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    if not usable:
        report.note("predictions" if task.get("predictions") else "unannotated", where)
        return None
    if len(usable) > 1:
        report.note("other_annotations", f"{where} ({len(usable)})")
    # Of two of one time the later in the list.
    best = max(reversed(usable), key=lambda one: (bool(one.get("ground_truth")), *_written_at(one)))
    result = best.get("result")
    if not isinstance(result, list):
        raise InputError(f"{where}: expected an annotation with a list `result`, got {str(best)[:60]}")
    return result


def _is_word(key: str, value: Any) -> bool:
    """Whether a field of a task in the short form may be what a person chose or wrote."""
    return (
        bool(value) and isinstance(value, (str, list, dict)) and key not in _SHORT_KEYS and not _like_image(str(value))
    )


def _short_regions(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The regions that stand in a task of the short form, in one field for each kind."""
    fields = [one for value in task.values() if isinstance(value, list) for one in value if isinstance(one, dict)]
    return [region for region in fields if {"x", "points", "rle"} & region.keys()]


def _written_at(annotation: Mapping[str, Any]) -> tuple[str, int]:
    """When an annotation was written, and its number, which tells where no time does."""
    number = annotation.get("annotation_id", annotation.get("id"))
    time = annotation.get("updated_at") or annotation.get("created_at") or ""
    return str(time), number if isinstance(number, int) else 0


def _label(region: Any, where: str, report: ReadReport) -> tuple[Label | None, Size | None]:
    """The box of a region in px of the (width, height) that it states, and that size."""
    if not isinstance(region, dict):
        raise InputError(f"{where}: expected an object, got {str(region)[:60]}")
    kind = str(region.get("type") or "").lower()
    value = region["value"] if isinstance(region.get("value"), dict) else region
    size = stated_size(region.get("original_width"), region.get("original_height"))
    if "imageDataURL" in value:
        report.note("unread_masks", where)
        return None, size
    if kind in _NO_BOX or not {"x", "points", "rle"} & value.keys():
        report.note("not_boxes", f"{where} ({kind or 'of no type'})")
        return None, size
    if "rle" in value:
        report.note("unread_masks", where)
        return None, size
    # Of a point `width` is how large it is drawn.
    if "x" in value and not {"height", "radiusX", "points"} & value.keys():
        report.note("not_boxes", f"{where} (a point)")
        return None, size
    if size is None:
        raise InputError(f"{where}: expected original_width and original_height, without which percent are no px")
    if region.get("image_rotation") not in (None, "", 0, 360):
        raise InputError(
            f"{where}: was drawn on an image turned by {region['image_rotation']} degrees, which is not read; turn the "
            "file itself and label it again, or export COCO"
        )
    name = _class_of(value, where)
    try:
        bbox = _bbox(value, size)
        turn = float(value.get("rotation") or 0) % 360
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{where}: expected numbers of a {kind or 'region'} in percent, got {str(value)[:80]}"
        ) from error
    if turn and "points" not in value:
        report.note("rotated", where)
    return Label(bbox, name, where), size


def _bbox(value: Mapping[str, Any], size: Size) -> XYWH:
    """The upright box in px around a region in percent of an image of this size."""
    across, down = size[0] / 100, size[1] / 100
    if "points" in value:
        return box_of_points((float(x) * across, float(y) * down) for x, y in value["points"])
    turn = float(value.get("rotation") or 0) % 360
    x, y = float(value["x"]) * across, float(value["y"]) * down
    if "radiusX" in value:
        return box_of_ellipse((x, y), float(value["radiusX"]) * across, float(value["radiusY"]) * down, turn)
    bbox = (x, y, float(value["width"]) * across, float(value["height"]) * down)
    # A rectangle is turned about its upper left corner.
    return rotated_box(bbox, turn, (x, y)) if turn else bbox


def _class_of(value: Mapping[str, Any], where: str) -> str:
    """The label of a region: the first of its list of labels."""
    for key, names in value.items():
        if key.endswith("labels") and isinstance(names, list) and names:
            if len(names) > 1:
                raise InputError(f"{where}: has the labels {', '.join(map(str, names))}; expected one for each region")
            return str(names[0]).strip()
    raise InputError(f"{where}: has no label; give each region one, or delete it")
