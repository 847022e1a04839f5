"""COCO average precision of boxes, collected image by image.

What was found in an image is matched with its labels at once, as pycocotools does; of each box found remains which
matches count, in 32 bytes. Average precision needs the order of all scores, and no box.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agssp.errors import InputError

RECALL_POINTS = np.linspace(0, 1, 101)
_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_AREAS = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]])
"""In px, smallest and largest: all boxes, small, medium and large ones."""
_RUNS = len(_AREAS) * len(_THRESHOLDS)
_BITS = np.uint64(1) << np.arange(_RUNS, dtype=np.uint64)
# `record` is the number of the call of `update`; `right` and `wrong` have a bit for each area and threshold.
_FOUND = np.dtype([("record", "u4"), ("label", "i4"), ("score", "f8"), ("right", "u8"), ("wrong", "u8")])
_LABELLED = np.dtype([("record", "u4"), ("label", "i4"), ("areas", "u1"), ("crowd", "?")])
_IMAGES = np.dtype([("image", "i8"), ("found", "i8")])
_TABLES = {"found": _FOUND, "labelled": _LABELLED, "images": _IMAGES}
# Threshold and area that each number is the mean of.
_SUMMARY: dict[str, tuple[Any, int]] = {
    "map_50_95": (slice(None), 0),
    "map_50": (0, 0),
    "map_75": (5, 0),
    "map_small": (slice(None), 1),
    "map_medium": (slice(None), 2),
    "map_large": (slice(None), 3),
}
State = dict[str, np.ndarray]


class DetectionMetrics:
    """Collect detections and labels, then compute COCO's average precision, equal to pycocotools'.

    Args:
        class_names: names in label order; detections with a label outside of them count nowhere.
        max_detections: most confident boxes of a class in an image that count.
    """

    def __init__(self, class_names: Sequence[str], max_detections: int = 100) -> None:
        self.class_names = list(class_names)
        self.max_detections = max_detections
        self._tables = {name: bytearray() for name in _TABLES}

    def __len__(self) -> int:
        return len(np.unique(self._table("images")["image"]))

    def update(
        self,
        image_index: int,
        boxes: Any,
        scores: Any,
        labels: Any,
        target_boxes: Any,
        target_labels: Any,
        target_crowds: Any = None,
    ) -> None:
        """Add one image; of an image that is added twice the last call counts.

        Args:
            image_index: unique number of the image.
            boxes: (n, 4) found, xyxy px.
            scores: (n,) in 0..1.
            labels: (n,) class indices.
            target_boxes: (m, 4) labelled, xyxy px; may be empty.
            target_labels: (m,) class indices.
            target_crowds: (m,) bool, whether a labelled box is a crowd region: what is found of its class in there, and
                is no labelled object, counts neither as right nor as wrong. None: there is none.

        Raises:
            InputError: the numbers of boxes, scores and labels differ, or a label stands for no class.
        """
        targets = np.asarray(target_boxes, np.float64).reshape(-1, 4)
        entry = (
            np.asarray(boxes, np.float64).reshape(-1, 4),
            np.asarray(scores, np.float64).reshape(-1),
            np.asarray(labels, np.int64).reshape(-1),
            targets,
            np.asarray(target_labels, np.int64).reshape(-1),
            np.zeros(len(targets), bool) if target_crowds is None else np.asarray(target_crowds, bool).reshape(-1),
        )
        if len({len(part) for part in entry[:3]}) > 1 or len({len(part) for part in entry[3:]}) > 1:
            lengths = ", ".join(str(len(part)) for part in entry)
            raise InputError(
                f"image {image_index}: expected a score and a label for each box found, and a label and a crowd flag "
                f"for each box labelled; got lengths {lengths} (boxes, scores, labels, target_boxes, target_labels, "
                "target_crowds)"
            )
        if ((entry[4] < 0) | (entry[4] >= len(self.class_names))).any():
            raise InputError(
                f"image {image_index}: target_labels {sorted(set(entry[4].tolist()))} of {len(self.class_names)} "
                f"classes; expected 0..{len(self.class_names) - 1}"
            )
        record = len(self._tables["images"]) // _IMAGES.itemsize
        known = (entry[2] >= 0) & (entry[2] < len(self.class_names))
        seen = entry[0][known], entry[1][known], entry[2][known]
        found = _matched(*seen, targets, entry[4], entry[5], self.max_detections)
        found["record"] = record
        labelled = np.zeros(len(targets), _LABELLED)
        labelled["record"], labelled["label"], labelled["crowd"] = record, entry[4], entry[5]
        counted = ~_outside(_xywh(targets)) & ~entry[5]
        labelled["areas"] = np.packbits(counted, axis=0, bitorder="little").reshape(-1)
        images = np.array([(int(image_index), len(entry[1]))], _IMAGES)
        for name, rows in (("found", found), ("labelled", labelled), ("images", images)):
            self._tables[name] += rows.tobytes()

    def state(self) -> State:
        """What was collected, to be sent to another process and given to its `merge`."""
        return {name: self._table(name).copy() for name in _TABLES}

    def merge(self, state: State) -> None:
        """Add what another process collected."""
        before = len(self._tables["images"]) // _IMAGES.itemsize
        for name, rows in state.items():
            if name != "images":
                rows = rows.copy()
                rows["record"] += before
            self._tables[name] += rows.tobytes()

    def compute(self) -> dict[str, Any]:
        """Average precision over everything collected.

        Returns:
            `map_50_95`, `map_50`, `map_75`, `map_small`, `map_medium`, `map_large`: floats in 0..1, None where there is
            nothing labelled; `images`, `boxes` (labelled), `crowds` (labelled crowd regions, which are no `boxes`),
            `detections`: counts; `per_class`: name -> {`ap_50_95`, `ap_50`, `recall_50` (largest recall at IoU 0.5),
            `boxes`}; `curves`: name -> {`recall`, `precision`} of 101 points at IoU 0.5.
        """
        images, labelled, found, order = self._last()
        crowds = int(labelled["crowd"].sum())
        targets = len(labelled) - crowds
        boxes = np.bincount(labelled["label"][~labelled["crowd"]], minlength=len(self.class_names)).tolist()
        result: dict[str, Any] = {
            **dict.fromkeys(_SUMMARY),
            "images": len(np.unique(images["image"])),
            "boxes": targets,
            "crowds": crowds,
            "detections": int(images["found"].sum()),
            "per_class": {
                name: {"ap_50_95": None, "ap_50": None, "recall_50": None, "boxes": count}
                for name, count in zip(self.class_names, boxes, strict=True)
            },
            "curves": {},
        }
        if targets == 0:
            return result
        precision, recall = _curves(found, order, labelled, len(self.class_names))
        for name, (threshold, area) in _SUMMARY.items():
            values = precision[area, threshold]
            result[name] = _known(values[values > -1].mean() if (values > -1).any() else -1)
        for index, name in enumerate(self.class_names):
            if result["per_class"][name]["boxes"]:
                result["per_class"][name] |= {
                    "ap_50_95": _known(precision[0, :, index].mean()),
                    "ap_50": _known(precision[0, 0, index].mean()),
                    "recall_50": _known(recall[0, 0, index]),
                }
                result["curves"][name] = {
                    "recall": RECALL_POINTS.tolist(),
                    "precision": precision[0, 0, index].clip(0).tolist(),
                }
        return result

    def _table(self, name: str) -> np.ndarray:
        return np.frombuffer(self._tables[name], _TABLES[name])

    def _last(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Images and labels of each image's last call; all finds, and the rows of theirs by class, score and image."""
        images, labelled, found = (self._table(name) for name in ("images", "labelled", "found"))
        order = np.lexsort((images["image"][found["record"]], -found["score"], found["label"]))
        _, last = np.unique(images["image"][::-1], return_index=True)
        if len(last) < len(images):
            kept = np.zeros(len(images), bool)
            kept[len(images) - 1 - last] = True
            order = order[kept[found["record"][order]]]
            images, labelled = images[kept], labelled[kept[labelled["record"]]]
        return images, labelled, found, order


def _matched(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, targets: np.ndarray, target_labels: np.ndarray,
    crowds: np.ndarray, most: int,
) -> np.ndarray:  # fmt: skip
    """What was found in one image, `_FOUND` without `record`, of each class the best first and `most` at the most.

    Args:
        boxes: (n, 4) found, xyxy px.
        scores: (n,).
        labels: (n,).
        targets: (m, 4) labelled, xyxy px.
        target_labels: (m,).
        crowds: (m,) bool.
        most: of each class.
    """
    boxes, targets = _xywh(boxes), _xywh(targets)
    parts = []
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        mine = mine[np.argsort(-scores[mine], kind="stable")[:most]]
        theirs = np.flatnonzero(target_labels == label)
        right, ignored = _match(boxes[mine], targets[theirs], crowds[theirs])
        aside = ignored | np.repeat(_outside(boxes[mine]), len(_THRESHOLDS), 0)
        part = np.zeros(len(mine), _FOUND)
        part["label"], part["score"] = label, scores[mine]
        part["right"], part["wrong"] = (_BITS @ flags for flags in (right, ~right & ~aside))
        # Where a box counts neither way it changes no curve.
        parts.append(part[(part["right"] | part["wrong"]) > 0])
    return np.concatenate([np.zeros(0, _FOUND), *parts])


def _match(found: np.ndarray, targets: np.ndarray, crowds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match boxes of one class in one image with its labels, for each area and threshold by itself.

    Args:
        found: (n, 4) xywh px, the best first.
        targets: (m, 4) xywh px.
        crowds: (m,) bool.

    Returns:
        Which boxes have found an object, and which one that does not count: a crowd, or one of another area; bool
        (areas * thresholds, n) each.
    """
    right, ignored = np.zeros((2, _RUNS, len(found)), bool)
    overlaps = _overlaps(found, targets, crowds)
    left_out = np.repeat(_outside(targets) | crowds, len(_THRESHOLDS), 0)
    limits = np.tile(np.minimum(_THRESHOLDS, 1 - 1e-10), len(_AREAS))[:, None]
    free = np.ones((_RUNS, len(targets)), bool)
    runs = np.arange(_RUNS)
    for number in np.flatnonzero((overlaps >= _THRESHOLDS[0]).any(1)):
        # Of equal overlaps the last label counts, so they are taken from behind.
        near = np.flatnonzero(overlaps[number] >= _THRESHOLDS[0])[::-1]
        fits = free[:, near] & (overlaps[number, near] >= limits)
        aside = left_out[:, near]
        counted = fits & ~aside
        # What does not count is matched only where nothing that counts can be.
        allowed = np.where(counted.any(1, keepdims=True), counted, fits)
        best = np.where(allowed, overlaps[number, near], -1).argmax(1)
        met = allowed[runs, best]
        put_aside = aside[runs, best]
        right[:, number], ignored[:, number] = met & ~put_aside, met & put_aside
        free[runs[met], near[best[met]]] = crowds[near[best[met]]]
    return right, ignored


def _overlaps(found: np.ndarray, targets: np.ndarray, crowds: np.ndarray) -> np.ndarray:
    """IoU (n, m) of boxes xywh px; with a crowd region the share of the box that lies in it."""
    low = np.maximum(found[:, None, :2], targets[None, :, :2])
    high = np.minimum((found[:, :2] + found[:, 2:])[:, None], (targets[:, :2] + targets[:, 2:])[None])
    sides = np.maximum(high - low, 0)
    common = sides[..., 0] * sides[..., 1]
    own = (found[:, 2] * found[:, 3])[:, None]
    union = np.where(crowds, own, own + (targets[:, 2] * targets[:, 3])[None] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def _curves(found: np.ndarray, order: np.ndarray, labelled: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision over recall.

    Args:
        found: `_FOUND`.
        order: rows of it that count, by class and falling score.
        labelled: `_LABELLED`.
        classes: their number.

    Returns:
        Precision (areas, thresholds, classes, recall points) and the largest recall (areas, thresholds, classes); -1
        where nothing is labelled.
    """
    shape = (len(_AREAS), len(_THRESHOLDS), classes)
    precision, recall = np.full((*shape, len(RECALL_POINTS)), -1.0), np.full(shape, -1.0)
    ends = np.searchsorted(found["label"][order], np.arange(classes + 1))
    counted = labelled["areas"][:, None] >> np.arange(len(_AREAS)) & 1
    for label in np.unique(labelled["label"]):
        part = found[order[ends[label] : ends[label + 1]]]
        targets = counted[labelled["label"] == label].sum(0)
        for area in np.flatnonzero(targets):
            for threshold in range(len(_THRESHOLDS)):
                bit = _BITS[area * len(_THRESHOLDS) + threshold]
                right, wrong = (np.cumsum(part[name] & bit > 0, dtype=np.float64) for name in ("right", "wrong"))
                reached = right / targets[area]
                exact = right / (wrong + right + np.spacing(1))
                best = np.maximum.accumulate(exact[::-1])[::-1]
                points = np.searchsorted(reached, RECALL_POINTS, side="left")
                precision[area, threshold, label] = np.append(best, 0)[points]
                recall[area, threshold, label] = reached[-1] if len(reached) else 0
    return precision, recall


def _outside(boxes: np.ndarray) -> np.ndarray:
    """Whether boxes xywh px are too small or too large for each area, bool (areas, n)."""
    size = boxes[:, 2] * boxes[:, 3]
    return (size < _AREAS[:, :1]) | (size > _AREAS[:, 1:])


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def _known(value: float) -> float | None:
    """COCO writes -1 where there is nothing to measure."""
    return None if value < 0 else float(value)
