"""COCO average precision of boxes, as a metric of the `evaluate` library."""

from typing import Any

import datasets
import evaluate
import numpy as np

from agssp.evaluation.detection_metrics import DetectionMetrics

_DESCRIPTION = """
COCO average precision of detected boxes (mAP@0.5, mAP@0.5:0.95, by class and size) and precision over recall at IoU
0.5. An image is one row; images without boxes, found or labelled, are rows with empty lists.
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions: list of {"boxes": [[left, top, right, bottom], ...] in px, "scores": [...], "labels": [...]}.
    references: list of {"boxes": [[left, top, right, bottom], ...] in px, "labels": [...]} and, where there are crowd
        regions, "iscrowd": [0 or 1, ...]; what is found in a crowd region counts neither as right nor as wrong.
    class_names: names in label order.
    max_detections: most confident boxes an image that count; 100 by default.
Returns:
    map_50_95, map_50, map_75, map_small, map_medium, map_large (None where nothing is labelled), images, boxes,
    crowds, detections, per_class and curves: see `DetectionMetrics.compute` in `agssp.evaluation.detection_metrics`.
"""
_CITATION = """
@inproceedings{lin2014microsoft, title={Microsoft {COCO}: Common objects in context}, author={Lin, Tsung-Yi and others},
booktitle={ECCV}, year={2014}}
"""


class AgsspDetection(evaluate.Metric):
    """`evaluate.load(module_path("agssp_detection"))`."""

    def _info(self) -> evaluate.MetricInfo:
        boxes = datasets.Sequence(datasets.Sequence(datasets.Value("float64")))
        labels = datasets.Sequence(datasets.Value("int64"))
        scores = datasets.Sequence(datasets.Value("float64"))
        crowds = datasets.Sequence(datasets.Value("bool"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": {"boxes": boxes, "scores": scores, "labels": labels},
                    "references": {"boxes": boxes, "labels": labels, "iscrowd": crowds},
                }
            ),
        )

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """As `evaluate` has it; `iscrowd` may be left out of the reference."""
        super().add(prediction=prediction, reference=_with_crowds(reference), **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """As `evaluate` has it; `iscrowd` may be left out of references."""
        if references is not None:
            references = [_with_crowds(reference) for reference in references]
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(
        self,
        predictions: list[dict[str, Any]],
        references: list[dict[str, Any]],
        class_names: list[str],
        max_detections: int = 100,
    ) -> dict[str, Any]:
        metrics = DetectionMetrics(class_names, max_detections)
        for index, (found, labelled) in enumerate(zip(predictions, references, strict=True)):
            boxes, targets = (np.asarray(side["boxes"], np.float64).reshape(-1, 4) for side in (found, labelled))
            metrics.update(
                index, boxes, found["scores"], found["labels"], targets, labelled["labels"], labelled["iscrowd"]
            )
        return metrics.compute()


def _with_crowds(reference: Any) -> Any:
    # `evaluate` refuses a table that lacks a field.
    return {"iscrowd": [False] * len(reference["labels"]), **reference} if isinstance(reference, dict) else reference
