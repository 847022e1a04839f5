import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from agssp.errors import InputError
from agssp.metrics.detection import DetectionMetrics

NAMES = ["scratch", "pit", "never labelled"]


def random_images(seed: int, count: int = 12):
    generator = np.random.default_rng(seed)
    for index in range(count):
        number = int(generator.integers(0, 5))
        corners = generator.uniform(0, 80, (number, 2))
        targets = np.concatenate([corners, corners + generator.uniform(3, 120, (number, 2))], 1)
        labels = generator.integers(0, 2, number)
        found = np.concatenate([targets + generator.normal(0, 4, targets.shape), generator.uniform(0, 90, (3, 4))])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        guesses = np.concatenate([labels, generator.integers(0, 3, 3)])
        yield index, found, generator.uniform(0, 1, len(found)), guesses, targets, labels


def by_pycocotools(images):
    annotations, detections = [], []
    for index, boxes, scores, labels, targets, target_labels in images:
        for box, label in zip(targets, target_labels, strict=True):
            x, y, w, h = *box[:2], *(box[2:] - box[:2])
            annotations.append(
                {"id": len(annotations) + 1, "image_id": index, "category_id": int(label), "iscrowd": 0}
                | {"bbox": [x, y, w, h], "area": w * h}
            )
        for box, score, label in zip(boxes, scores, labels, strict=True):
            bbox = [*box[:2], *(box[2:] - box[:2])]
            detections.append({"image_id": index, "category_id": int(label), "bbox": bbox, "score": float(score)})
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image[0]} for image in images],
        "annotations": annotations,
        "categories": [{"id": i} for i in range(len(NAMES))],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def test_nothing_collected():
    result = DetectionMetrics(NAMES).compute()
    assert result["map_50"] is None
    assert result["images"] == result["boxes"] == 0


def test_labels_but_nothing_found_is_zero():
    metrics = DetectionMetrics(NAMES)
    metrics.update(0, [], [], [], [[0, 0, 10, 10]], [0])
    result = metrics.compute()
    assert result["map_50"] == 0
    assert result["per_class"]["scratch"]["ap_50"] == 0
    assert result["per_class"]["pit"]["ap_50"] is None


def test_found_but_nothing_labelled():
    metrics = DetectionMetrics(NAMES)
    metrics.update(0, [[0, 0, 5, 5]], [0.9], [0], [], [])
    assert metrics.compute()["map_50_95"] is None


def test_perfect_boxes():
    metrics = DetectionMetrics(NAMES)
    metrics.update(0, [[0, 0, 40, 40]], [0.9], [1], [[0, 0, 40, 40]], [1])
    result = metrics.compute()
    assert result["map_50"] == pytest.approx(1)
    assert result["map_50_95"] == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_pycocotools(seed):
    images = list(random_images(seed))
    metrics = DetectionMetrics(NAMES)
    for image in images:
        metrics.update(*image)
    result, reference = metrics.compute(), by_pycocotools(images)
    names = ["map_50_95", "map_50", "map_75", "map_small", "map_medium", "map_large"]
    expected = [value if value >= 0 else None for value in reference.stats[:6]]
    assert [result[name] for name in names] == pytest.approx(expected, abs=1e-9)
    for index, name in enumerate(NAMES[:2]):
        precision = reference.eval["precision"][0, :, index, 0, -1]
        assert result["per_class"][name]["ap_50"] == pytest.approx(precision.mean(), abs=1e-9)
        assert result["curves"][name]["precision"] == pytest.approx(precision.tolist(), abs=1e-9)


def test_two_processes_merge_to_one():
    images = list(random_images(7))
    whole, first, second = (DetectionMetrics(NAMES) for _ in range(3))
    for image in images:
        whole.update(*image)
        (first if image[0] % 2 else second).update(*image)
    # An image that both processes saw (a padded last batch) counts once.
    first.update(*images[0])
    first.merge(second.state())
    assert first.compute() == whole.compute()


def test_more_detections_than_a_hundred_can_count():
    metrics = DetectionMetrics(NAMES, max_detections=300)
    boxes = [[10 * index, 0, 10 * index + 8, 8] for index in range(200)]
    metrics.update(0, boxes, np.linspace(1, 0.5, 200), np.zeros(200), boxes, np.zeros(200))
    assert metrics.compute()["map_50"] == pytest.approx(1)


def test_detections_of_unknown_classes_count_nowhere():
    metrics = DetectionMetrics(NAMES)
    metrics.update(0, [[0, 0, 9, 9], [0, 0, 9, 9]], [0.9, 0.8], [7, 0], [[0, 0, 9, 9]], [0])
    assert metrics.compute()["map_50"] == pytest.approx(1)


def test_wrong_labels_are_refused():
    metrics = DetectionMetrics(NAMES)
    with pytest.raises(InputError, match=r"target_labels \[3\] of 3 classes"):
        metrics.update(0, [], [], [], [[0, 0, 5, 5]], [3])
    with pytest.raises(InputError, match="lengths 1, 2, 1, 0, 0"):
        metrics.update(0, [[0, 0, 5, 5]], [0.5, 0.4], [0], [], [])
