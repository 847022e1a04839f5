from collections import deque

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import nms

from agssp.boxes.extraction import (
    category_statistics,
    category_threshold,
    merge_close,
    pseudo_boxes,
)
from agssp.errors import InputError


def flood_fill(mask):
    """8-connected components as lists of pixels, one pixel at a time."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    while left:
        queue, component = deque([left.pop()]), []
        while queue:
            y, x = queue.popleft()
            component.append((y, x))
            for neighbour in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                if neighbour in left:
                    left.remove(neighbour)
                    queue.append(neighbour)
        yield component


def reference_boxes(anomaly_map, size, threshold, top_k=10, iou=0.5):
    height, width = size
    values = cv2.resize(anomaly_map.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    smallest = max((height // 100) * (width // 100), 10)
    found = []
    for component in flood_fill(values > threshold):
        if len(component) >= smallest:
            ys, xs = zip(*component, strict=True)
            score = max(values[y, x] for y, x in component)
            found.append((score, (min(xs), min(ys), max(xs) + 1, max(ys) + 1)))
    found = sorted(found, key=lambda entry: -entry[0])[:top_k]
    boxes = torch.tensor([box for _, box in found], dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor([float(score) for score, _ in found])
    keep = nms(boxes, scores, iou)
    return boxes[keep].numpy(), scores[keep].numpy()


def test_constant_map_gives_no_boxes_below_its_threshold_and_all_of_the_image_above():
    assert pseudo_boxes(np.full((5, 5), 0.3), (40, 60), 0.3).boxes.shape == (0, 4)
    whole = pseudo_boxes(np.full((5, 5), 0.3), (40, 60), 0.2)
    assert whole.boxes.tolist() == [[0, 0, 60, 40]]
    assert whole.scores.tolist() == pytest.approx([0.3])


def test_tiny_image():
    assert pseudo_boxes(np.full((3, 3), 1.0), (1, 1), 0.5).boxes.tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("bad", [np.full((3, 3), np.nan), np.zeros(9)])
def test_bad_map(bad):
    with pytest.raises(InputError, match="finite map"):
        pseudo_boxes(bad, (10, 10), 0.5)


@pytest.mark.parametrize("seed", range(6))
def test_equals_flood_fill_and_torchvision(seed):
    generator = np.random.default_rng(seed)
    anomaly_map = cv2.GaussianBlur(generator.random((16, 16)).astype(np.float32), (3, 3), 0)
    size = (int(generator.integers(60, 160)), int(generator.integers(60, 260)))
    threshold = float(np.quantile(anomaly_map, 0.8))
    boxes, scores = reference_boxes(anomaly_map, size, threshold)
    found = pseudo_boxes(anomaly_map, size, threshold)
    assert len(boxes) > 1
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.boxes, boxes)


def test_top_k_keeps_the_highest():
    anomaly_map = np.zeros((9, 9), np.float32)
    anomaly_map[1, 1], anomaly_map[1, 7], anomaly_map[7, 1] = 1.0, 3.0, 2.0
    found = pseudo_boxes(anomaly_map, (90, 90), 0.5, top_k=2)
    assert found.scores.tolist() == [pytest.approx(3.0, rel=0.1), pytest.approx(2.0, rel=0.1)]


def test_small_components_are_dropped():
    anomaly_map = np.zeros((9, 9), np.float32)
    anomaly_map[4, 4] = 1
    size = len(next(flood_fill(cv2.resize(anomaly_map, (90, 90)) > 0.5)))
    assert len(pseudo_boxes(anomaly_map, (90, 90), 0.5, min_area=size).boxes) == 1
    assert len(pseudo_boxes(anomaly_map, (90, 90), 0.5, min_area=size + 1).boxes) == 0


def test_merging_is_transitive_and_keeps_the_best_score():
    boxes = np.array([[0, 0, 10, 10], [12, 0, 20, 10], [23, 0, 30, 10], [80, 80, 90, 90]], np.float32)
    merged, scores = merge_close(boxes, np.array([0.2, 0.9, 0.1, 0.5], np.float32), 4)
    assert sorted(zip(merged.tolist(), scores.tolist(), strict=True)) == [
        ([0, 0, 30, 10], pytest.approx(0.9)),
        ([80, 80, 90, 90], pytest.approx(0.5)),
    ]


def test_statistics_of_nothing():
    assert category_statistics(np.zeros(0), np.zeros(0)).images == 0


def test_equations_9_and_10_by_hand():
    statistics = category_statistics(np.array([0.9, 0.7, 0.8, 1.2]), np.array([0.1, 0.2, 0.3, 0.2]))
    assert statistics.mean_max == pytest.approx(0.9)
    assert category_threshold(statistics, "paper", 0.1) == pytest.approx(0.8)
    # 0.9 - 0.2 * (0.9 - 0.2)
    assert category_threshold(statistics, "relative", 0.2) == pytest.approx(0.76)
    # median of the maxima 0.85; deviations 0.05, 0.15, 0.05, 0.35 -> MAD 0.1
    assert category_threshold(statistics, "robust", 3) == pytest.approx(1.15)
    assert category_threshold(statistics, "fixed", 0.42) == 0.42
    with pytest.raises(InputError, match="expected one of paper"):
        category_threshold(statistics, "other", 1)
