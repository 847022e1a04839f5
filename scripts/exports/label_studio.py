"""Label Studio: tasks as JSON with rectangles, polygons and a brush, and its COCO and YOLO forms."""

import json
import shutil
from pathlib import Path

import numpy as np
from exports.common import BOXES, CLASSES, FLAT, SIZES, SMALL, SOUND, TRIANGLE, TURNED, keep, keep_refused, pictures
from exports.common import xywh as to_xywh
from label_studio_sdk.converter import Converter, brush
from label_studio_sdk.converter.imports.yolo import convert_yolo_to_ls
from label_studio_sdk.converter.utils import (
    convert_annotation_to_yolo_obb,
    get_polygon_bounding_box,
    join_input_url,
)

TOOL = "label-studio-sdk-2.1.2"
UPLOADED = {name: f"1a2b3c4d-{name.replace(' ', '_')}" for name in SIZES}
TAGS = {"rectanglelabels": "box", "polygonlabels": "outline", "brushlabels": "brush"}
CONFIG = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image"><Label value="scratch"/><Label value="dent"/></RectangleLabels>
<PolygonLabels name="outline" toName="image"><Label value="stain"/></PolygonLabels>
<BrushLabels name="brush" toName="image"><Label value="rust"/></BrushLabels></View>"""
XYWH = ("x", "y", "width", "height")
IN_FULL = "numbers are written in full"


def region(name: str, kind: str, label: str, value: dict) -> dict:
    width, height = SIZES[name]
    sizes = {"original_width": width, "original_height": height, "image_rotation": 0}
    where = {"id": f"{kind}-{name}", "type": kind, "from_name": TAGS[kind], "to_name": "image"}
    return where | sizes | {"value": value | {kind: [label]}}


def rectangle(name: str, label: str, corners, rotation: float = 0.0) -> dict:
    percent = [100 * v / SIZES[name][i % 2] for i, v in enumerate(to_xywh(corners))]
    value = dict(zip(XYWH, percent, strict=True)) | {"rotation": rotation}
    return region(name, "rectanglelabels", label, value)


def tasks(regions: dict[str, list[dict]]) -> list[dict]:
    return [
        {
            "id": number,
            "data": {"image": f"/data/upload/7/{UPLOADED[name]}"},
            "annotations": [{"id": number, "completed_by": 1, "was_cancelled": False, "result": items}],
            "predictions": [],
        }
        for number, (name, items) in enumerate(regions.items(), 1)
    ]


def convert(form: str, folder: str, rows: list[dict], file: str | None = None) -> None:
    """Have the converter write `folder`; `file` is a new name for its result.json."""
    Path("tasks.json").write_text(json.dumps(rows))
    Converter(CONFIG, project_dir=".", upload_dir="upload").convert("tasks.json", folder, form, is_dir=False)
    if file:
        Path(folder, "result.json").rename(Path(folder, file))


def add_images(folder: str, names) -> None:
    """The user's part: an export without images is put beside a folder of them."""
    Path(folder, "images").mkdir(exist_ok=True)
    for name in names:
        shutil.copy(f"upload/7/{UPLOADED[name]}", f"{folder}/images")


def box_of(item: dict) -> list[float]:
    """Upright xywh in px around a rectangle with its rotation or around a polygon."""
    width, height = item["original_width"], item["original_height"]
    if item["type"] == "polygonlabels":
        points = [(x / 100 * width, y / 100 * height) for x, y in item["value"]["points"]]
        return get_polygon_bounding_box(*zip(*points, strict=True))
    x, y = zip(*convert_annotation_to_yolo_obb(item | item["value"], normalize=False), strict=True)
    return to_xywh((min(x), min(y), max(x), max(y)))


def write() -> None:
    for file, name in zip(pictures(Path("upload/7")), SIZES, strict=True):
        Path(file).rename(f"upload/7/{UPLOADED[name]}")
    regions = {name: [rectangle(name, *box) for box in boxes] for name, boxes in BOXES.items()}
    regions[FLAT].append(rectangle(FLAT, "scratch", (60, 8, 84, 14), rotation=30))
    points = [[100 * x / SIZES[SMALL][0], 100 * y / SIZES[SMALL][1]] for x, y in TRIANGLE]
    regions[SMALL].append(region(SMALL, "polygonlabels", "stain", {"points": points, "closed": True}))
    write_json(regions)
    write_yolo(regions)
    # In this form a turned photo's rectangles are in upright px, while its size is that of the stored image.
    write_coco({name: items for name, items in regions.items() if name != TURNED})
    write_brush()


def write_json(regions: dict[str, list[dict]]) -> None:
    name, rows = f"{TOOL}-json", tasks(regions)
    rows[1]["data"]["image"] = join_input_url("/data/local-files/?d=line 7", UPLOADED[SMALL])
    convert("JSON", name, rows, "project-7.json")
    add_images(name, regions)
    images = {}
    for file, items in regions.items():
        objects = [(item["value"][item["type"]][0], box_of(item), 0) for item in items]
        images[f"images/{UPLOADED[file]}"] = (*SIZES[file], objects)
    read_by = "converter.utils.convert_annotation_to_yolo_obb(normalize=False), get_polygon_bounding_box"
    keep(name, read_by, {"": images}, classes=[*CLASSES, "stain"], because=IN_FULL)


def write_yolo(regions: dict[str, list[dict]]) -> None:
    name = f"{TOOL}-yolo"
    convert("YOLO_WITH_IMAGES", name, tasks(regions))
    convert_yolo_to_ls(name, "again.json", image_ext=".jpg,.JPG,.png")
    again = {task["data"]["image"].rsplit("/", 1)[-1]: task for task in json.loads(Path("again.json").read_text())}
    images = {}
    for file, items in regions.items():
        objects = []
        for item, found in zip(items, again[UPLOADED[file]]["annotations"][0]["result"], strict=True):
            value = found["value"]
            box = [value[key] / 100 * SIZES[file][i % 2] for i, key in enumerate(XYWH)]
            # The tool's reader takes the first numbers of a polygon's row for a box.
            box = box_of(item) if item["type"] == "polygonlabels" else box
            objects.append((value["rectanglelabels"][0], box, 0))
        images[f"images/{UPLOADED[file]}"] = (*SIZES[file], objects)
    read_by = "converter.imports.yolo.convert_yolo_to_ls; for the polygon converter.utils.get_polygon_bounding_box"
    because = f"{IN_FULL}; a turned rectangle is written as if it were not turned"
    keep(name, read_by, {"": images}, classes=["dent", "rust", "scratch", "stain"], because=because)


def write_coco(regions: dict[str, list[dict]]) -> None:
    name = f"{TOOL}-coco"
    convert("COCO", name, tasks(regions))
    add_images(name, regions)
    content = json.loads(Path(name, "result.json").read_text())
    labels = {row["id"]: row["name"] for row in content["categories"]}
    images = {}
    for image in content["images"]:
        rows = [row for row in content["annotations"] if row["image_id"] == image["id"]]
        objects = [(labels[row["category_id"]], row["bbox"], row["iscrowd"]) for row in rows]
        images[f"images/{Path(image['file_name']).name}"] = (image["width"], image["height"], objects)
    because = f"{IN_FULL}; the box around a turned rectangle is the tool's own, which is turned in percent"
    keep(name, "bbox in the file", {"": images}, classes=labels.values(), because=because)


def write_brush() -> None:
    name, mask = f"{TOOL}-brush", np.zeros(SIZES[SMALL][::-1], np.uint8)
    mask[10:20, 30:45] = 255
    value = {"format": "rle", "rle": brush.mask2rle(mask)}
    regions = {SOUND: [], SMALL: [region(SMALL, "brushlabels", "rust", value)]}
    convert("JSON", name, tasks(regions), "project-8.json")
    add_images(name, regions)
    keep_refused(name, "project-8.json")
