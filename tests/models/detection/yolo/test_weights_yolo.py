"""Weights to and from ultralytics with equal outputs and losses, and transfer between detectors."""

import math
import os
from pathlib import Path

import pytest
import torch
from contract_cases import NAMES, assert_takes_over, labels_of
from random_weights import enliven
from safetensors.torch import save_file
from yolo_cases import build, ultralytics_model

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.detection.yolo import YoloConfig, YoloForObjectDetection

BOXES = [(0, (0.3, 0.4, 0.3, 0.2)), (2, (0.6, 0.6, 0.5, 0.4)), (1, (0.5, 0.2, 0.1, 0.1))]
OTHER_NAMES = {0: "crack", 1: "scale"}


def assert_same_outputs(model, reference, images):
    """Boxes in pixels and scores of our forward equal those of ultralytics' own."""
    height, width = images.shape[2:]
    with torch.no_grad():
        ours, (theirs, _) = model.eval()(images), reference.eval()(images)
        other = model(1 - images)
    assert (ours.logits - other.logits).abs().mean() > 0.1, "not of the image"
    pixels = ours.pred_boxes * torch.tensor([width, height, width, height])
    torch.testing.assert_close(pixels, theirs[:, :4].transpose(1, 2), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(ours.logits.sigmoid(), theirs[:, 4:].transpose(1, 2), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["yolov8n", "yolov8s"])
def test_outputs_equal_ultralytics(variant):
    model = enliven(build(variant))
    assert_same_outputs(model, ultralytics_model(model.to_ultralytics(), variant), torch.rand(2, 3, 64, 96))


@pytest.mark.parametrize("batch", [labels_of(BOXES, [], BOXES[:1]), labels_of([], []), labels_of([], BOXES)])
def test_loss_and_gradients_equal_ultralytics(batch):
    model = build().train()
    reference = ultralytics_model(model.to_ultralytics()).train()
    images = torch.rand(len(batch), 3, 64, 64)
    targets = {
        "img": images,
        "batch_idx": torch.cat([torch.full((len(x["boxes"]),), float(i)) for i, x in enumerate(batch)]),
        "cls": torch.cat([x["class_labels"].float() for x in batch]),
        "bboxes": torch.cat([x["boxes"] for x in batch]),
    }
    theirs, _ = reference.loss(targets)
    out = model(images, batch)
    torch.testing.assert_close(torch.stack(list(out.loss_dict.values())), theirs.detach() / len(batch))
    torch.testing.assert_close(out.loss, theirs.sum() / len(batch))
    out.loss.backward()
    (theirs.sum() / len(batch)).backward()
    torch.testing.assert_close(
        model.backbone.state_dict(keep_vars=True)[first_weight(model)].grad, reference.model[0].conv.weight.grad
    )


def first_weight(model):
    return next(name for name in model.backbone.state_dict() if name.endswith("0.conv.weight"))


def test_half_precision_file_round_trip(tmp_path):
    model = build(id2label=OTHER_NAMES)
    half = {
        name: value.half() if value.is_floating_point() else value for name, value in model.to_ultralytics().items()
    }
    save_file(half, tmp_path / "weights.safetensors")
    loaded = YoloForObjectDetection.from_ultralytics(tmp_path / "weights.safetensors", image_size=64)
    assert loaded.config.id2label == {0: "class_0", 1: "class_1"}
    assert loaded.config.image_size == 64
    for name, value in loaded.to_ultralytics().items():
        assert torch.equal(value, half[name].float() if half[name].is_floating_point() else half[name])


def test_coco_classes_are_named_and_their_wide_branch_is_kept(tmp_path):
    model = YoloForObjectDetection(YoloConfig(id2label={index: str(index) for index in range(80)}))
    assert model.config.class_channels == 80
    save_file(model.to_ultralytics(), tmp_path / "weights.safetensors")
    loaded = YoloForObjectDetection.from_ultralytics(tmp_path / "weights.safetensors", "yolov8n")
    assert loaded.config.id2label[0] == "person"
    assert loaded.config.id2label[79] == "toothbrush"
    target = YoloForObjectDetection(YoloConfig(id2label=NAMES))
    assert target.config.class_channels == 64
    report = target.transfer_from(loaded)
    assert target.config.class_channels == 80
    assert target.head.cv3[0][-1].weight.shape == (3, 80, 1, 1)
    assert len(report.loaded) == 354 - 6
    target.save_pretrained(tmp_path / "model")
    again = YoloForObjectDetection.from_pretrained(tmp_path / "model")
    assert torch.equal(again.head.cv3[0][0].conv.weight, loaded.head.cv3[0][0].conv.weight)


@pytest.mark.parametrize(
    ("change", "variant", "id2label", "message"),
    [
        (lambda state: state.pop("model.12.cv1.conv.weight"), None, None, "1 missing .model.12|1 missing"),
        (lambda state: state.update(extra=torch.zeros(1)), None, None, "1 unexpected .extra"),
        (lambda state: state.update({"model.12.cv1.conv.weight": torch.zeros(1)}), None, None, "1 of another shape"),
        (lambda state: state.pop("model.0.conv.weight"), None, None, "no tensor model.0.conv.weight"),
        (lambda state: state.pop("model.22.cv3.0.2.weight"), None, None, "one detection head"),
        (lambda state: None, "yolov8s", None, "yolov8n; variant='yolov8s'"),
        (lambda state: None, None, {0: "a", 1: "b"}, "3 classes in the file, 2 in id2label"),
    ],
)
def test_files_that_do_not_fit(tmp_path, detector, change, variant, id2label, message):
    state = detector.to_ultralytics()
    change(state)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=message):
        YoloForObjectDetection.from_ultralytics(tmp_path / "weights.safetensors", variant, id2label)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        YoloForObjectDetection.from_ultralytics(tmp_path / "none.safetensors")
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        YoloForObjectDetection.from_ultralytics(tmp_path / "weights.pt")


def test_only_the_own_backbone_has_a_place_in_ultralytics():
    model = build(backbone_config=AgsspBackboneConfig(architecture="test_resnet"))
    with pytest.raises(InputError, match=r"test_resnet.*yolov8n"):
        model.to_ultralytics()


def test_transfer_to_other_classes():
    source, target = build(seed=1), build(id2label=OTHER_NAMES, seed=2)
    report = target.transfer_from(source)
    dropped = {f"head.cv3.{level}.2.{kind}" for level in range(3) for kind in ("weight", "bias")}
    assert set(report.reinitialised) == set(report.left_out) == dropped
    assert set(report.loaded) == set(source.state_dict()) - dropped
    state = target.state_dict()
    assert all(torch.equal(state[name], source.state_dict()[name]) for name in report.loaded)
    prior = math.log(5 / 2 / 80**2)  # again, not what the target had before
    torch.testing.assert_close(state["head.cv3.0.2.bias"], torch.full((2,), prior))
    assert "loaded" in str(report)
    assert "head.cv3.1.2.weight: 2 classes of its own (crack, scale)" in str(report)
    assert f"{348:>5} tensors" in str(report)


def test_transfer_to_the_same_classes_takes_everything():
    source, target = enliven(build(seed=1)), build(seed=2)
    report = target.transfer_from(source)
    assert not report.reinitialised
    assert not report.left_out
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(target.eval()(images).logits, source.eval()(images).logits)


def test_as_many_classes_of_other_names_start_afresh_unless_asked():
    names = {0: "a", 1: "b", 2: "c"}
    source = build(seed=1)
    report = build(id2label=names, seed=2).transfer_from(source)
    assert len(report.reinitialised) == 6
    assert "(a, b, c)" in report.reinitialised["head.cv3.0.2.bias"]
    target = build(id2label=names, seed=2)
    assert not target.transfer_from(source, keep_class_head=True).reinitialised
    assert torch.equal(target.head.cv3[0][-1].weight, source.head.cv3[0][-1].weight)
    with pytest.raises(InputError, match="3 classes, the target 2"):
        build(id2label=OTHER_NAMES).transfer_from(source, keep_class_head=True)


def test_transfer_between_different_architectures_is_refused():
    source = build()
    with pytest.raises(InputError, match="variant differs: this detector has yolov8s, the source has yolov8n"):
        build("yolov8s").transfer_from(source)
    other = build(backbone_config=AgsspBackboneConfig(architecture="test_resnet"))
    with pytest.raises(InputError, match="backbone differs: this detector has test_resnet, the source has yolov8n"):
        other.transfer_from(source)


def test_a_pretrained_backbone_is_taken_over_with_its_normalisation():
    torch.manual_seed(3)
    config = AgsspBackboneConfig(architecture="yolov8n", image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.3])
    backbone, model = AgsspBackbone(config), build()
    assert_takes_over(model, backbone)
    with pytest.raises(InputError, match="this detector has yolov8n, the source has test_resnet"):
        model.load_backbone(AgsspBackbone(AgsspBackboneConfig(architecture="test_resnet")))


@pytest.mark.parametrize("variant", ["yolov8n", "yolov8s"])
def test_real_coco_weights_equal_ultralytics(variant):
    file = Path(os.environ.get("AGSSP_MEASURING_DATA", "")) / f"{variant}_coco.safetensors"
    if "AGSSP_MEASURING_DATA" not in os.environ or not file.is_file():
        pytest.skip("AGSSP_MEASURING_DATA names no folder with the COCO weights")
    model = YoloForObjectDetection.from_ultralytics(file)
    reference = ultralytics_model(model.to_ultralytics(), variant, 80)
    assert_same_outputs(model, reference, torch.rand(1, 3, 256, 320))
