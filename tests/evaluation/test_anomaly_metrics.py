import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from agssp.evaluation.anomaly_metrics import PixelScores, binary_scores

NOTHING = {"auroc": None, "average_precision": None}


def test_no_pixels():
    assert PixelScores().compute() == NOTHING


def test_one_side_only():
    scores = PixelScores()
    scores.update(np.ones((2, 2)), np.zeros((2, 2)))
    assert scores.compute() == NOTHING
    assert binary_scores([1.0, 2.0], [1, 1]) == NOTHING


def test_sizes_must_fit():
    with pytest.raises(ValueError, match="resize"):
        PixelScores().update(np.ones((2, 2)), np.zeros((3, 2)))


def test_equals_scikit_learn_with_ties_and_negative_values():
    generator = np.random.default_rng(0)
    maps = generator.normal(0, 1, (4, 20, 20)).astype(np.float16)
    maps[0, :10] = 0.0
    maps[1, :10] = -0.0
    masks = generator.random((4, 20, 20)) < 0.2
    whole, part = PixelScores(), PixelScores()
    for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        (part if index % 2 else whole).update(anomaly_map, mask)
    whole.merge(part.counts)
    truth, values = masks.ravel(), maps.ravel()
    assert whole.compute() == {
        "auroc": pytest.approx(roc_auc_score(truth, values), abs=1e-12),
        "average_precision": pytest.approx(average_precision_score(truth, values), abs=1e-12),
    }


def test_image_scores_equal_scikit_learn():
    generator = np.random.default_rng(1)
    scores, labels = generator.random(50), generator.random(50) < 0.3
    assert binary_scores(scores, labels) == {
        "auroc": pytest.approx(roc_auc_score(labels, scores)),
        "average_precision": pytest.approx(average_precision_score(labels, scores)),
    }
