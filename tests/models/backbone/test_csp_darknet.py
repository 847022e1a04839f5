"""Backbones of the YOLO family against ultralytics' own detectors."""

import pytest
import torch

from agssp.errors import InputError
from agssp.models.backbone import AgsspBackbone, AgsspBackboneConfig
from agssp.models.backbone.csp_darknet import VARIANTS
from agssp.models.backbone.networks import feature_layout, trains_with_adamw
from agssp.models.ultralytics import import_ultralytics

FEATURE_LAYERS = {"yolov8n": (0, 2, 4, 6, 9), "yolo11n": (0, 2, 4, 6, 10), "yolo12n": (0, 2, 4, 6, 8)}
FEATURE_LAYERS["yolo26n"] = FEATURE_LAYERS["yolo11n"]


def ultralytics_detector(variant):
    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel(f"{variant}.yaml", verbose=False).eval()
    for module in model.modules():  # fresh statistics would hide a norm that is not loaded
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def save_weights(detector, path):
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in detector.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def detector():
    return ultralytics_detector("yolov8n")


@pytest.fixture
def coco_like_file(detector, tmp_path):
    return save_weights(detector, tmp_path / "detector.safetensors")


@pytest.mark.parametrize("variant", FEATURE_LAYERS)
def test_features_equal_those_inside_the_detector(variant, tmp_path):
    detector = ultralytics_detector(variant)
    inside = {}
    for layer in FEATURE_LAYERS[variant]:
        detector.model[layer].register_forward_hook(lambda _, __, output, layer=layer: inside.update({layer: output}))
    image = torch.rand(2, 3, 64, 96)
    file = save_weights(detector, tmp_path / "detector.safetensors")
    backbone = AgsspBackbone.from_architecture(variant, start=file, out_indices=[0, 1, 2, 3, 4])
    with torch.no_grad():
        detector(image)
        features = backbone(image).feature_maps
    assert backbone.strides == [2, 4, 8, 16, 32]
    for layer, feature in zip(FEATURE_LAYERS[variant], features, strict=True):
        torch.testing.assert_close(feature, inside[layer], rtol=0, atol=1e-6)


def test_neck_and_head_are_left_out_and_reported(detector, coco_like_file):
    report = AgsspBackbone.from_architecture("yolov8n", start=coco_like_file).start_report
    own = {name for name in detector.state_dict() if int(name.split(".")[1]) <= 9}
    assert set(report.matched) == own
    assert set(report.left_out) == set(detector.state_dict()) - own
    assert report.missing == ()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_a_feature_a_stride_and_can_be_frozen(variant):
    layout = feature_layout(variant, {})
    assert layout.stage_names == ("stem", "stage1", "stage2", "stage3", "stage4")
    assert layout.strides == (2, 4, 8, 16, 32)
    assert all(finer < coarser for finer, coarser in zip(layout.parameters[:-1], layout.parameters[1:], strict=True))
    assert not trains_with_adamw(variant)


def test_other_family_is_refused(coco_like_file):
    with pytest.raises(InputError, match="does not hold the weights of yolo11n"):
        AgsspBackbone.from_architecture("yolo11n", start=coco_like_file)


@pytest.mark.parametrize("variant", ["yolo12n", "slf_yolon"])
def test_frozen_stages_get_no_gradient_and_all_others_do(variant, tmp_path):
    AgsspBackbone.from_architecture(variant, frozen_stages=2).save_pretrained(tmp_path)
    backbone = AgsspBackbone.from_pretrained(tmp_path).train()
    sum(feature.square().mean() for feature in backbone(torch.rand(2, 3, 64, 64)).feature_maps).backward()
    frozen = feature_layout(variant, {}).parameters[2]
    assert {name for name, value in backbone.network.named_parameters() if value.grad is None} == frozen


def test_norms_are_those_of_ultralytics(detector):
    ours = {name: module for name, module in AgsspBackbone.from_architecture("yolov8n").network.named_modules()}
    for name, module in detector.named_modules():
        if name in ours and isinstance(module, torch.nn.BatchNorm2d):
            assert (ours[name].eps, ours[name].momentum) == (module.eps, module.momentum) == (1e-3, 0.03)


def test_round_trip_keeps_ultralytics_names(tmp_path):
    from safetensors.torch import load_file

    backbone = AgsspBackbone.from_architecture("yolov8n", frozen_stages=1)
    backbone.save_pretrained(tmp_path)
    assert "model.0.conv.weight" in load_file(tmp_path / "model.safetensors")
    loaded = AgsspBackbone.from_pretrained(tmp_path)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(image).feature_maps[-1], backbone(image).feature_maps[-1])
    assert (loaded.config.image_mean, loaded.config.image_std) == ([0, 0, 0], [1, 1, 1])


def test_other_variant_is_refused(coco_like_file):
    with pytest.raises(InputError, match=r"model\.0\.conv\.weight \(16, 3, 3, 3\), expected \(32, 3, 3, 3\)"):
        AgsspBackbone.from_architecture("yolov8s", start=coco_like_file)


def test_model_args_are_refused():
    with pytest.raises(InputError, match="takes no model_args"):
        AgsspBackboneConfig(architecture="yolov8n", model_args={"width": 2})
