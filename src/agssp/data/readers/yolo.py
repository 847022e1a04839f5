"""Ultralytics' YOLO layout (`images/`, `labels/`, `data.yaml`) as records."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from agssp.data.readers.records import (
    Box,
    ImageRecord,
    ReadReport,
    clean_box,
    find_images,
    folder_category,
    logger,
    path_inside,
    read_text,
    readable_size,
)
from agssp.errors import InputError

SPLIT_KEYS = ("train", "val", "test")
ALIASES = {"validation": "val", "valid": "val"}


def is_yolo(root: Path) -> bool:
    """Whether a folder looks like YOLO data: a YAML table beside images with `labels`, or `images` and `labels`."""
    labels = [folder for folder in (root / "labels", *sorted(root.glob("*/labels"))) if folder.is_dir()]
    return bool(labels) and (_tables(root) != [] or any(any(folder.rglob("*.txt")) for folder in labels))


def read_yolo(
    source: Path, split: str | None, category: str | None, report: ReadReport
) -> tuple[list[ImageRecord], list[str]]:
    """Read a YOLO data set.

    `data.yaml` gives `names`, and for `train`, `val` and `test` a folder, a list of folders or a .txt list of images.
    The labels of `images/a/b.jpg` are `labels/a/b.txt`, one `class cx cy w h` a line, 0..1; a polygon (more numbers)
    becomes its bounding box. A missing or empty file is an image without boxes. Images of one name and different suffix
    share their labels.

    Args:
        source: the folder, or its YAML table.
        split: which of the table's splits; default: `train`, or all images where the table names no splits.
        category: the object category; default: the folder's name.
        report: gets the boxes that were changed, and label files with no image or with several.

    Returns:
        The records, and the class names in order.

    Raises:
        InputError: no class names, no such split, a malformed line, or a class id beyond the list; file and line are
            named.
    """
    root = source.parent if source.is_file() else source
    table = source if source.is_file() else _table(root)
    content = _content(table)
    names = _class_names(content, table)
    records = []
    folders: dict[Path, Path] = {}
    owners: dict[Path, list[str]] = defaultdict(list)
    for path in _images(root, content, split, table):
        relative = path.relative_to(root)
        file = _label_file(root, relative)
        folders[file.parent] = path.parent
        boxes = read_labels(file, path, names, report)
        if boxes:
            owners[file].append(relative.as_posix())
        records.append(
            ImageRecord(
                path=path,
                image_id=relative.as_posix(),
                category=category or folder_category(root),
                boxes=boxes,
            )
        )
    report.share(owners)
    for labels, images in sorted(folders.items()):
        stems = {image.stem for image in images.iterdir()} | {"classes"}
        report.orphans += [str(file) for file in sorted(labels.glob("*.txt")) if file.stem not in stems]
    return records, names


def _tables(root: Path) -> list[Path]:
    tables = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    return sorted(tables, key=lambda path: path.name not in ("data.yaml", "dataset.yaml"))


def _table(root: Path) -> Path:
    for file in (*_tables(root), root / "classes.txt", root / "labels" / "classes.txt"):
        if file.is_file():
            return file
    raise InputError(f"{root}: expected a data.yaml with the class names (`names`), or a classes.txt with one a line")


def _content(table: Path) -> dict[str, Any]:
    text = read_text(table)
    if table.suffix == ".txt":
        return {"names": [line.strip() for line in text.split("\n") if line.strip()]}
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{table}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{table}: expected a table with `names`, got {type(content).__name__}")
    return content


def _class_names(content: dict[str, Any], table: Path) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, list) or not names:
        raise InputError(f"{table}: expected `names`, the list of classes or a table of them from 0 on, got {names!r}")
    names = [str(name) for name in names]
    if len(set(names)) != len(names):
        raise InputError(f"{table}: a class name occurs twice in `names`: {', '.join(names)}")
    return names


def _images(root: Path, content: dict[str, Any], split: str | None, table: Path) -> list[Path]:
    present = [key for key in SPLIT_KEYS if content.get(key)]
    key = ALIASES.get(split, split) if split is not None else None
    if key is not None and key not in present:
        raise InputError(f"{table}: has no split {split!r}; it has {', '.join(present) or 'none'}")
    if key is None and present:
        key = "train" if "train" in present else present[0]
        if len(present) > 1:
            logger.warning("%s: reads its split %s of %s", table, key, ", ".join(present))
    if key is None:
        images = [path for path in find_images(root) if "images" in path.relative_to(root).parts[:-1]]
        return images or find_images(root)
    entries = content[key] if isinstance(content[key], list) else [content[key]]
    found: list[Path] = []
    for entry in entries:
        place = _place(root, str(content.get("path") or "."), str(entry), f"{table}: {key}")
        found += find_images(place) if place.is_dir() else _listed(root, place)
    return found


def _place(root: Path, base: str, entry: str, where: str) -> Path:
    # `path` often still says where the data lay on the machine that wrote it, and Roboflow's entries begin with `../`.
    trimmed = entry.removeprefix("./").removeprefix("../") or "."
    candidates = []
    for name in (f"{base}/{entry}", entry, trimmed):
        if name == entry and Path(entry).is_absolute() and Path(entry).is_relative_to(root.absolute()):
            candidates.append(Path(entry))
            continue
        try:
            candidates.append(path_inside(root, name, where))
        except InputError:
            if name == trimmed:
                raise
    for candidate in candidates:
        if candidate.is_dir() or (candidate.suffix == ".txt" and candidate.is_file()):
            return candidate
    raise InputError(f"{where}: there is no {entry!r} below {root}")


def _listed(root: Path, file: Path) -> list[Path]:
    found = []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if line.strip():
            path = path_inside(root, line.strip(), f"{file}:{number}")
            if not path.is_file():
                raise InputError(f"{file}:{number}: names {line.strip()!r}, but there is no such file in {root}")
            found.append(path)
    return found


def _label_file(root: Path, image: Path) -> Path:
    parts = list(image.with_suffix(".txt").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            return root.joinpath(*parts)
    return root / "labels" / Path(*parts)


def read_labels(file: Path, image: Path, names: list[str], report: ReadReport) -> list[Box]:
    """The boxes of one label file, clipped to their image; none where there is no file or the image is damaged.

    Raises:
        InputError: a malformed line, or a class id beyond `names`; file and line are named.
    """
    if not file.is_file():
        return []
    labels = []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if line.strip():
            labels.append((f"{file}:{number}", *_parse(line.split(), names, f"{file}:{number}")))
    size = readable_size(image, report) if labels else None
    if size is None:
        return []
    width, height = size
    cleaned = (
        clean_box(Box((x * width, y * height, w * width, h * height), name), width, height, where, report)
        for where, name, (x, y, w, h) in labels
    )
    return [box for box in cleaned if box is not None]


def _parse(words: list[str], names: list[str], where: str) -> tuple[str, tuple[float, float, float, float]]:
    """Class name and box, xywh as fractions of the image, of one label line."""
    try:
        index, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError as error:
        raise InputError(f"{where}: expected `class cx cy w h`, got {' '.join(words)!r}") from error
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise InputError(f"{where}: expected `class cx cy w h` (4 numbers) or a polygon, got {len(values)} numbers")
    if index not in range(len(names)):
        raise InputError(
            f"{where}: class id {words[0]} is beyond the list of {len(names)} classes ({', '.join(names)})"
        )
    if any(not -1 <= value <= 2 for value in values):
        raise InputError(
            f"{where}: expected fractions of the image, 0 to 1, got {' '.join(words[1:])}; are these pixels?"
        )
    if len(values) == 4:
        cx, cy, w, h = values
        return names[int(index)], (cx - w / 2, cy - h / 2, w, h)
    left, top = min(values[0::2]), min(values[1::2])
    return names[int(index)], (left, top, max(values[0::2]) - left, max(values[1::2]) - top)
