"""Metrics go up as Spaces and come back through `evaluate.load`, with the numbers of the plain classes."""

from pathlib import Path

import pytest
from huggingface_hub import SpaceCard

REPOSITORY = Path(__file__).parents[2]
BOTH = """
import json
import evaluate
import numpy
from agssp.evaluation.detection_metrics import DetectionMetrics

names, boxes, labels = ["pit", "scratch"], [[10.0, 10, 50, 50], [60, 60, 90, 95]], [0, 1]
found = {"boxes": [[12.0, 9, 51, 49], [0, 0, 20, 20]], "scores": [0.9, 0.6], "labels": [0, 1]}
plain = DetectionMetrics(names)
plain.update(0, *(numpy.asarray(part) for part in (*found.values(), boxes, labels)))
metric = evaluate.load("me/agssp_detection")
loaded = metric.compute(predictions=[found], references=[{"boxes": boxes, "labels": labels}], class_names=names)
same = loaded == plain.compute() and 0 < loaded["map_50"] < 1
scores, truth = [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]
again = evaluate.load("me/agssp_anomaly").compute(predictions=scores, references=truth)
print(json.dumps([same, again["auroc"]]))
"""


def test_no_owner_is_named(hub):
    done = hub.run(REPOSITORY / "scripts/publish_metrics.py", "--owner", "somebody-else", check=False)
    assert done.returncode == 2
    assert "somebody-else/agssp_detection" in done.stderr
    assert not hub.requested("POST", r"/commit/")


@pytest.mark.slow
def test_published_metrics_give_the_plain_numbers(hub):
    hub.run(REPOSITORY / "scripts/publish_metrics.py", "--owner", "me")
    files = hub.files("me/agssp_detection", "space")
    assert set(files) == {"README.md", "agssp_detection.py"}
    card = SpaceCard(files["README.md"].decode())
    assert (card.data.title, card.data.sdk, card.data.license) == ("agssp_detection", "static", "apache-2.0")
    # One of two boxes of the first class is found; of four scores one pair is out of order.
    assert hub.run(BOTH).value == [True, 0.75]
