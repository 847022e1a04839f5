"""COCO average precision of boxes, collected image by image."""

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from agssp.errors import InputError

RECALL_POINTS = np.linspace(0, 1, 101)
_SUMMARY = ("map_50_95", "map_50", "map_75", "map_small", "map_medium", "map_large")


class DetectionMetrics:
    """Collect detections and labels, then compute COCO's average precision with faster-coco-eval.

    Args:
        class_names: names in label order; detections with a label outside of them count nowhere.
        max_detections: most confident boxes an image that count.
    """

    def __init__(self, class_names: Sequence[str], max_detections: int = 100) -> None:
        self.class_names = list(class_names)
        self.max_detections = max_detections
        self._images: dict[int, tuple[np.ndarray, ...]] = {}

    def __len__(self) -> int:
        return len(self._images)

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
        """Add one image; an image that is added twice counts once.

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
        self._images[int(image_index)] = entry

    def state(self) -> dict[int, tuple[np.ndarray, ...]]:
        """What was collected, to be sent to another process and given to its `merge`."""
        return dict(self._images)

    def merge(self, state: dict[int, tuple[np.ndarray, ...]]) -> None:
        """Add what another process collected."""
        for index, entry in state.items():
            self.update(index, *entry)

    def compute(self) -> dict[str, Any]:
        """Average precision over everything collected.

        Returns:
            `map_50_95`, `map_50`, `map_75`, `map_small`, `map_medium`, `map_large`: floats in 0..1, None where there is
            nothing labelled; `images`, `boxes` (labelled), `crowds` (labelled crowd regions, which are no `boxes`),
            `detections`: counts; `per_class`: name -> {`ap_50_95`, `ap_50`, `recall_50` (largest recall at IoU 0.5),
            `boxes`}; `curves`: name -> {`recall`, `precision`} of 101 points at IoU 0.5.
        """
        crowds = sum(int(entry[5].sum()) for entry in self._images.values())
        targets = sum(len(entry[5]) for entry in self._images.values()) - crowds
        result: dict[str, Any] = {
            **dict.fromkeys(_SUMMARY),
            "images": len(self._images),
            "boxes": targets,
            "crowds": crowds,
            "detections": sum(len(entry[1]) for entry in self._images.values()),
            "per_class": {
                name: {"ap_50_95": None, "ap_50": None, "recall_50": None, "boxes": count}
                for name, count in zip(self.class_names, self._target_counts(), strict=True)
            },
            "curves": {},
        }
        if targets == 0:
            return result
        evaluation = self._evaluate()
        for name, value in zip(_SUMMARY, evaluation.stats[:6], strict=True):
            result[name] = _known(value)
        # (IoU threshold, recall point, class, area range, number of detections); all areas, most detections.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        recall = evaluation.eval["recall"][:, :, 0, -1]
        for index, name in enumerate(self.class_names):
            if result["per_class"][name]["boxes"]:
                result["per_class"][name] |= {
                    "ap_50_95": _known(precision[:, :, index].mean()),
                    "ap_50": _known(precision[0, :, index].mean()),
                    "recall_50": _known(recall[0, index]),
                }
                result["curves"][name] = {
                    "recall": RECALL_POINTS.tolist(),
                    "precision": precision[0, :, index].clip(0).tolist(),
                }
        return result

    def _target_counts(self) -> list[int]:
        labels = [entry[4][~entry[5]] for entry in self._images.values()]
        counts = np.bincount(np.concatenate([*labels, np.zeros(0, np.int64)]), minlength=len(self.class_names))
        return counts[: len(self.class_names)].tolist()

    def _evaluate(self) -> Any:
        from faster_coco_eval import COCO, COCOeval_faster

        annotations: list[dict[str, Any]] = []
        detections: list[dict[str, Any]] = []
        for image, (boxes, scores, labels, *targets) in sorted(self._images.items()):
            target_boxes, target_labels, target_crowds = targets
            for box, label, crowd in zip(_xywh(target_boxes), target_labels, target_crowds, strict=True):
                area = float(box[2] * box[3])
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image,
                        "category_id": int(label),
                        "bbox": box.tolist(),
                        "area": area,
                        "iscrowd": int(crowd),
                    }
                )
            known = (labels >= 0) & (labels < len(self.class_names))
            for box, score, label in zip(_xywh(boxes)[known], scores[known], labels[known], strict=True):
                detections.append(
                    {"image_id": image, "category_id": int(label), "bbox": box.tolist(), "score": float(score)}
                )
        with redirect_stdout(StringIO()):
            truth = COCO(
                {
                    "images": [{"id": image} for image in sorted(self._images)],
                    "annotations": annotations,
                    "categories": [{"id": index, "name": name} for index, name in enumerate(self.class_names)],
                }
            )
            # loadRes refuses an empty list; nothing found is a result like any other.
            found = truth.loadRes(detections) if detections else COCO({**truth.dataset, "annotations": []})
            evaluation = COCOeval_faster(truth, found, iouType="bbox")
            evaluation.params.maxDets = [1, 10, self.max_detections]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def _known(value: float) -> float | None:
    """COCO writes -1 where there is nothing to measure."""
    return None if value < 0 else float(value)
