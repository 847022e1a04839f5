"""IoU at many thresholds at once equals one comparison a threshold."""

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from agssp.evaluation.mask_metrics import mask_overlap, mean_iou, pooled_iou

GENERATOR = np.random.default_rng(0)


def test_no_thresholds_and_no_images():
    overlaps = mask_overlap(np.ones((2, 2)), np.ones((2, 2)), [])
    assert overlaps.shape == (2, 0)
    nothing = np.zeros((0, 2, 3), np.int64)
    assert np.isnan(mean_iou(nothing)).tolist() == [True] * 3
    assert np.isnan(pooled_iou(nothing)).tolist() == [True] * 3


def test_no_pixels():
    assert mask_overlap(np.zeros((0, 4)), np.zeros((0, 4)), [0.5]).tolist() == [[0], [0]]


def test_sizes_must_fit():
    with pytest.raises(ValueError, match="resize"):
        mask_overlap(np.ones((2, 2)), np.zeros((3, 2)), [0.5])


def test_perfect_map():
    mask = GENERATOR.random((9, 7)) < 0.4
    overlaps = mask_overlap(mask.astype(np.float32), mask, [0.0, 0.5])[None]
    assert mean_iou(overlaps).tolist() == [1, 1]
    assert pooled_iou(overlaps).tolist() == [1, 1]


def maps_and_masks():
    """Maps with ties and negative values, thresholds among them in no order, one twice."""
    maps = GENERATOR.normal(0, 1, (5, 11, 8)).astype(np.float16).astype(np.float32)
    maps[0, :4] = 0
    masks = maps + GENERATOR.normal(0, 1, maps.shape) > 0.7
    masks[3] = False
    return maps, masks, np.array([0.5, 0.0, -9.0, float(maps[1, 2, 3]), 0.0, 9.0])


def test_counts_equal_one_comparison_a_threshold():
    for anomaly_map, mask, thresholds in zip(*maps_and_masks()[:2], [maps_and_masks()[2]] * 5, strict=True):
        found = mask_overlap(anomaly_map, mask, thresholds)
        assert found.dtype == np.int64
        for index, threshold in enumerate(thresholds):
            above = anomaly_map > threshold
            assert found[:, index].tolist() == [(above & mask).sum(), (above | mask).sum()]


def test_equal_to_a_threshold_is_not_above_as_pseudo_boxes_compare():
    # 0.1 is another number in float32 and in float64; maps are float32.
    assert mask_overlap(np.full((1, 1), 0.1, np.float32), np.ones((1, 1)), [0.1]).tolist() == [[0], [1]]


def test_mean_and_pooled_equal_scikit_learn():
    maps, masks, thresholds = maps_and_masks()
    overlaps = np.array([mask_overlap(*pair, thresholds) for pair in zip(maps, masks, strict=True)])
    with_defect = masks.any((1, 2))
    for index, threshold in enumerate(thresholds[:5]):
        above = maps > threshold
        each = [jaccard_score(masks[i].ravel(), above[i].ravel()) for i in np.flatnonzero(with_defect)]
        assert mean_iou(overlaps[with_defect])[index] == pytest.approx(np.mean(each))
        # The image without a defect counts here, by its false alarms.
        assert pooled_iou(overlaps)[index] == pytest.approx(jaccard_score(masks.ravel(), above.ravel()))
    assert np.isnan(pooled_iou(overlaps[~with_defect])[5])
    assert pooled_iou(overlaps[~with_defect])[0] == 0
