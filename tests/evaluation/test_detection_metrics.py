import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from agssp.errors import InputError
from agssp.evaluation.detection_metrics import DetectionMetrics

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


def scenes_with_crowds(seed: int, count: int = 12):
    """The same with crowd regions of every size, some of which hold objects, and many finds in and around them."""
    generator = np.random.default_rng((seed, 1))
    for index, found, scores, guesses, targets, labels in random_images(seed, count):
        number = int(generator.integers(0, 3))
        corners = generator.uniform(0, 120, (number, 2))
        regions = np.concatenate([corners, corners + generator.uniform(10, 150, (number, 2))], 1)
        kinds = generator.integers(0, 3, number)
        places = generator.uniform(0, 200, (15, 2))
        more = np.concatenate([places, places + generator.uniform(4, 60, (15, 2))], 1)
        iscrowd = np.concatenate([np.zeros(len(labels), bool), np.ones(number, bool)])
        order = generator.permutation(len(iscrowd))
        yield (
            index, np.concatenate([found, more]), np.concatenate([scores, generator.uniform(0, 1, 15)]),
            np.concatenate([guesses, generator.integers(0, 3, 15)]),
            np.concatenate([targets, regions])[order], np.concatenate([labels, kinds])[order], iscrowd[order],
        )  # fmt: skip


def ties(seed: int, count: int = 60):
    """Images in no order with few different scores, and boxes on a coarse grid: scores and overlaps often tie."""
    generator = np.random.default_rng((seed, 2))
    for index, found, scores, guesses, targets, labels, crowds in scenes_with_crowds(seed, count):
        coarse = [np.round(boxes / 16) * 16 + [0, 0, 1, 1] for boxes in (found, targets)]
        order = generator.permutation(len(found))
        yield (
            (index * 37) % count, coarse[0][order], np.round(scores[order] * 4) / 4, guesses[order], coarse[1], labels,
            crowds,
        )  # fmt: skip


def by_pycocotools(images):
    annotations, detections = [], []
    for index, boxes, scores, labels, targets, target_labels, *crowds in images:
        for box, label, crowd in zip(
            targets, target_labels, crowds[0] if crowds else np.zeros(len(targets)), strict=True
        ):
            x, y, w, h = *box[:2], *(box[2:] - box[:2])
            annotations.append(
                {"id": len(annotations) + 1, "image_id": index, "category_id": int(label), "iscrowd": int(crowd)}
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


def test_crowd_regions_alone_are_nothing_labelled():
    metrics = DetectionMetrics(NAMES)
    metrics.update(0, [[0, 0, 5, 5]], [0.9], [0], [[0, 0, 50, 50]], [0], [True])
    result = metrics.compute()
    assert result["map_50_95"] is None
    assert (result["boxes"], result["crowds"], result["per_class"]["scratch"]["boxes"]) == (0, 1, 0)


def test_what_is_found_in_a_crowd_region_counts_for_nothing():
    # One object found, but after two finds in a region beside it: precision 1 at every recall without them, 1/3 with.
    found = [[110, 110, 140, 140], [140, 110, 170, 140], [10, 10, 60, 60]]
    labelled = [[10, 10, 60, 60], [100, 100, 300, 300]]
    metrics = DetectionMetrics(NAMES)
    metrics.update(0, found, [0.9, 0.8, 0.5], [0, 0, 0], labelled, [0, 0], [0, 1])
    assert metrics.compute()["map_50"] == pytest.approx(1)
    # A region of another class does not excuse them.
    metrics.update(0, found, [0.9, 0.8, 0.5], [0, 0, 0], labelled, [0, 1], [0, 1])
    assert metrics.compute()["map_50"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("scenes", "seed"),
    [(random_images, 0), (random_images, 1), *((scenes, n) for scenes in (scenes_with_crowds, ties) for n in range(4))],
)
def test_equals_pycocotools(scenes, seed):
    images = list(scenes(seed))
    metrics = DetectionMetrics(NAMES)
    for image in images:
        metrics.update(*image)
    result, reference = metrics.compute(), by_pycocotools(images)
    assert result["crowds"] == sum(int(np.sum(crowds)) for *_, crowds in images if scenes is not random_images)
    names = ["map_50_95", "map_50", "map_75", "map_small", "map_medium", "map_large"]
    expected = [value if value >= 0 else None for value in reference.stats[:6]]
    assert [result[name] for name in names] == pytest.approx(expected, abs=1e-9)
    for index, name in enumerate(NAMES[:2]):
        precision = reference.eval["precision"][0, :, index, 0, -1]
        assert result["per_class"][name]["ap_50"] == pytest.approx(precision.mean(), abs=1e-9)
        assert result["curves"][name]["precision"] == pytest.approx(precision.tolist(), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_precision_is_pycocotools_to_the_last_bit(seed):
    images = list(ties(seed))
    metrics = DetectionMetrics(NAMES)
    for image in images:
        metrics.update(*image)
    result, reference = metrics.compute(), by_pycocotools(images)
    stats = [result["map_50_95"], result["map_50"], result["map_75"]]
    assert stats == pytest.approx(reference.stats[:3], abs=1e-15)
    for index, name in enumerate(NAMES[:2]):
        precision = reference.eval["precision"][0, :, index, 0, -1]
        assert result["curves"][name]["precision"] == precision.tolist()
        assert result["per_class"][name]["recall_50"] == reference.eval["recall"][0, index, 0, -1]


@pytest.mark.parametrize("scenes", [random_images, scenes_with_crowds, ties])
def test_two_processes_merge_to_one(scenes):
    images = list(scenes(7))
    whole, first, second = (DetectionMetrics(NAMES) for _ in range(3))
    for image in images:
        whole.update(*image)
        (first if image[0] % 2 else second).update(*image)
    # An image that both processes saw (a padded last batch) counts once.
    first.update(*images[0])
    first.merge(second.state())
    assert first.compute() == whole.compute()


def test_of_an_image_that_comes_twice_the_last_counts():
    images = list(scenes_with_crowds(3))
    once, twice = DetectionMetrics(NAMES), DetectionMetrics(NAMES)
    for index, *found in images:
        once.update(index, *found)
        twice.update(len(images) - 1 - index, *found)
    for image in images:
        twice.update(*image)
    assert twice.compute() == once.compute()
    assert len(twice) == len(images)


def test_what_is_kept_is_a_few_bytes_a_box():
    metrics = DetectionMetrics(NAMES)
    for image in ties(5):
        metrics.update(*image)
    boxes = metrics.compute()["detections"] + metrics.compute()["boxes"]
    assert sum(rows.nbytes for rows in metrics.state().values()) < 40 * boxes


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
