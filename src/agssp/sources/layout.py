"""Read a source's folder by the rules of its entry in the table: which files are images, and what their names tell.

A rule of `files` has `match`, a pattern (Python's `re`) for an image's whole path below the source's folder, with named
groups that the rule's other texts may use as `{group}`:

    category    the object category; default: the source's name with `_` for `-`
    split       train, validation or test
    normal      true or false, where the name tells
    class       the class of what its masks show; default: defect
    masks       where its masks may be, without suffix: the first that exists; with `*` all that fit
    values      pixel value of a mask -> class, where each class has a value
    unlabelled  of an image without masks and labels: `unknown` (default), `normal` or `left out`
    unique      of images with the same text here only the first is kept

The first rule whose pattern fits an image holds.
"""

import fnmatch
import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agssp.data.mask_reading import MaskReading
from agssp.data.readers import find_format, read_dataset
from agssp.data.readers.listing import find_images
from agssp.data.readers.records import Box
from agssp.data.readers.report import ReadReport
from agssp.data.schema import category_names, defect_names
from agssp.errors import InputError
from agssp.sources.defects import Mask, MaskFile
from agssp.sources.image import SourceImage, SourceReport
from agssp.sources.labels import Labels, Told, read_told, renamed, settle_labels
from agssp.sources.table import OWN_LINE, Source, find_source


@dataclass(frozen=True)
class _File:
    """An image file with the rule that it fits, the groups of its name, and its mask files."""

    path: Path
    name: str
    rule: dict[str, Any]
    groups: dict[str, str]
    masks: list[MaskFile]


def read_source_images(source: Source, root: Path, report: SourceReport, crowds: str = "auto") -> list[SourceImage]:
    """All images of a source, in the order of their ids.

    Args:
        source: the source; of a subset, all images of the whole.
        root: the folder in which its layout begins.
        report: gets what was left out or changed.
        crowds: what boxes marked as crowds are, see `read_dataset`.

    Raises:
        InputError: no image fits the layout, or a label file is malformed; it is named.
    """
    if source.subset:
        source = find_source(source.subset["of"])
    if source.name == OWN_LINE:
        return _read_own_line(root, report, crowds)
    paths = find_images(root)
    by_stem: dict[str, list[Path]] = {}
    for path in paths:
        by_stem.setdefault(path.relative_to(root).with_suffix("").as_posix(), []).append(path)
    rules = [(re.compile(rule["match"]), rule) for rule in source.files]
    files: list[_File] = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        fits = ((pattern.fullmatch(name), rule) for pattern, rule in rules)
        match, rule = next(((match, rule) for match, rule in fits if match), (None, {}))
        if match is None:
            report.unmatched.append(name)
        else:
            groups = {key: value or "" for key, value in match.groupdict().items()}
            files.append(_File(path, name, rule, groups, _mask_files(source, rule, groups, path, by_stem)))
    used = {mask.path for file in files for mask in file.masks}
    report.unmatched = [name for name in report.unmatched if root / name not in used]
    told = read_told(source, root, [(file.path, file.groups) for file in files], report.boxes)
    kept = _kept(files, told, report)
    labels = settle_labels(source, [(file.name, file.path, found) for file, found in kept], report.boxes, crowds)
    images = [_image(source, file, found) for (file, _), found in zip(kept, labels, strict=True)]
    if report.boxes.layout:
        _count(images, labels, report.boxes)
    _read_masks_alike(images, str(root))
    if not images:
        raise InputError(
            f"{root}: none of its {len(paths)} image files fits the layout of {source.name}:\n{source.layout.rstrip()}"
        )
    return images


def _kept(files: Sequence[_File], told: Sequence[Told | None], report: SourceReport) -> list[tuple[_File, Told | None]]:
    """The images that become rows, without those that lack the labels that their source gives all images."""
    kept = []
    seen: set[str] = set()
    for file, found in zip(files, told, strict=True):
        key = file.rule.get("unique", "").format(**file.groups)
        if file.rule.get("unlabelled") == "left out" and not file.masks and not _is_told(found):
            report.unlabelled.append(file.name)
        elif key and key in seen:
            report.repeated.append(file.name)
        else:
            kept.append((file, found))
            seen.add(key)
    return kept


def _is_told(found: Told | Labels | None) -> bool:
    return found is not None and found.annotated is not None


def _count(images: Sequence[SourceImage], labels: Sequence[Labels | None], report: ReadReport) -> None:
    """Fill in the numbers of a report; masks are not opened yet."""
    report.with_label_file = sum(found is not None for found in labels)
    for image, found in zip(images, labels, strict=True):
        boxes = image.boxes or []
        classes = None if image.boxes is None else [box.defect_type for box in boxes if not box.iscrowd]
        drawn = found is not None and found.annotated and image.masks
        report.add_image(classes, False if drawn else image.is_normal, sum(box.iscrowd for box in boxes))


def _read_masks_alike(images: Sequence[SourceImage], source: str) -> None:
    """Give all mask files of a source the reading that its first ones decide."""
    files = [mask for image in images for mask in image.masks or [] if isinstance(mask, MaskFile) and not mask.values]
    if not files:
        return
    reading = MaskReading.of(((file.name, file.path) for file in files), source)
    reading.tell(source)
    for image in images:
        if image.masks:
            image.masks = [
                replace(mask, reading=reading) if isinstance(mask, MaskFile) and not mask.values else mask
                for mask in image.masks
            ]


def _image(source: Source, file: _File, labels: Labels | None) -> SourceImage:
    rule = file.rule
    category = str(rule.get("category", source.name.replace("-", "_"))).format(**file.groups)
    masks: list[Mask] = [*file.masks, *(labels.masks if labels is not None else [])]
    # Where nothing is left of its annotations, an image is no example of one without defects.
    boxes = None if labels is None or (labels.annotated and not labels.boxes) else labels.boxes
    normal = rule.get("normal")
    told = _is_told(labels) or bool(masks)
    if normal is None:
        sound = labels is not None and labels.annotated is False and not masks
        unlabelled_normal = not told and rule.get("unlabelled") == "normal"
        normal = True if sound or unlabelled_normal else False if boxes else None
    if normal:
        masks, boxes = [], []
    return SourceImage(
        path=file.path,
        image_id=file.name,
        category=source.category_names.get(category, category),
        split=str(rule.get("split", "")).format(**file.groups) or (labels.split if labels is not None else None),
        is_normal=normal,
        boxes=boxes,
        masks=masks if masks or normal else None,
        smallest_component=source.smallest_component,
    )


def _mask_files(
    source: Source, rule: dict[str, Any], groups: dict[str, str], image: Path, by_stem: dict[str, list[Path]]
) -> list[MaskFile]:
    class_name = renamed(source, str(rule.get("class", "defect")).format(**groups))
    values = tuple((int(value), str(name)) for value, name in rule.get("values", {}).items())
    if class_name is None:
        return []
    for template in rule.get("masks", []):
        if "*" in template:
            # The names of files are no patterns, whatever is in them.
            wanted = template.format(**{key: glob.escape(value) for key, value in groups.items()})
            found = [path for key in sorted(fnmatch.filter(by_stem, wanted)) for path in by_stem[key]]
        else:
            found = by_stem.get(template.format(**groups), [])
        files = [path for path in found if path != image]
        if files:
            return [MaskFile(path, class_name, values) for path in files]
    return []


def _read_own_line(root: Path, report: SourceReport, crowds: str) -> list[SourceImage]:
    """A user's own folder, in any layout that `--dataset` takes."""
    kind = find_format(root)
    if kind in ("parquet", "saved", "hub"):
        raise InputError(f"--root {root}: is a table already ({kind}); every command takes it as --dataset {root}")
    dataset = read_dataset(root, report=report.boxes, crowds=crowds)
    categories, names = category_names(dataset), defect_names(dataset)
    images = []
    for row in dataset:
        objects, mask = row.get("objects"), row.get("mask")
        boxes = None
        if objects is not None:
            told = zip(*(objects[name] for name in ("bbox", "category", "score", "iscrowd")), strict=True)
            boxes = [Box(tuple(bbox), names[label], score, crowd) for bbox, label, score, crowd in told]
        images.append(
            SourceImage(
                path=Path(row["image"]["path"]),
                image_id=row["image_id"],
                category=categories[row["category"]],
                is_normal=False if row["is_normal"] is None and boxes else row["is_normal"],
                boxes=boxes,
                masks=None if mask is None else [MaskFile(Path(mask["path"]), "defect")],
            )
        )
    images.sort(key=lambda image: image.image_id)
    _read_masks_alike(images, str(root))
    return images
