"""The runner alone: what it chooses from a network's output, without torch at hand."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import batched_nms

from agssp.errors import InputError
from agssp.evaluation.inference import detect
from agssp.hub.export import OnnxDetector
from agssp.hub.export.description import describe_detector
from agssp.hub.export.onnx_runner import suppress_overlaps
from agssp.models.detection import any_detector, catalogue
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
    found = runner(logits, boxes, iou_threshold=iou_threshold).detect(images, threshold=threshold, max_detections=20)
    assert bool(sum(len(each["scores"]) for each in found)) == (threshold < 1)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["labels"].tolist() == theirs["labels"].tolist()
        np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-6)
        np.testing.assert_allclose(ours["boxes"], theirs["boxes"], atol=1e-4)
        assert ours["boxes"].dtype == ours["scores"].dtype == np.float32
        assert ours["labels"].dtype == np.int64


def runner(logits, boxes, **suppression):
    """A detector at 64 px whose network gives this."""
    detector = OnnxDetector.__new__(OnnxDetector)
    detector.description = {
        "suppression": {"iou_threshold": None} | suppression,
        "normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1]},
    }
    detector.names, detector.input_size, detector.session = {}, (64, 64), Network(logits, boxes)
    return detector


def test_no_images():
    assert runner([], []).detect([]) == []


def test_one_image_is_a_list_of_one(tmp_path):
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (30, 50, 3), dtype=np.uint8)
    logits = generator.normal(0, 2, (1, 60, 3)).astype(np.float32)
    detector = runner(logits, generator.uniform(0.05, 0.9, (1, 60, 4)).astype(np.float32))
    file = tmp_path / "plate.png"
    Image.fromarray(pixels).save(file)
    (expected,) = detector.detect([pixels])
    assert len(expected["scores"])
    for image in (str(file), file, file.read_bytes(), Image.fromarray(pixels), pixels, pixels[None]):
        (found,) = detector.detect(image)
        assert all(np.array_equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("iou_threshold", [None, 0.1, 1.0])
def test_nothing_is_suppressed_of_an_end_to_end_model_as_in_torch(iou_threshold, caplog):
    model = catalogue.build("yolo26n", None, {0: "pit"}, 64).eval()
    logits, boxes = torch.zeros(1, 84, 1), torch.full((1, 84, 4), 0.5)
    detector = runner(logits.numpy(), boxes.numpy(), **describe_detector(model, 64)["suppression"])
    images = [np.zeros((64, 64, 3), np.uint8)]
    (found,) = detector.detect(images, iou_threshold=iou_threshold)
    outputs = {"logits": logits, "pred_boxes": boxes}
    options = {"target_sizes": [(64, 64)], "input_size": (64, 64), "iou_threshold": iou_threshold}
    (expected,) = any_detector.post_process(model, outputs, threshold=0.25, **options)
    assert len(found["scores"]) == len(expected["scores"]) == 84
    assert ("iou_threshold=0.1 has no effect" in caplog.text) == (iou_threshold == 0.1)
    caplog.clear()
    list(detect(model, rows(images), threshold=0.25, iou_threshold=iou_threshold))
    assert ("iou_threshold=0.1 has no effect: yolo26n" in caplog.text) == (iou_threshold == 0.1)


def rows(images):
    """As a data set gives them, undecoded."""
    for number, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        yield {"image": {"bytes": file.getvalue(), "path": None}, "image_id": str(number)}


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
    with pytest.raises(InputError, match=r"model\.onnx\.json: not the description of a detector .*export the model"):
        OnnxDetector(file)
    content |= {
        "labels": {"0": "pit"},
        "normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1]},
        "suppression": {"iou_threshold": None},
    }
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
