"""What all exports share: made-up pictures, their boxes, and how it is kept what a tool says of them."""

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ["scratch", "dent"]
FLAT, SMALL, SOUND, TURNED = "plate 01.JPG", "plate_02.png", "plate_03.jpg", "turned_04.jpg"
SIZES = {FLAT: (96, 64), SMALL: (80, 60), SOUND: (96, 64), TURNED: (64, 96)}  # upright width and height in px
BOXES = {  # upright corners in px: left, top, right, bottom
    FLAT: [("dent", (10.25, 12.5, 30.75, 28.25)), ("scratch", (40, 30.5, 75.25, 36.625))],
    SMALL: [("scratch", (5.5, 8.25, 35.5, 20.75))],
    SOUND: [],
    TURNED: [("dent", (8.5, 60.25, 31.25, 75.75))],
}
TRIANGLE = [(50.5, 22.25), (70.25, 30.5), (58, 47.75)]  # a polygon in SMALL


def pictures(folder: Path, names=tuple(SIZES)) -> list[str]:
    """Write grey pictures, brighter in their boxes; TURNED is stored lying, with the EXIF tag that turns it upright."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        pixels = np.full(SIZES[name][::-1], 90, np.uint8)
        for _, corners in BOXES[name]:
            left, top, right, bottom = map(round, corners)
            pixels[top:bottom, left:right] = 220
        options = {}
        if name == TURNED:
            pixels, options["exif"] = np.rot90(pixels), Image.Exif()
            options["exif"][0x0112] = 6
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name, **options)
    return [str(folder / name) for name in names]


def xywh(corners) -> list[float]:
    left, top, right, bottom = corners
    return [left, top, right - left, bottom - top]


def keep(name: str, read_by: str, splits: dict, *, classes=CLASSES, tolerance=0.01, because="") -> None:
    """Write NAME.expected.json.

    Args:
        name: of the export's folder: tool, version, form.
        read_by: the call of the tool that the boxes come from.
        splits: by the name of the split ("" where there is none): {path below the folder: (width, height, objects)},
            the size upright in px, objects as (class, xywh in px, iscrowd).
        classes: all class names, those without boxes too.
        tolerance: in px, how far another reader may be off, and
        because: of which rounding.
    """
    content = {"made_by": name, "read_by": read_by, "classes": list(classes), "tolerance": tolerance}
    content |= {"because": because, "splits": {}}
    for split, images in sorted(splits.items()):
        content["splits"][split] = {
            path: {
                "size": [width, height],
                "objects": [[label, [round(float(v), 4) for v in box], int(crowd)] for label, box, crowd in objects],
            }
            for path, (width, height, objects) in sorted(images.items())
        }
    text = json.dumps(content, indent=1)
    for _ in range(2):  # a line each for size and object
        text = re.sub(r"\[\s+((?:[^][]|\[[^][\n]*\])*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    Path(f"{name}.expected.json").write_text(text + "\n")


def keep_refused(name: str, file: str) -> None:
    """Write NAME.expected.json for a form that is not read: the error must name this file."""
    Path(f"{name}.expected.json").write_text(json.dumps({"made_by": name, "refused": file}, indent=1) + "\n")
