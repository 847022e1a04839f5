"""Detectors as ONNX: the numbers of torch, for any number of images. That of SLF-YOLO: test_every_detector.py."""

import sys

import numpy as np
import onnx
import pytest
import torch
from export_cases import CLASSES, detector

from agssp.errors import InputError
from agssp.hub.export.check_images import drawn_images
from agssp.hub.export.description import describe_detector
from agssp.hub.export.faster_rcnn_graph import FasterRcnnGraph
from agssp.hub.export.onnx import IR_VERSION, OPSETS, check_can_export, write_onnx
from agssp.hub.export.onnx_check import check_onnx
from agssp.hub.export.onnx_runner import OnnxDetector
from agssp.models.detection import any_detector

DENSE = ("yolov8n", "yolo12n", "yolo26n")
SPARSE = ("faster_rcnn", "dino", "rtdetr_v2_s", "dfine_s")


def take_regions_from_all_levels(model, side):
    """Let a Faster R-CNN take its regions from the coarse levels too, as it does in images of more than 448 px."""
    pool = model.roi_heads.box_roi_pool
    pool.canonical_scale, pool.map_levels = 40, None
    graph = FasterRcnnGraph(model, side)
    inputs = any_detector.image_processor(model, side)(drawn_images(side), return_tensors="pt")
    with torch.no_grad():
        proposals, _ = graph._proposals(graph._pyramid(inputs["pixel_values"]))
    assert graph.level_of(list(proposals)).unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", [*DENSE, *SPARSE])
@pytest.mark.slow
def test_the_boxes_of_torch_at_any_batch(name, tmp_path):
    side = 96
    model, file = detector(name, side), tmp_path / "model.onnx"
    if name == "faster_rcnn":
        take_regions_from_all_levels(model, side)
    write_onnx(model, file, side)
    exported = OnnxDetector(file, description=describe_detector(model, side))
    assert exported.names == CLASSES
    assert exported.input_size == (side, side)

    images = drawn_images(side)
    for batch in (images[:1], images):
        inputs = any_detector.image_processor(model, side)(batch, return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        logits, boxes = (torch.from_numpy(each) for each in exported.predict(batch))
        assert logits.shape == outputs.logits.shape
        if name in DENSE:
            torch.testing.assert_close(logits, outputs.logits, atol=1e-3, rtol=1e-4)
            torch.testing.assert_close(boxes, outputs.pred_boxes, atol=1e-4, rtol=0)
        else:
            # Queries of nearly equal scores may come in another order.
            for image in range(len(batch)):
                rows = torch.cat((logits[image].sigmoid(), boxes[image]), 1)
                expected = torch.cat((outputs.logits[image].sigmoid(), outputs.pred_boxes[image]), 1)
                distances = torch.cdist(rows, expected, compute_mode="donot_use_mm_for_euclid_dist")
                assert distances.amin(0).max() < 1e-3
                assert distances.amin(1).max() < 1e-3

    found = check_onnx(model, exported, images)
    assert found["images"] == 3
    assert found["boxes"] >= 60
    assert found["unlike"] == 0
    assert 0 < found["pixels"] < 0.1
    assert found["score"] < 1e-4
    operators = {node.op_type for node in onnx.load(file).graph.node}
    assert ("NonMaxSuppression" in operators) == (name == "faster_rcnn")

    # The check is one that can fail: other weights find other boxes.
    with torch.no_grad():
        next(parameter for key, parameter in model.named_parameters() if "backbone" in key).mul_(1.3)
    with pytest.raises(InputError, match=r"does not find what torch finds: of \d+ boxes \d+ have no like within 1 px"):
        check_onnx(model, exported, images)


@pytest.fixture(scope="module")
def latest(tmp_path_factory):
    """A detector, sure of nothing in its finest cells, and its file of the latest opset."""
    model, file = detector("yolov8n"), tmp_path_factory.mktemp("latest") / "model.onnx"
    with torch.no_grad():
        # torch's sigmoid of it is 0, the runner's is not.
        model.head.cv3[0][-1].bias.fill_(-200.0)
    write_onnx(model, file, 64, OPSETS[-1])
    return model, file


@pytest.mark.slow
def test_the_opset_that_was_asked_for(latest):
    written = onnx.load(latest[1])
    assert [entry.version for entry in written.opset_import if entry.domain == ""] == [OPSETS[-1]]
    assert written.ir_version == IR_VERSION == 10  # what `OLDEST_RUNTIME` was tried with
    used = {name for node in written.graph.node for name in node.input}
    assert {each.name for each in written.graph.initializer} <= used


@pytest.mark.slow
def test_scores_of_nothing_are_not_compared(latest):
    model, file = latest
    exported = OnnxDetector(file, description=describe_detector(model, 64))
    (found,) = exported.detect(drawn_images(64)[:1], 0.0, 1.0)
    assert 0 < found["scores"].min() < 1e-30
    checked = check_onnx(model, exported, drawn_images(64))
    assert checked["boxes"] >= 60
    assert checked["unlike"] == 0


def test_images_to_check_on_differ_in_shape_and_hold_something():
    images = drawn_images(64)
    assert [image.shape for image in images] == [(64, 64, 3), (38, 64, 3), (64, 29, 3)]
    assert all(np.ptp(image) > 20 for image in images)


@pytest.mark.parametrize("opset", [11, 16, 17])
def test_an_opset_that_is_too_old(opset):
    with pytest.raises(InputError, match=f"--opset {opset}: too old; expected 18 to 23.*onnxruntime 1.18 and later"):
        check_can_export(opset)


def test_an_opset_of_the_future():
    with pytest.raises(InputError, match="--opset 99: not known to torch; expected 18 to 23"):
        check_can_export(99)


def test_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"needs onnxscript: pip install 'agssp\[export\]'"):
        check_can_export(18)


def test_a_size_that_the_model_has_not_enough_cells_for(tmp_path):
    with pytest.raises(InputError, match="large enough for 189 queries"):
        write_onnx(detector("rtdetr_v2_s", 96), tmp_path / "model.onnx", 64)
    assert list(tmp_path.iterdir()) == []


class NoNumbers:
    """A session whose network gives no number."""

    def run(self, names, inputs):
        batch = len(inputs["pixel_values"])
        return [np.full((batch, 84, 3), np.nan, np.float32), np.full((batch, 84, 4), 0.5, np.float32)]


def test_a_network_that_finds_nothing_is_not_called_checked():
    model = detector("yolov8n")
    with torch.no_grad():
        for branch in model.head.cv3:
            branch[-1].bias.fill_(float("nan"))
    exported = OnnxDetector.__new__(OnnxDetector)
    exported.description, exported.names, exported.input_size = describe_detector(model, 64), {}, (64, 64)
    exported.session = NoNumbers()
    with pytest.raises(InputError, match="nothing is known of the file"):
        check_onnx(model, exported, drawn_images(64))
