"""Area under the ROC curve and average precision of anomaly scores, as a metric of the `evaluate` library."""

from typing import Any

import datasets
import evaluate
import numpy as np

from agssp.evaluation.anomaly_metrics import PixelScores, binary_scores

_DESCRIPTION = """
How well anomaly scores tell defects from sound surface: area under the ROC curve and average precision, over images
(configuration "image", the default) or over all pixels of anomaly maps (configuration "pixel").
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions: "image": scores, higher is more anomalous; "pixel": maps (H, W), rounded to float16.
    references: "image": 1 for a defect, else 0; "pixel": masks (H, W), non-zero where there is a defect.
Returns:
    auroc and average_precision in 0..1, None where one side is missing.
"""
_CITATION = ""


class AgsspAnomaly(evaluate.Metric):
    """`evaluate.load(module_path("agssp_anomaly"))`, or with `"pixel"` as second argument."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in ("default", "image", "pixel"):
            raise ValueError(f"configuration {self.config_name!r}: expected 'image' or 'pixel'")
        score: Any = datasets.Value("float64")
        label: Any = datasets.Value("int64")
        if self.config_name == "pixel":
            score = datasets.Sequence(datasets.Sequence(datasets.Value("float32")))
            label = datasets.Sequence(datasets.Sequence(datasets.Value("uint8")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": score, "references": label}),
        )

    def _compute(self, predictions: list[Any], references: list[Any]) -> dict[str, float | None]:
        if self.config_name != "pixel":
            return binary_scores(predictions, references)
        pixels = PixelScores()
        for anomaly_map, mask in zip(predictions, references, strict=True):
            pixels.update(np.asarray(anomaly_map), np.asarray(mask))
        return pixels.compute()
