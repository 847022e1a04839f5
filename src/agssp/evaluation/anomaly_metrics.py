"""How well anomaly maps and scores tell defects from sound surface, in memory that does not grow with the pixels."""

from typing import Any

import numpy as np


def binary_scores(scores: Any, labels: Any) -> dict[str, float | None]:
    """Area under the ROC curve and average precision of image scores.

    Args:
        scores: (n,) floats, higher is more anomalous.
        labels: (n,) bool or 0/1, true for a defect.

    Returns:
        `auroc` and `average_precision` in 0..1 as scikit-learn defines them; None where one side is missing.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    if not labels.any() or labels.all():
        return {"auroc": None, "average_precision": None}
    return {
        "auroc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
    }


class PixelScores:
    """Area under the ROC curve and average precision over all pixels of any number of maps.

    Pixels are counted by their float16 value (65,536 of them), so the result is exact for float16 maps and the memory
    is the same for ten images and ten million.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, 65_536), np.int64)

    def update(self, anomaly_map: Any, mask: Any) -> None:
        """Add one image.

        Args:
            anomaly_map: (H, W) finite; rounded to float16. Of an image with ignored pixels the others, (n,).
            mask: of the same shape, non-zero where there is a defect.
        """
        order = _float16_order(np.asarray(anomaly_map))
        defect = np.asarray(mask).astype(bool)
        if order.shape != defect.shape:
            raise ValueError(f"the map is {order.shape} and the mask {defect.shape}; resize one to the other first")
        for side in (0, 1):
            self._counts[side] += np.bincount(order[defect == bool(side)].ravel(), minlength=65_536)

    def merge(self, counts: np.ndarray) -> None:
        """Add the `counts` of another process, int64 (2, 65536)."""
        self._counts += counts

    @property
    def counts(self) -> np.ndarray:
        """int64 (2, 65536): sound and defective pixels by value."""
        return self._counts

    def compute(self) -> dict[str, float | None]:
        """`auroc` and `average_precision` in 0..1 as scikit-learn defines them; None where one side has no pixels."""
        sound, defective = self._counts.astype(np.float64)
        if not sound.sum() or not defective.sum():
            return {"auroc": None, "average_precision": None}
        below = np.cumsum(sound) - sound
        # Ties count half.
        auroc = (defective * (below + sound / 2)).sum() / (sound.sum() * defective.sum())
        found = np.cumsum(defective[::-1])
        precision = found / np.maximum(found + np.cumsum(sound[::-1]), 1)
        average_precision = (defective[::-1] * precision).sum() / defective.sum()
        return {"auroc": float(auroc), "average_precision": float(average_precision)}


def _float16_order(values: np.ndarray) -> np.ndarray:
    """Index 0..65535 of each value among the float16 numbers, ascending."""
    # Adding zero turns -0.0 into 0.0, which would otherwise sort apart.
    bits = (values.astype(np.float16) + np.float16(0)).view(np.uint16).astype(np.int64)
    return np.where(bits & 0x8000, 0xFFFF - bits, bits | 0x8000)
