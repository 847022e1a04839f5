"""Ultralytics' YOLO layout (`images/`, `labels/`, `data.yaml`) as records."""

from pathlib import Path

import yaml

from agssp.data.images import ImageError, image_size
from agssp.data.readers.records import Box, ImageRecord, ReadReport, clean_box, find_images, path_inside
from agssp.errors import InputError


def read_yolo(
    root: Path, split: str | None, category: str | None, report: ReadReport
) -> tuple[list[ImageRecord], list[str]]:
    """Read a YOLO data set.

    `data.yaml` (or any other .yaml beside the images) gives `names`; with `split`, the folder or list that it names for
    that split is read, else all images. The labels of `images/a/b.jpg` are `labels/a/b.txt`, one `class cx cy w h` a
    line, 0..1; segments (more numbers) become their bounding box. A missing or empty file is an image without boxes.

    Returns:
        The records, and the class names in order.

    Raises:
        InputError: no class names, a malformed line, or a class id beyond the list; file and line are named.
    """
    table = _table(root)
    names = _names(table)
    folders = [root]
    if split is not None:
        content = yaml.safe_load(table.read_text(encoding="utf-8"))
        if split not in content:
            raise InputError(f"{table}: has no split {split!r}")
        base = path_inside(root, str(content["path"]), str(table)) if content.get("path") not in (None, ".") else root
        entries = content[split] if isinstance(content[split], list) else [content[split]]
        folders = [path_inside(base, str(entry).removeprefix("../"), str(table)) for entry in entries]

    records = []
    for folder in folders:
        for path in find_images(folder):
            relative = path.relative_to(root)
            labels = _label_file(root, relative)
            records.append(
                ImageRecord(
                    path=path,
                    image_id=relative.as_posix(),
                    category=category or root.absolute().name,
                    boxes=_read_labels(labels, path, names, report),
                )
            )
    return records, names


def is_yolo(root: Path) -> bool:
    """Whether a folder looks like a YOLO data set."""
    return any(file.suffix in (".yaml", ".yml") for file in root.glob("*.y*ml")) and any(root.rglob("labels"))


def _table(root: Path) -> Path:
    tables = sorted(root.glob("*.yaml")) + sorted(root.glob("*.yml"))
    tables.sort(key=lambda path: path.name not in ("data.yaml", "dataset.yaml"))
    if not tables:
        raise InputError(f"{root}: expected a data.yaml with the class names")
    return tables[0]


def _names(table: Path) -> list[str]:
    try:
        content = yaml.safe_load(table.read_text(encoding="utf-8"))
        names = content["names"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{table}: expected YAML with `names`, the list of classes: {error!r}") from error
    if isinstance(names, dict):
        return [str(names[key]) for key in sorted(names)]
    return [str(name) for name in names]


def _label_file(root: Path, image: Path) -> Path:
    parts = list(image.with_suffix(".txt").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            return root.joinpath(*parts)
    return root / "labels" / Path(*parts)


def _read_labels(file: Path, image: Path, names: list[str], report: ReadReport) -> list[Box]:
    if not file.is_file():
        return []
    lines = [(number, line.split()) for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)]
    lines = [(number, words) for number, words in lines if words]
    if not lines:
        return []
    try:
        width, height = image_size(image, str(image))
    except ImageError:
        # A damaged image is skipped and counted where it is decoded; without its size its boxes mean nothing.
        return []
    boxes = []
    for number, words in lines:
        where = f"{file}:{number}"
        try:
            index, values = int(float(words[0])), [float(word) for word in words[1:]]
        except ValueError as error:
            raise InputError(f"{where}: expected `class cx cy w h`, got {' '.join(words)!r}") from error
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise InputError(f"{where}: expected `class cx cy w h` (4 numbers) or a polygon, got {len(values)} numbers")
        if not 0 <= index < len(names):
            raise InputError(
                f"{where}: class id {index} is beyond the list of {len(names)} classes ({', '.join(names)})"
            )
        if len(values) == 4:
            cx, cy, w, h = values
            left, top = cx - w / 2, cy - h / 2
        else:
            left, top = min(values[0::2]), min(values[1::2])
            w, h = max(values[0::2]) - left, max(values[1::2]) - top
        box = Box((left * width, top * height, w * width, h * height), names[index])
        cleaned = clean_box(box, width, height, where, report)
        if cleaned is not None:
            boxes.append(cleaned)
    return boxes
