"""The runner alone: what it chooses from a network's output, without torch at hand."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from agssp.errors import InputError
from agssp.hub.export import OnnxDetector
from agssp.hub.export.onnx_runner import suppress_overlaps
from agssp.models.detection.post_processing import post_process_object_detection


def boxes_and_labels(count, seed=0):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 40, (count, 4)).astype(np.float32)
    corners[:, 2:] += corners[:, :2]
    return corners, generator.integers(0, 3, count)


def test_nothing_to_suppress():
    assert suppress_overlaps(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), 0.5, 10).tolist() == []


@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("most", [5, 1000])
def test_suppression_is_torchvisions(iou_threshold, most):
    boxes, labels = boxes_and_labels(200)
    boxes[::7, 2:] -= 30  # some with sides below zero, as networks without a guard against them give
    scores = torch.linspace(1, 0, len(boxes))
    expected = batched_nms(torch.from_numpy(boxes), scores, torch.from_numpy(labels), iou_threshold)[:most]
    assert suppress_overlaps(boxes, labels, iou_threshold, most).tolist() == expected.tolist()


def test_boxes_without_area_suppress_nothing():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], np.float32)
    assert suppress_overlaps(boxes, np.zeros(2, np.int64), 0.5, 10).tolist() == [0, 1]


class Network:
    """Predictions as onnxruntime's session would give them."""

    def __init__(self, logits, boxes):
        self.outputs = [logits, boxes]

    def run(self, names, inputs):
        assert names == ["logits", "pred_boxes"]
        assert inputs["pixel_values"].shape == (len(self.outputs[0]), 3, 64, 64)
        return self.outputs


@pytest.mark.parametrize("iou_threshold", [None, 0.5])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_choice_of_boxes_is_that_of_torch(iou_threshold, threshold):
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, (2, 60, 3)).astype(np.float32)
    boxes = generator.uniform(0.05, 0.9, (2, 60, 4)).astype(np.float32)
    images = [np.zeros((30, 50, 3), np.uint8), np.zeros((90, 33, 3), np.uint8)]
    expected = post_process_object_detection(
        torch.from_numpy(logits),
        torch.from_numpy(boxes),
        input_size=(64, 64),
        threshold=threshold,
        target_sizes=[image.shape[:2] for image in images],
        iou_threshold=iou_threshold,
        max_detections=20,
    )
    detector = OnnxDetector.__new__(OnnxDetector)
    detector.description = {
        "suppression": {"iou_threshold": iou_threshold},
        "normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1]},
    }
    detector.input_size, detector.session = (64, 64), Network(logits, boxes)
    found = detector.detect(images, threshold=threshold, max_detections=20)
    assert bool(sum(len(each["scores"]) for each in found)) == (threshold < 1)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["labels"].tolist() == theirs["labels"].tolist()
        np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-6)
        np.testing.assert_allclose(ours["boxes"], theirs["boxes"], atol=1e-4)
        assert ours["boxes"].dtype == ours["scores"].dtype == np.float32
        assert ours["labels"].dtype == np.int64


def test_no_images(tmp_path):
    detector = OnnxDetector.__new__(OnnxDetector)
    detector.description = {"suppression": {"iou_threshold": None}}
    assert detector.detect([]) == []


def test_files_that_it_cannot_use_are_named(tmp_path):
    file, beside = tmp_path / "model.onnx", tmp_path / "model.onnx.json"
    with pytest.raises(InputError, match=r"model\.onnx: no such file; `agssp export"):
        OnnxDetector(file)
    file.write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"model\.onnx\.json: the description of model\.onnx cannot be read"):
        OnnxDetector(file)
    beside.write_text('{"labels": {}}')
    with pytest.raises(InputError, match="it lacks input, normalisation, suppression"):
        OnnxDetector(file)
    content = {"input": {"shape": ["batch", 3, 64, 64]}, "labels": {}, "normalisation": {}, "suppression": {}}
    beside.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"model\.onnx: onnxruntime cannot open it"):
        OnnxDetector(file)


WITHOUT_TORCH = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "transformers", "datasets", "timm", "ultralytics", "onnx"):
            raise ImportError(f"{name} is hidden")

sys.meta_path.insert(0, Hidden())
from agssp.hub.export import OnnxDetector
from agssp.errors import InputError
try:
    OnnxDetector(sys.argv[1])
except InputError as error:
    print("REFUSED", error)
"""


def test_it_needs_no_torch(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "a.onnx")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "REFUSED" in done.stdout
