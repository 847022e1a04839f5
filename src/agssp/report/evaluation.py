"""What an evaluation shows beside its numbers: matched boxes, the worst images, and the sections of its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import as_tensor, float64
from torchvision.ops import box_iou

from . import figures
from .page import Code, Picture, Section, Table, Text
from .pictures import TRUTH, class_colours, tile


@dataclass
class Judged:
    """One image's boxes beside its labels, at the threshold where they would be shown to a person.

    Attributes:
        index: Row of the image in the data set.
        image_id: Its name.
        boxes, scores, labels: What was found, above the threshold: (n, 4) left, top, right, bottom, (n,), (n,).
        correct: bool (n,), whether a box meets a label.
        ignored: bool (n,), whether it lies in a crowd region instead, and is neither right nor wrong.
        target_boxes, target_labels: What is labelled: (m, 4), (m,).
        target_crowds: bool (m,), whether that is a crowd region.
        found: bool (m,), whether a label was met; crowd regions are not.
    """

    index: int
    image_id: str
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    correct: np.ndarray
    ignored: np.ndarray
    target_boxes: np.ndarray
    target_labels: np.ndarray
    target_crowds: np.ndarray
    found: np.ndarray

    @property
    def missed(self) -> np.ndarray:
        """Whether an object was not found, bool (m,)."""
        return ~self.found & ~self.target_crowds

    @property
    def false(self) -> np.ndarray:
        """Whether a box was found where nothing is labelled, bool (n,)."""
        return ~self.correct & ~self.ignored

    @property
    def badness(self) -> float:
        """Missed objects, and the confidence put into boxes where nothing is labelled."""
        return float(self.missed.sum() + self.scores[self.false].sum())


def match_boxes(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    target_boxes: np.ndarray,
    target_labels: np.ndarray,
    target_crowds: np.ndarray,
    iou_threshold: float = 0.5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match found boxes with labelled objects of the same class, the most confident first, each object once.

    What meets no object may lie in a crowd region of its class, any number of boxes in one.

    Args:
        boxes: (n, 4) left, top, right, bottom.
        scores: (n,).
        labels: (n,) class numbers.
        target_boxes: (m, 4).
        target_labels: (m,).
        target_crowds: bool (m,), whether a label is a crowd region.
        iou_threshold: least intersection over union of a match, and least share of a box that lies in a crowd region.

    Returns:
        bool (n,), whether a box met an object; bool (n,), whether it met none and lies in a crowd region; and bool
        (m,), whether an object was met.
    """
    correct, ignored, found = (np.zeros(len(each), bool) for each in (boxes, boxes, target_boxes))
    if not len(boxes) or not len(target_boxes):
        return correct, ignored, found
    same = labels[:, None] == target_labels[None]
    overlap = box_iou(as_tensor(boxes, dtype=float64), as_tensor(target_boxes, dtype=float64)).numpy()
    overlap[~same | target_crowds[None]] = 0
    for index in np.argsort(-scores, kind="stable"):
        free = np.where(found, 0, overlap[index])
        best = int(free.argmax())
        if free[best] >= iou_threshold:
            correct[index] = found[best] = True
    inside = (_shares(boxes, target_boxes) >= iou_threshold) & same & target_crowds[None]
    return correct, inside.any(1) & ~correct, found


def _shares(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Share of each box's area that lies in each region, (n, m): how COCO measures the overlap with a crowd region."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1).astype(np.float64)
    return (high - low).clip(0).prod(2) / np.maximum(areas, 1e-12)[:, None]


def worst_sheet(judged: Sequence[tuple[Judged, Image.Image | np.ndarray]], class_names: Sequence[str]) -> Any:
    """Pairs of pictures, labels beside finds, two pairs a row.

    Args:
        judged: images with what was found in them, the worst first.
        class_names: name of each class number.

    Returns:
        A matplotlib figure.
    """
    tiles: list[Any] = []
    for entry, image in judged:
        names = [class_names[label] for label in entry.target_labels]
        truth = tile(image, boxes=entry.target_boxes, names=names, colours=TRUTH, dashed=entry.target_crowds, side=400)
        finds = tile(
            image,
            boxes=entry.boxes,
            scores=entry.scores,
            names=[class_names[label] for label in entry.labels],
            colours=class_colours(entry.labels),
            dashed=entry.ignored,
            side=400,
        )
        missed, false = int(entry.missed.sum()), int(entry.false.sum())
        tiles += [(truth, _short(entry.image_id)), (finds, f"{missed} missed, {false} false")]
    rows = [tiles[start : start + 4] for start in range(0, len(tiles), 4)]
    return figures.contact_sheet(rows, column_titles=("labelled", "found") * 2, tile_inches=2.6)


def curves_figure(metrics: dict[str, Any], title: str = "Precision and recall at IoU 0.5") -> Any:
    """Precision over recall of each class, from what `agssp evaluate` writes as metrics.json."""
    curves = {name: (curve["recall"], curve["precision"]) for name, curve in metrics["curves"].items()}
    average = {name: metrics["per_class"][name]["ap_50"] for name in curves}
    return figures.precision_recall(curves, title=title, average_precision=average)


def sections(metrics: dict[str, Any], worst: Any, model: str, threshold: float, next_step: str) -> list[Section]:
    """The sections of an evaluation's page.

    Args:
        metrics: what `agssp evaluate` writes as metrics.json.
        worst: figure of `worst_sheet`, or None if nothing went wrong.
        model: the detector, as the user named it.
        threshold: score above which boxes are shown in the pictures.
        next_step: the command line that uses the detector.
    """
    classes = metrics["per_class"]
    rows = [(name, row["boxes"], row["ap_50"], row["ap_50_95"], row["recall_50"]) for name, row in classes.items()]
    rows.append(("all classes", metrics["boxes"], metrics["map_50"], metrics["map_50_95"], None))
    crowds = (
        f", and {metrics['crowds']:,} crowd regions, in which what is found counts neither as right nor as wrong"
        if metrics["crowds"]
        else ""
    )
    by_size = [(size, metrics[f"map_{size}"]) for size in ("small", "medium", "large")]
    page = [
        Section(
            "Average precision",
            [
                f"{metrics['images']:,} images with {metrics['boxes']:,} labelled boxes{crowds}. Detector: `{model}`. "
                f"Data: `{metrics['dataset']}`.",
                Table(
                    ("class", "labelled boxes", "AP@.5", "AP@.5:.95", "recall"),
                    rows,
                    "COCO's average precision at an overlap (IoU) of 0.5, and averaged over the overlaps 0.5 to 0.95; "
                    "the largest recall at 0.5.",
                    strong_row=len(rows) - 1,
                ),
                Table(
                    ("size of the box", "AP@.5:.95"),
                    by_size,
                    "COCO's sizes: small below 32 x 32 px of the original image, large above 96 x 96 px.",
                ),
            ],
        ),
        Section("Precision and recall", [Picture(curves_figure(metrics), "From the most confident box to the least.")]),
    ]
    if worst is not None:
        text = f"Labels in green on the left; beside them what was found with a score above {threshold}."
        text += " Dashed are crowd regions, and what was found in them." if metrics["crowds"] else ""
        page.append(Section("The worst images", [Text(text), Picture(worst)]))
    if metrics["skipped"]:
        skipped = [(entry["image_id"], entry["reason"]) for entry in metrics["skipped"][:50]]
        page.append(Section("Skipped", [Table(("image", "reason"), skipped, "These images count in no number.")]))
    page.append(Section("Next", [Code(next_step, "Use it on new images:")]))
    return page


def _short(name: str, length: int = 34) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"
