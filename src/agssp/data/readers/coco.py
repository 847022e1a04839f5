"""COCO annotations (one JSON file) as records."""

import json
from pathlib import Path
from typing import Any

from agssp.data.readers.crowds import crowd_flag
from agssp.data.readers.records import (
    Box,
    ImageRecord,
    ReadReport,
    clean_box,
    folder_category,
    path_inside,
    read_text,
    readable_size,
)
from agssp.errors import InputError


def find_coco(root: Path) -> list[Path]:
    """COCO files of a folder: JSON in it or in its `annotations` that holds images, annotations and categories."""
    return [file for file in sorted([*root.glob("*.json"), *root.glob("annotations/*.json")]) if _is_coco(file)]


def choose_coco(root: Path, split: str | None) -> Path:
    """The COCO file of a folder, or of one of its splits (told by the file's name).

    Raises:
        InputError: there is none, or more than one and none of them is of that split; they are named.
    """
    files = find_coco(root)
    if split is not None:
        files = [file for file in files if split in file.stem]
    if len(files) > 1 and split is None:
        files = [file for file in files if "train" in file.stem] or files
    if len(files) != 1:
        found = ", ".join(str(file.relative_to(root)) for file in files or find_coco(root)) or "none"
        raise InputError(
            f"{root}: expected one COCO .json{f' of split {split!r}' if split else ''}, found {found}; "
            "name the file itself"
        )
    return files[0]


def read_coco(file: Path, category: str | None, report: ReadReport) -> tuple[list[ImageRecord], list[str]]:
    """Read a COCO detection file.

    Images are looked for beside the file and one folder up, there also in `images/` and in the folder that the end of
    the file's name gives (`instances_train.json`: `train/`, `images/train/`); all of the file's images must be there.
    Crowd annotations are boxes with `iscrowd`, be they crowds or not (`resolve_crowds`).

    Returns:
        The records, and the class names in the order of their ids.

    Raises:
        InputError: no valid COCO file, an annotation of an unknown image or category, or a missing image.
    """
    try:
        content = json.loads(read_text(file))
        images = {image["id"]: str(image["file_name"]) for image in content["images"]}
        names = {row["id"]: str(row["name"]) for row in sorted(content["categories"], key=lambda row: row["id"])}
        annotations = list(content.get("annotations", []))
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: not valid JSON: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: expected a COCO file with images, annotations and categories: {error!r}") from error
    if len(images) != len(content["images"]):
        raise InputError(f"{file}: two images share an id")
    if len(set(names.values())) != len(content["categories"]):
        raise InputError(f"{file}: two categories share an id or a name")
    root = _image_root(file, list(images.values()))
    paths = {key: path_inside(root, name, str(file)) for key, name in images.items()}
    boxes = _boxes(file, annotations, paths, names, report)
    records = [
        ImageRecord(
            path=path,
            image_id=path.relative_to(root).as_posix(),
            category=category or folder_category(root),
            boxes=boxes[key],
        )
        for key, path in paths.items()
    ]
    return records, list(names.values())


def _boxes(
    file: Path, annotations: list[Any], paths: dict[Any, Path], names: dict[Any, str], report: ReadReport
) -> dict[Any, list[Box]]:
    boxes: dict[Any, list[Box]] = {key: [] for key in paths}
    sizes: dict[Any, tuple[int, int] | None] = {}
    for index, row in enumerate(annotations):
        if not isinstance(row, dict):
            raise InputError(f"{file} annotation {index}: expected an object, got {row!r}")
        where = f"{file} annotation {row.get('id', index)}"
        key, label = row.get("image_id"), row.get("category_id")
        if isinstance(key, (list, dict)) or key not in paths:
            raise InputError(f"{where}: image_id {key!r} is not among the file's images")
        if isinstance(label, (list, dict)) or label not in names:
            raise InputError(
                f"{where}: category_id {label!r} is not among the {len(names)} categories "
                f"({', '.join(f'{number} {name}' for number, name in names.items())})"
            )
        try:
            x, y, w, h = map(float, row["bbox"])
            score = float(row.get("score", 1.0))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: expected bbox = [x, y, width, height], got {row.get('bbox')!r}") from error
        crowd = crowd_flag(row.get("iscrowd"), where)
        if key not in sizes:
            sizes[key] = readable_size(paths[key], report)
        size = sizes[key]
        if size is not None:
            box = clean_box(Box((x, y, w, h), names[label], score, crowd), *size, where, report)
            if box is not None:
                boxes[key].append(box)
    return boxes


def _is_coco(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _image_root(file: Path, names: list[str]) -> Path:
    if not names:
        raise InputError(f"{file}: lists no images")
    for name in names:
        path_inside(file.parent, name, str(file))
    folder = file.parent
    subset = file.stem.rsplit("_", 1)[-1]  # instances_train2017.json has its images in train2017/
    candidates = [
        place / name
        for place in (folder, folder.parent)
        for name in (".", "images", subset, f"images/{subset}", f"{subset}/images")
    ]
    missing = {root: [name for name in names if not (root / name).is_file()] for root in candidates if root.is_dir()}
    best = min(missing, key=lambda root: len(missing[root]))
    if not missing[best]:
        return best
    if len(missing[best]) == len(names):
        looked = ", ".join(str(candidate) for candidate in missing)
        raise InputError(f"{file}: its image {names[0]!r} was not found; looked in {looked}")
    raise InputError(
        f"{file}: {len(missing[best])} of its {len(names)} images are not in {best}: {missing[best][0]} ..."
    )
