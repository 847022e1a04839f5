"""The page about a data set as it was read: the numbers, what was changed, and the images that look most suspicious."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agssp.data.images import ImageError, decode_image, image_frame
from agssp.data.readers.report import CAUSES, ReadReport
from agssp.data.reading import SMALL, small_boxes
from agssp.report import figures
from agssp.report.page import Code, Picture, Section, Table
from agssp.report.pictures import class_colours, tile

SHOWN = 24
COLUMNS = 4
LARGE, THIN, SAME_PLACE, MANY = 0.9, 30.0, 0.85, 20


@dataclass
class Suspect:
    """An image with what is odd about its labels, the worst first."""

    row: int
    image_id: str
    reasons: list[tuple[float, str]] = field(default_factory=list)

    @property
    def weight(self) -> float:
        """How odd it is: 0 for one with nothing odd about it."""
        return sum(weight for weight, _ in self.reasons)

    def caption(self) -> str:
        """Its name and the worst of its reasons."""
        name = self.image_id if len(self.image_id) <= 30 else f"…{self.image_id[-29:]}"
        worst = max(self.reasons, default=(0.0, ""))[1]
        return f"{name}\n{worst}" if worst else name


def find_suspects(dataset: Any, classes: Sequence[str], report: ReadReport, image_size: int) -> list[Suspect]:
    """Say of each image what is odd about its labels.

    Args:
        dataset: rows of the schema.
        classes: names of the classes of boxes.
        report: of reading it; images that it names are odd for the cause they stand under.
        image_size: side in px of the input at which boxes are small.

    Returns:
        One entry for each row, in row order.
    """
    columns = ["image_id", "is_normal", "image", *(["objects"] if "objects" in dataset.features else [])]
    suspects = []
    for row, entry in enumerate(dataset.select_columns(columns)):
        suspect = Suspect(row, entry["image_id"])
        objects = entry.get("objects")
        if objects is None and entry["is_normal"] is None and classes:
            suspect.reasons.append((0.5, "nothing is known of it"))
        if objects is not None and objects["bbox"]:
            suspect.reasons += _odd_boxes(entry["image"], objects, image_size)
        suspects.append(suspect)
    _add_named(suspects, report)
    return suspects


def choose_shown(suspects: Sequence[Suspect], dataset: Any, count: int = SHOWN, seed: int = 0) -> list[Suspect]:
    """The images to be shown: the oddest first, and at least a third others, drawn at random, those with boxes first.

    Args:
        suspects: of each row.
        dataset: the rows.
        count: how many.
        seed: of the draw.
    """
    odd = sorted((suspect for suspect in suspects if suspect.weight > 0), key=lambda suspect: -suspect.weight)
    shown = odd[: count - count // 3]
    chosen = {suspect.row for suspect in shown}
    boxes = (
        [len((objects or {"bbox": []})["bbox"]) for objects in dataset["objects"]]
        if ("objects" in dataset.features)
        else [0] * len(suspects)
    )
    order = np.random.default_rng(seed).permutation(len(suspects)).tolist()
    others = sorted((row for row in order if row not in chosen), key=lambda row: boxes[row] == 0)
    shown += [suspects[row] for row in others[: count - len(shown)]]
    return shown + [suspect for suspect in odd if suspect.row not in {one.row for one in shown}][: count - len(shown)]


def inspection_sections(
    dataset: Any, classes: Sequence[str], report: ReadReport, source: str, image_size: int, next_step: str
) -> list[Section]:
    """The sections of the page.

    Args:
        dataset: rows of the schema.
        classes: names of the classes of boxes.
        report: of reading it.
        source: as the user named the data set.
        image_size: side in px of the input at which boxes are small.
        next_step: the command to run next.
    """
    sections = [Section("What was read", [f"`{source}`: {report.summary()[0]}.", *_class_tables(report, image_size)])]
    changes = [(found.count, CAUSES[cause][0], CAUSES[cause][1], ", ".join(found.examples[:3]))
               for cause, found in report.causes.items()]  # fmt: skip
    told = "Nothing was dropped, clipped, scaled, turned or guessed."
    table = Table(("times", "kind", "what", "first of them"), changes)
    sections.append(Section("What was changed or left out", [table] if changes else [told]))
    shown = choose_shown(find_suspects(dataset, classes, report, image_size), dataset)
    tiles = [_tile(dataset[suspect.row], suspect, classes) for suspect in shown]
    if tiles:
        rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
        sheet = figures.contact_sheet(rows, tile_inches=2.6)
        text = "The oddest labels come first; below the name stands what is odd. The others are drawn at random."
        sections.append(Section(f"{len(tiles)} of {report.images} images", [text, Picture(sheet)]))
    sections.append(Section("Next", [Code(next_step, "If this is how it should be:")]))
    return sections


def _class_tables(report: ReadReport, image_size: int) -> list[Table]:
    if not report.boxes:
        return []
    small = small_boxes(report.shares, image_size)
    names = [f"under {limit} px" for limit in SMALL]
    rows = [(name, count, *(small.get(name, {}).get(under, 0) for under in names))
            for name, count in report.boxes.items()]  # fmt: skip
    caption = (
        f"Sizes are those of the shorter side at --image-size {image_size}; training drops those of {SMALL[0]} px."
    )
    return [Table(("class", "boxes", *names), rows, caption)]


def _odd_boxes(image: Any, objects: dict[str, Any], image_size: int) -> list[tuple[float, str]]:
    try:
        (width, height), _ = image_frame(image)
    except ImageError:
        return [(5.0, "the image cannot be opened")]
    boxes = np.asarray(objects["bbox"], np.float64).reshape(-1, 4)
    labels = np.asarray(objects["category"])
    short, long = boxes[:, 2:].min(1), boxes[:, 2:].max(1)
    sides = short * image_size / max(width, height)
    reasons = []
    for limit, weight in zip(SMALL, (4.0, 2.0, 1.0), strict=True):
        if (sides <= limit).any():
            reasons.append((weight, f"{int((sides <= limit).sum())} of {len(boxes)} boxes under {limit} px"))
            break
    if (boxes[:, 2] * boxes[:, 3] > LARGE * width * height).any():
        reasons.append((3.0, "a box covers nearly all of it"))
    if (long > THIN * short).any():
        reasons.append((2.0, f"a box is over {THIN:.0f} times as long as wide"))
    if len(boxes) > MANY:
        reasons.append((1.0, f"{len(boxes)} boxes"))
    if 1 < len(boxes) <= 500:
        first, second = np.triu_indices(len(boxes), 1)
        same = _overlap(boxes[first], boxes[second]) > SAME_PLACE
        if (same & (labels[first] != labels[second])).any():
            reasons.append((3.5, "two classes on one place"))
        elif same.any():
            reasons.append((2.5, "two boxes on one place"))
    if any(objects["iscrowd"]):
        reasons.append((1.0, "a crowd region"))
    return reasons


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of pairs of boxes, (n, 4) xywh each."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    common = np.clip(high - low, 0, None).prod(1)
    return common / (first[:, 2:].prod(1) + second[:, 2:].prod(1) - common)


def _add_named(suspects: Sequence[Suspect], report: ReadReport) -> None:
    """Make images odd that the report gives as examples of a change to their labels."""
    by_name: dict[str, list[Suspect]] = {}
    for suspect in suspects:
        for name in {suspect.image_id, suspect.image_id.rsplit("/", 1)[-1].rsplit(".", 1)[0]}:
            by_name.setdefault(name, []).append(suspect)
    for cause, found in report.causes.items():
        kind, sentence = CAUSES[cause]
        for example in found.examples:
            file = example.split(" ")[0].split(":")[0]
            stem = file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
            for suspect in by_name.get(example) or by_name.get(file) or by_name.get(stem, []):
                suspect.reasons.append((3.0 if kind in ("dropped", "clipped") else 1.5, f"{kind}: {sentence}"[:60]))


def _tile(row: dict[str, Any], suspect: Suspect, classes: Sequence[str]) -> Any:
    try:
        image = decode_image(row["image"], suspect.image_id)
    except ImageError:
        return np.full((90, 160, 3), 128, np.uint8), f"{suspect.caption()}\ncannot be decoded"
    objects = row.get("objects") or {"bbox": [], "category": []}
    corners = np.asarray(objects["bbox"], np.float32).reshape(-1, 4).copy()
    corners[:, 2:] += corners[:, :2]
    labels = objects["category"]
    names = [classes[label] for label in labels]
    return tile(image, boxes=corners, names=names, colours=class_colours(labels), side=400), suspect.caption()
