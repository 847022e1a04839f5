"""COCO annotations (one JSON file) as records."""

import json
from pathlib import Path

from agssp.data.images import image_size
from agssp.data.readers.records import Box, ImageRecord, ReadReport, clean_box, path_inside
from agssp.errors import InputError


def read_coco(file: Path, category: str | None, report: ReadReport) -> tuple[list[ImageRecord], list[str]]:
    """Read a COCO detection file.

    Images are looked for beside the file, then in `images/` beside it, then one folder up (`../images`, `..`); all of
    the file's images must be there. Crowd annotations are left out.

    Returns:
        The records, and the class names in the order of their ids.

    Raises:
        InputError: no valid COCO file, an annotation of an unknown image or category, or a missing image.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        images = {image["id"]: image for image in content["images"]}
        names = {row["id"]: str(row["name"]) for row in sorted(content["categories"], key=lambda row: row["id"])}
        annotations = content.get("annotations", [])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{file}: expected a COCO file with images, annotations and categories: {error!r}") from error
    if len(images) != len(content["images"]):
        raise InputError(f"{file}: two images share an id")
    root = _image_root(file, [str(image["file_name"]) for image in images.values()])

    boxes: dict[object, list[Box]] = {key: [] for key in images}
    sizes: dict[object, tuple[int, int]] = {}
    for index, row in enumerate(annotations):
        where = f"{file} annotation {row.get('id', index)}"
        if row.get("image_id") not in images:
            raise InputError(f"{where}: image_id {row.get('image_id')!r} is not among the file's images")
        if row.get("category_id") not in names:
            raise InputError(f"{where}: category_id {row.get('category_id')!r} is beyond the {len(names)} categories")
        if row.get("iscrowd"):
            continue
        try:
            x, y, w, h = map(float, row["bbox"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: expected bbox = [x, y, width, height], got {row.get('bbox')!r}") from error
        key = row["image_id"]
        if key not in sizes:
            name = str(images[key]["file_name"])
            sizes[key] = image_size(path_inside(root, name, where), name)
        box = clean_box(
            Box((x, y, w, h), names[row["category_id"]], float(row.get("score", 1.0))), *sizes[key], where, report
        )
        if box is not None:
            boxes[key].append(box)

    records = [
        ImageRecord(
            path=path_inside(root, str(image["file_name"]), str(file)),
            image_id=str(image["file_name"]).replace("\\", "/"),
            category=category or root.absolute().name,
            boxes=boxes[key],
        )
        for key, image in images.items()
    ]
    return records, list(names.values())


def _image_root(file: Path, names: list[str]) -> Path:
    for name in names:
        path_inside(file.parent, name, str(file))
    folder = file.parent
    candidates = [folder, folder / "images", folder / file.stem, folder.parent, folder.parent / "images"]
    for candidate in candidates:
        if names and (candidate / names[0]).is_file():
            missing = [name for name in names if not (candidate / name).is_file()]
            if missing:
                raise InputError(
                    f"{file}: {len(missing)} of its {len(names)} images are not in {candidate}: {missing[0]} ..."
                )
            return candidate
    if not names:
        return folder
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise InputError(f"{file}: its image {names[0]!r} was not found; looked in {looked}")
