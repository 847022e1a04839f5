"""The detector as a module: labels, shapes, gradients, freezing, saving and the Auto classes."""

import copy
import json
import math
import pickle
import subprocess

import pytest
import torch
from contract_cases import (
    NAMES,
    TWO_IMAGES,
    UNUSABLE,
    assert_backbone_stays_frozen,
    assert_trains_beside_others,
    labels_of,
)
from safetensors.torch import load_file, save_file
from torchvision.ops import box_convert, box_iou
from transformers import AutoConfig, AutoModelForObjectDetection
from warm_python import python
from yolo_cases import build

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.detection.yolo import YoloConfig, YoloForObjectDetection
from agssp.models.detection.yolo.neck_and_head import build_neck_and_head


@pytest.mark.slow
def test_ultralytics_is_imported_by_a_model_only():
    check = "import agssp.models.detection, sys; sys.exit('ultralytics' in sys.modules)"
    assert subprocess.run([python(), "-c", check], timeout=120).returncode == 0


def test_a_batch_without_any_box_has_class_loss_only(detector):
    out = detector(torch.rand(2, 3, 64, 64), labels_of([], []))
    assert torch.isfinite(out.loss)
    assert out.loss_dict["cls"] > 0
    assert out.loss_dict["box"] == out.loss_dict["dfl"] == 0
    torch.testing.assert_close(out.loss, sum(out.loss_dict.values()))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96)])
def test_shapes_are_the_same_in_training_and_evaluation(height, width):
    model = build()
    cells = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    for mode in (True, False):
        out = model.train(mode)(torch.rand(2, 3, height, width), TWO_IMAGES)
        assert out.logits.shape == (2, cells, 3)
        assert out.pred_boxes.shape == (2, cells, 4)
        assert out.loss.shape == ()
    assert model(torch.rand(1, 3, height, width)).loss is None


def test_tuple_output(detector):
    loss, parts, logits, boxes = detector(torch.rand(1, 3, 64, 64), labels_of([]), return_dict=False)
    assert loss.ndim == 0
    assert set(parts) == {"box", "cls", "dfl"}
    assert logits.shape[:2] == boxes.shape[:2]


@pytest.mark.parametrize(("size", "labels", "message"), UNUSABLE)
def test_input_that_cannot_be_used(detector, size, labels, message):
    with pytest.raises(InputError, match=message):
        detector(torch.rand(2, 3, *size), labels)


def test_a_backbone_without_the_three_strides_is_refused():
    backbone = AgsspBackboneConfig(architecture="test_resnet", out_indices=[1, 2, 3])
    with pytest.raises(InputError, match="takes 8, 16 and 32"):
        YoloForObjectDetection(YoloConfig(backbone_config=backbone))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "yolov3"}, "variant='yolov3': expected one of yolov8n, yolov8s"),
        ({"image_size": 100}, "image_size=100: expected a multiple of 32"),
    ],
)
def test_configurations_that_cannot_be_used(fields, message):
    with pytest.raises(InputError, match=message):
        YoloConfig(**fields)


@pytest.mark.parametrize("class_channels", [32, 200])
def test_a_class_branch_that_cannot_be_built(class_channels):
    with pytest.raises(InputError, match="the nearest that yolov8n can have is"):
        YoloForObjectDetection(YoloConfig(class_channels=class_channels))


def test_a_graph_in_the_working_directory_is_not_read(tmp_path, monkeypatch, detector):
    (tmp_path / "yolov8.yaml").write_text("nc: 1")
    (tmp_path / "yolov8n.yaml").write_text("nc: 1")
    monkeypatch.chdir(tmp_path)
    neck, _, taps = build_neck_and_head("yolov8n", detector.backbone.channels, (8, 16, 32), 3)
    assert list(neck) == list(detector.neck)
    assert taps == detector.taps == (4, 6, 9)


def test_one_class_named_defect_by_default():
    config = YoloConfig()
    assert config.id2label == {0: "defect"}
    assert config.label2id == {"defect": 0}
    assert YoloConfig(id2label=NAMES).label2id == {"scratch": 0, "pit": 1, "inclusion": 2}


def test_every_trained_parameter_gets_a_gradient():
    model = build().train()
    model(torch.rand(2, 3, 64, 64), TWO_IMAGES).loss.backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_boxes_have_a_gradient_only_where_no_loss_uses_them(detector):
    images = torch.rand(1, 3, 64, 64)
    assert detector(images).pred_boxes.requires_grad
    assert not detector(images, labels_of([])).pred_boxes.requires_grad


@pytest.mark.parametrize("num_labels", [1, 7])
def test_fresh_biases_are_ultralytics_priors(num_labels):
    model = YoloForObjectDetection(YoloConfig(id2label={index: str(index) for index in range(num_labels)}))
    for box_branch, class_branch, stride in zip(model.head.cv2, model.head.cv3, (8, 16, 32), strict=True):
        assert (box_branch[-1].bias == 2).all()
        prior = math.log(5 / num_labels / (640 / stride) ** 2)
        torch.testing.assert_close(class_branch[-1].bias, torch.full((num_labels,), prior))
    assert {(norm.eps, norm.momentum) for norm in model.modules() if isinstance(norm, torch.nn.BatchNorm2d)} == {
        (1e-3, 0.03)
    }


def test_names_of_the_tensors_are_stable(detector):
    names = list(detector.state_dict())
    assert len(names) == 354
    assert {name.split(".")[0] for name in names} == {"backbone", "neck", "head"}
    assert "neck.12.cv1.conv.weight" in names
    assert "neck.21.m.0.cv2.bn.running_var" in names
    assert "head.cv2.0.2.bias" in names
    assert "head.cv3.2.2.weight" in names


def test_saving_and_loading_is_exact(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    loaded = YoloForObjectDetection.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path / "again")
    for file in ("config.json", "preprocessor_config.json"):
        first, second = (json.loads((folder / file).read_text()) for folder in (tmp_path, tmp_path / "again"))
        for config in (first, second):
            # transformers writes the dtype of a part only after it has loaded it.
            config.get("backbone_config", {}).pop("dtype", None)
        assert first == second
    expected = detector.state_dict()
    assert list(loaded.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = loaded.eval()(images, labels_of([])), detector(images, labels_of([]))
    # Not bit by bit: kernels round differently for tensors that a file left at another alignment in memory.
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.pred_boxes, theirs.pred_boxes, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.loss, theirs.loss)


def test_auto_classes_open_a_local_folder(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), YoloConfig)
    loaded = AutoModelForObjectDetection.from_pretrained(tmp_path)
    assert isinstance(loaded, YoloForObjectDetection)
    assert loaded.config.id2label == NAMES
    assert isinstance(loaded.config.backbone_config, AgsspBackboneConfig)


def test_loading_with_other_classes_initialises_only_their_convolutions(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    loaded = YoloForObjectDetection.from_pretrained(
        tmp_path, id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1}, ignore_mismatched_sizes=True
    )
    expected = detector.state_dict()
    fresh = {name for name, value in loaded.state_dict().items() if value.shape != expected[name].shape}
    assert fresh == {f"head.cv3.{level}.2.{kind}" for level in range(3) for kind in ("weight", "bias")}
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items() if name not in fresh)
    prior = math.log(5 / 2 / 80**2)
    torch.testing.assert_close(loaded.head.cv3[0][-1].bias, torch.full((2,), prior))
    assert 0 < loaded.head.cv3[0][-1].weight.std() < 1


def test_folders_that_hold_no_such_detector(detector, tmp_path):
    with pytest.raises(InputError, match="expected a detector of type agssp_yolo"):
        YoloForObjectDetection.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="cannot be opened"):
        YoloForObjectDetection.from_pretrained(tmp_path / "none")
    detector.backbone.save_pretrained(tmp_path / "backbone")
    with pytest.raises(InputError, match="says agssp_backbone"):
        YoloForObjectDetection.from_pretrained(tmp_path / "backbone")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("neck.12.cv1.conv.weight"), r"1 missing \(neck.12.cv1.conv.weight\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (lambda state: state.update({"neck.12.cv1.bn.bias": torch.zeros(3)}), r"1 of another shape \(neck.12.cv1.bn"),
    ],
)
@pytest.mark.slow
def test_folders_whose_weights_do_not_fit(detector, tmp_path, change, message):
    detector.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=message):
        YoloForObjectDetection.from_pretrained(tmp_path)


@pytest.mark.parametrize("architecture", ["test_resnet", "yolov8s"])
def test_other_backbones(architecture):
    config = YoloConfig(backbone_config=AgsspBackboneConfig(architecture=architecture), id2label=NAMES)
    model = YoloForObjectDetection(config).train()
    assert model.neck["12"].cv1.conv.in_channels == sum(model.backbone.channels[1:])
    out = model(torch.rand(2, 3, 64, 64), TWO_IMAGES)
    out.loss.backward()
    assert out.logits.shape == (2, 84, 3)
    assert [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None] == []


def test_a_frozen_backbone_stays_as_it_is():
    backbone = AgsspBackboneConfig(architecture="yolov8n", frozen_stages=4)
    model = build(backbone_config=backbone).train()
    assert not any(module.training for module in model.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert all(module.training for module in model.neck.modules())
    assert_backbone_stays_frozen(model)


def test_distributed_training_needs_no_search_for_unused_parameters(tmp_path):
    build(backbone_config=AgsspBackboneConfig(architecture="yolov8n", frozen_stages=4)).save_pretrained(tmp_path)
    model = YoloForObjectDetection.from_pretrained(tmp_path)
    assert_trains_beside_others(model, tmp_path)


def test_bfloat16_autocast_keeps_the_loss_in_full_precision():
    model = build().eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        full = model(images, TWO_IMAGES)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(images, TWO_IMAGES)
    assert half.loss.dtype == half.pred_boxes.dtype == torch.float32
    torch.testing.assert_close(half.loss, full.loss, rtol=0.05, atol=0)


@pytest.mark.slow
def test_it_learns_a_fixed_batch():
    torch.manual_seed(0)
    model = YoloForObjectDetection(YoloConfig(id2label=NAMES, image_size=64)).train()
    images = torch.full((4, 3, 64, 64), 0.45)
    boxes = [(0.3, 0.3, 0.4, 0.4), (0.6, 0.5, 0.5, 0.3), (0.5, 0.7, 0.3, 0.5)]
    labels = labels_of(*[[(index, box)] for index, box in enumerate(boxes)], [])
    for index, box in enumerate(boxes):
        left, top, right, bottom = (box_convert(torch.tensor(box), "cxcywh", "xyxy") * 64).int()
        images[index, index, top:bottom, left:right] = 1.0
    # At higher rates a box now and then loses every prediction that overlaps it, and ultralytics' assigner gives up
    # on it.
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = model(images, labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # The first losses are small: they are divided by how well boxes are found, but by 1 at least.
    assert losses[-1] < min(losses[0], max(losses) / 3)
    with torch.no_grad():
        found = model(images)  # in training mode: 100 steps are too few for the norms' running statistics
    results = model.post_process_object_detection(found, threshold=0.25)
    assert len(results[3]["scores"]) == 0
    for index, box in enumerate(boxes):
        best = results[index]
        assert best["labels"][0] == index
        target = box_convert(torch.tensor([box]), "cxcywh", "xyxy")
        assert box_iou(best["boxes"][:1], target) > 0.5


def test_the_criterion_follows_the_gains_and_is_not_saved(detector):
    images = torch.rand(1, 3, 64, 64)
    labels = labels_of([(0, (0.5, 0.5, 0.4, 0.4))])
    model = build(box_gain=15.0).eval()
    model.load_state_dict(detector.state_dict())
    with torch.no_grad():
        twice, once = model(images, labels).loss_dict, detector(images, labels).loss_dict
    torch.testing.assert_close(twice["box"], 2 * once["box"])
    torch.testing.assert_close(twice["cls"], once["cls"])
    assert not any("criterion" in name for name, _ in model.named_modules())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            torch.testing.assert_close(other(images, labels).loss_dict, model(images, labels).loss_dict)
