"""Faster R-CNN against torchvision's own, and as a module: labels, gradients, freezing, saving, learning."""

import json

import pytest
import torch
from contract_cases import (
    NAMES,
    TWO_IMAGES,
    UNUSABLE,
    assert_backbone_stays_frozen,
    assert_takes_over,
    assert_trains_beside_others,
    labels_of,
)
from faster_rcnn_cases import build, torchvision_model
from safetensors.torch import load_file, save_file
from torchvision.ops import box_convert
from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection

from agssp.errors import InputError
from agssp.evaluation.detection_metrics import DetectionMetrics
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.detection.faster_rcnn import FasterRcnnConfig, FasterRcnnForObjectDetection
from agssp.models.detection.faster_rcnn.modeling_faster_rcnn import NO_LOGIT
from agssp.models.detection.image_processing import LetterboxImageProcessor

BOXES = [(0, (0.3, 0.4, 0.3, 0.2)), (2, (0.6, 0.6, 0.5, 0.4)), (1, (0.5, 0.2, 0.1, 0.1))]
LOSSES = {"objectness", "rpn_box_reg", "classifier", "box_reg"}


@pytest.fixture(scope="module")
def detector():
    return build().eval()


@pytest.mark.slow
def test_a_batch_without_any_box_has_losses_of_classes_only(detector):
    out = detector(torch.rand(2, 3, 64, 64), labels_of([], []))
    assert set(out.loss_dict) == LOSSES
    assert out.loss_dict["objectness"] > 0
    assert out.loss_dict["classifier"] > 0
    assert out.loss_dict["rpn_box_reg"] == out.loss_dict["box_reg"] == 0
    torch.testing.assert_close(out.loss, sum(out.loss_dict.values()))


@pytest.mark.parametrize("labels", [TWO_IMAGES, labels_of([], []), labels_of(BOXES, BOXES[:1])])
@pytest.mark.parametrize("strides", [None, (8, 16, 32)])
def test_losses_and_gradients_equal_torchvision(labels, strides):
    model = build(strides=strides).train()
    reference = torchvision_model(model, (128, 96)).train()
    images = torch.rand(2, 3, 128, 96)
    pixels = torch.tensor([96, 128, 96, 128])
    targets = [
        {"boxes": box_convert(image["boxes"], "cxcywh", "xyxy") * pixels, "labels": image["class_labels"] + 1}
        for image in labels
    ]
    for network in (model.rpn, reference.rpn):
        # torchvision's own resizing draws a number before the anchors are drawn.
        network.register_forward_pre_hook(lambda *_: torch.manual_seed(5) and None)
    theirs = reference(list(images), targets)
    ours = model(images, labels)
    assert (ours.logits, ours.pred_boxes) == (None, None)
    assert set(ours.loss_dict) == LOSSES
    for name, value in theirs.items():
        torch.testing.assert_close(ours.loss_dict[name.removeprefix("loss_")], value.detach(), rtol=0, atol=1e-4)
    ours.loss.backward()
    weights = model.backbone.network.conv1[0].weight, model.fpn.inner_blocks[0][0].weight
    gradients = [weight.grad.clone() for weight in weights]
    weights[0].grad = None  # the backbone is the same for both
    sum(theirs.values()).backward()
    torch.testing.assert_close(weights[0].grad, gradients[0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(reference.backbone.fpn.inner_blocks[0][0].weight.grad, gradients[1])


@pytest.mark.parametrize(("score_threshold", "strides"), [(0.001, None), (0.3, (8, 16, 32))])
def test_detections_equal_torchvision(score_threshold, strides):
    model = build(score_threshold=score_threshold, strides=strides).eval()
    reference = torchvision_model(model, (128, 160)).eval()
    images = torch.rand(2, 3, 128, 160)
    with torch.no_grad():
        outputs, theirs = model(images), reference(list(images))
    assert outputs.logits.shape == (2, 100, 3)
    assert outputs.pred_boxes.shape == (2, 100, 4)
    ours = model.post_process_object_detection(
        outputs, threshold=0, target_sizes=[(128, 160)] * 2, input_size=(128, 160)
    )
    for result, found in zip(ours, theirs, strict=True):
        assert len(found["scores"]) > 5
        torch.testing.assert_close(result["scores"], found["scores"], rtol=0, atol=1e-5)
        assert torch.equal(result["labels"], found["labels"] - 1)
        torch.testing.assert_close(result["boxes"], found["boxes"], rtol=0, atol=1e-3)
    left = (outputs.logits == NO_LOGIT).all(2)
    assert (~left).sum(1).tolist() == [len(found["scores"]) for found in theirs]
    assert not outputs.pred_boxes[left].any()


def test_nothing_found():
    model = build(score_threshold=0.999).eval()
    outputs = model(torch.rand(1, 3, 64, 64))
    assert (outputs.logits == NO_LOGIT).all()
    for multi_label in (False, True):
        (result,) = model.post_process_object_detection(outputs, threshold=0, multi_label=multi_label)
        assert result["boxes"].shape == (0, 4)


def test_the_loss_of_evaluation_is_that_of_training_with_the_norms_fixed(detector):
    images = torch.rand(2, 3, 64, 64)
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    torch.manual_seed(3)
    out = detector(images, TWO_IMAGES)
    assert out.logits is not None
    assert not any(module.training for module in detector.modules())
    assert all(torch.equal(value, state[name]) for name, value in detector.state_dict().items())
    model = build().train()
    model.load_state_dict(detector.state_dict())
    model.backbone.eval()
    torch.manual_seed(3)
    torch.testing.assert_close(model(images, TWO_IMAGES).loss_dict, out.loss_dict)


def test_detections_in_training_mode_without_labels():
    model = build().train()
    out = model(torch.rand(1, 3, 64, 64))
    assert out.loss is None
    assert out.logits.shape == (1, 100, 3)
    assert not out.pred_boxes.requires_grad
    assert model.rpn.training
    assert model.roi_heads.training


def test_tuple_output(detector):
    loss, parts, logits, boxes = detector(torch.rand(1, 3, 64, 64), labels_of([]), return_dict=False)
    assert loss.ndim == 0
    assert set(parts) == LOSSES
    assert logits.shape[:2] == boxes.shape[:2]


NO_AREA = ((64, 64), labels_of([], [(1, (0.5, 0.5, 0.0, 0.1))]), "without width or height")


@pytest.mark.parametrize(("size", "labels", "message"), [*UNUSABLE, NO_AREA])
def test_input_that_cannot_be_used(detector, size, labels, message):
    with pytest.raises(InputError, match=message):
        detector(torch.rand(2, 3, *size), labels)


@pytest.mark.parametrize("labels", [TWO_IMAGES, labels_of([], [])])
@pytest.mark.parametrize("strides", [None, (8, 16, 32)])
def test_every_trained_parameter_gets_a_gradient(labels, strides):
    model = build(strides=strides).train()
    model(torch.rand(2, 3, 64, 64), labels).loss.backward()
    assert [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None] == []


def test_a_frozen_backbone_stays_as_it_is():
    model = build(frozen_stages=4)
    assert_backbone_stays_frozen(model)


def test_distributed_training_needs_no_search_for_unused_parameters(tmp_path):
    build(frozen_stages=2).save_pretrained(tmp_path)
    model = FasterRcnnForObjectDetection.from_pretrained(tmp_path)
    assert_trains_beside_others(model, tmp_path)


@pytest.mark.slow
def test_bfloat16_autocast_keeps_boxes_and_losses_in_full_precision(detector):
    images = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        torch.manual_seed(0)
        full = detector(images, TWO_IMAGES)
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = detector(images, TWO_IMAGES)
    assert half.loss.dtype == half.pred_boxes.dtype == half.logits.dtype == torch.float32
    torch.testing.assert_close(half.loss, full.loss, rtol=0.05, atol=0)
    corners = box_convert(half.pred_boxes[0] * 128, "cxcywh", "xyxy")
    assert (corners != corners.bfloat16()).float().mean() > 0.5


def test_saving_and_loading_is_exact(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    loaded = AutoModelForObjectDetection.from_pretrained(tmp_path)
    assert isinstance(loaded, FasterRcnnForObjectDetection)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), FasterRcnnConfig)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, LetterboxImageProcessor)
    assert processor.image_mean == detector.config.backbone_config.image_mean
    assert processor.input_size == (128, 128)
    assert loaded.config.id2label == NAMES
    assert loaded.config.strides == [4, 8, 16, 32]
    expected = detector.state_dict()
    assert list(loaded.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = loaded.eval()(images), detector(images)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.pred_boxes, theirs.pred_boxes, rtol=0, atol=1e-5)


def test_loading_with_other_classes_initialises_only_their_layers(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    loaded = FasterRcnnForObjectDetection.from_pretrained(
        tmp_path, id2label={0: "a"}, label2id={"a": 0}, ignore_mismatched_sizes=True
    )
    expected = detector.state_dict()
    fresh = {name for name, value in loaded.state_dict().items() if value.shape != expected[name].shape}
    layers = ("cls_score", "bbox_pred")
    assert fresh == {f"roi_heads.box_predictor.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items() if name not in fresh)
    weight = loaded.roi_heads.box_predictor.cls_score.weight
    assert 0 < weight.abs().max() <= 32**-0.5


def test_folders_whose_weights_do_not_fit(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["fpn.inner_blocks.0.0.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing \(fpn.inner_blocks.0.0.weight\)"):
        FasterRcnnForObjectDetection.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "agssp_yolo"}))
    with pytest.raises(InputError, match="expected a detector of type agssp_faster_rcnn"):
        FasterRcnnForObjectDetection.from_pretrained(tmp_path)


def test_transfer_to_other_classes():
    source, target = build(seed=1), build(id2label={0: "crack", 1: "scale"}, seed=2)
    before = target.roi_heads.box_predictor.bbox_pred.weight.clone()
    report = target.transfer_from(source)
    layers = ("cls_score", "bbox_pred")
    dropped = {f"roi_heads.box_predictor.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert set(report.reinitialised) == set(report.left_out) == dropped
    assert set(report.loaded) == set(source.state_dict()) - dropped
    state = target.state_dict()
    assert all(torch.equal(state[name], source.state_dict()[name]) for name in report.loaded)
    assert not torch.equal(target.roi_heads.box_predictor.bbox_pred.weight, before)
    assert "2 classes of its own (crack, scale)" in str(report)


def test_transfer_to_the_same_classes_takes_everything():
    source, target = build(seed=1), build(seed=2)
    assert not target.transfer_from(source).reinitialised
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(target.eval()(images).logits, source.eval()(images).logits)


def test_transfer_between_different_pyramids_is_refused():
    with pytest.raises(InputError, match=r"pyramid differs: this detector has \[8, 16, 32\]"):
        build(strides=(8, 16, 32)).transfer_from(build())


def test_a_pretrained_backbone_is_taken_over_whatever_features_it_gave():
    config = AgsspBackboneConfig(architecture="test_resnet", out_indices=[-1], image_mean=[0.4, 0.5, 0.6])
    backbone, model = AgsspBackbone(config), build()
    assert_takes_over(model, backbone)
    assert model.backbone.strides == [4, 8, 16, 32]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 100}, "multiple of 32"),
        ({"strides": [4, 16, 32]}, r"strides=\[4, 16, 32\].*each twice the one before"),
        ({"strides": [1, 2, 4, 8, 16, 32]}, r"has features at strides \[2, 4, 8, 16, 32\]"),
        ({"strides": []}, "up to 32"),
    ],
)
def test_configurations_that_cannot_be_used(fields, message):
    with pytest.raises(InputError, match=message):
        FasterRcnnConfig(AgsspBackboneConfig(architecture="test_resnet"), **fields)


def test_the_configuration_asks_its_own_copy_for_the_stages():
    backbone = AgsspBackboneConfig(architecture="swin_base")
    assert FasterRcnnConfig(backbone).backbone_config.out_indices == [0, 1, 2, 3]
    assert FasterRcnnConfig(backbone, strides=(8, 16, 32)).backbone_config.out_indices == [1, 2, 3]
    assert backbone.out_indices == [1, 2, 3]
    assert FasterRcnnConfig(backbone).id2label == {0: "defect"}


@pytest.mark.slow
def test_it_learns_a_fixed_batch():
    torch.manual_seed(0)
    few = {"proposals": (100, 50), "anchor_samples": 64, "region_samples": 32}
    widths = {"pyramid_channels": 32, "head_channels": 64, "anchor_scale": 4}
    backbone = AgsspBackboneConfig(architecture="test_resnet")
    config = FasterRcnnConfig(backbone, id2label=NAMES, image_size=64, score_threshold=0.05, **few, **widths)
    model = FasterRcnnForObjectDetection(config).train()
    images = torch.full((4, 3, 64, 64), 0.45)
    boxes = [(0.3, 0.3, 0.4, 0.4), (0.6, 0.5, 0.5, 0.3), (0.5, 0.7, 0.3, 0.5)]
    labels = labels_of(*[[(index, box)] for index, box in enumerate(boxes)], [])
    corners = [box_convert(torch.tensor([box]), "cxcywh", "xyxy") * 64 for box in boxes]
    for index, ((left, top, right, bottom),) in enumerate(corners):
        images[index, index, int(top) : int(bottom), int(left) : int(right)] = 1.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model(images, labels).loss.backward()
        optimizer.step()
    with torch.no_grad():
        outputs = model.eval()(images)
    metrics = DetectionMetrics(list(NAMES.values()))
    results = model.post_process_object_detection(outputs, threshold=0.05, target_sizes=[(64, 64)] * 4)
    for index, result in enumerate(results):
        target = (corners[index], [index]) if index < 3 else ([], [])
        metrics.update(index, result["boxes"], result["scores"], result["labels"], *target)
    assert metrics.compute()["map_50"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("image_size", "given", "expected"), [(640, None, 512), (1280, None, 512), (160, None, 128), (160, 32, 32)]
)
def test_small_images_have_fewer_regions(image_size, given, expected):
    model = build(image_size=image_size, region_samples=given)
    assert model.roi_heads.fg_bg_sampler.batch_size_per_image == expected
