"""Files as labelling tools write them, around small made-up images, and what is read of them."""

import json
from types import SimpleNamespace

from PIL import Image

from agssp.data.readers import ReadReport, read_dataset
from agssp.data.schema import defect_names

SIZE = (96, 64)


def turned_exif():
    """EXIF of a photo that is stored lying on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def write(root, files):
    """Files by their path: texts, bytes or JSON; images where the content is None, a size or EXIF."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None or isinstance(content, tuple):
            Image.new("L", content or SIZE, 90).save(path)
        elif isinstance(content, Image.Exif):
            Image.new("L", SIZE, 90).save(path, exif=content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


def read(source, **options):
    """What is read: of each image its `boxes` as (class, rounded box), None where nothing is known; the `report`."""
    report = ReadReport()
    data = read_dataset(source, report=report, **options)
    names = defect_names(data) if "objects" in data.features else []
    boxes = {}
    for row in data:
        objects = row.get("objects")
        boxes[row["image_id"]] = objects and [
            (names[label], [round(value, 3) for value in bbox])
            for label, bbox in zip(objects["category"], objects["bbox"], strict=True)
        ]
    return SimpleNamespace(boxes=boxes, report=report, names=names)
