"""The `evaluate` modules give the numbers of the plain classes and functions."""

import evaluate
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from agssp.errors import InputError
from agssp.evaluation import module_path
from agssp.evaluation.detection_metrics import DetectionMetrics

NAMES = ["scratch", "pit", "never labelled"]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        # Otherwise `evaluate` copies the modules into the user's cache. Python imports them from one place a process.
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder / "modules")
        yield lambda name, *config: evaluate.load(module_path(name), *config, cache_dir=str(folder / "cache"))


def images(count=10):
    generator = np.random.default_rng(4)
    for index in range(count):
        corners = generator.uniform(0, 80, (index % 4, 2))
        targets = np.concatenate([corners, corners + generator.uniform(5, 90, corners.shape)], 1)
        labels = generator.integers(0, 2, len(targets))
        wrong = np.tile([1.0, 2, 30, 40], (index % 3, 1))
        found = np.concatenate([targets + generator.normal(0, 3, targets.shape), wrong])
        guesses = np.concatenate([labels, generator.integers(0, 3, index % 3)])
        yield found, generator.random(len(found)), guesses, targets, labels


def test_unknown_metric():
    with pytest.raises(InputError, match="expected one of agssp_anomaly, agssp_detection"):
        module_path("accuracy")


def test_detection_in_batches_equals_the_class(load):
    metric, plain = load("agssp_detection"), DetectionMetrics(NAMES)
    for index, (boxes, scores, labels, targets, target_labels) in enumerate(images()):
        plain.update(index, boxes, scores, labels, targets, target_labels)
        metric.add_batch(
            predictions=[{"boxes": boxes.tolist(), "scores": scores.tolist(), "labels": labels.tolist()}],
            references=[{"boxes": targets.tolist(), "labels": target_labels.tolist()}],
        )
    expected = plain.compute()
    assert metric.compute(class_names=NAMES) == expected
    assert 0 < expected["map_50"] < 1


def test_crowd_regions_may_be_told(load):
    found = {"boxes": [[110, 110, 140, 140], [10, 10, 60, 60]], "scores": [0.9, 0.5], "labels": [0, 0]}
    labelled = {"boxes": [[10, 10, 60, 60], [100, 100, 300, 300]], "labels": [0, 0]}
    for iscrowd, expected in (({}, 0.25), ({"iscrowd": [0, 0]}, 0.25), ({"iscrowd": [0, 1]}, 1)):
        references = [labelled | iscrowd]
        result = load("agssp_detection").compute(predictions=[found], references=references, class_names=NAMES)
        assert result["crowds"] == sum(iscrowd.get("iscrowd", []))
        assert result["map_50"] == pytest.approx(expected, abs=0.01)
    metric = load("agssp_detection")
    metric.add(prediction=found, reference=labelled)
    assert metric.compute(class_names=NAMES)["boxes"] == 2


def test_images_without_any_box(load):
    empty = {"boxes": [], "labels": []}
    result = load("agssp_detection").compute(
        predictions=[{**empty, "scores": []}], references=[empty], class_names=NAMES
    )
    assert result["map_50"] is None
    assert result["images"] == 1


def test_image_scores_equal_scikit_learn(load):
    generator = np.random.default_rng(1)
    scores, labels = generator.random(50), generator.random(50) < 0.3
    assert load("agssp_anomaly").compute(predictions=scores, references=labels.astype(int)) == {
        "auroc": pytest.approx(roc_auc_score(labels, scores)),
        "average_precision": pytest.approx(average_precision_score(labels, scores)),
    }


def test_pixel_scores_equal_scikit_learn(load):
    generator = np.random.default_rng(2)
    maps = generator.random((3, 8, 9)).astype(np.float16)
    masks = (generator.random((3, 8, 9)) < 0.2).astype(np.uint8)
    found = load("agssp_anomaly", "pixel").compute(predictions=maps.astype(np.float32), references=masks)
    assert found == {
        "auroc": pytest.approx(roc_auc_score(masks.ravel(), maps.ravel())),
        "average_precision": pytest.approx(average_precision_score(masks.ravel(), maps.ravel())),
    }


def test_unknown_configuration(load):
    with pytest.raises(ValueError, match="expected 'image' or 'pixel'"):
        load("agssp_anomaly", "pixels")
