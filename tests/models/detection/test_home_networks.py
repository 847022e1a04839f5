"""Home libraries' networks are the same networks: with our weights they give our outputs."""

import pytest
import timm
import torch
from random_weights import enliven
from torchvision.ops import box_convert

from agssp import AgsspBackbone
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.detection import catalogue
from agssp.models.detection.home_networks import home_network

NAMES = {0: "pit", 1: "scratch"}


def build(name, architecture):
    torch.manual_seed(0)
    backbone = None if architecture is None else AgsspBackboneConfig(architecture=architecture)
    return catalogue.build(name, backbone, NAMES, 64).eval()


def assert_by_the_image(values):
    """Two images differ in what is compared by more than any tolerance."""
    assert (values[0] - values[1]).abs().mean() > 0.1


def same(ours, theirs, tolerance=1e-4):
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["yolov8n", "yolo12n"])
def test_ultralytics(variant):
    model, pixel_values = enliven(build(variant, None)), torch.rand(2, 3, 64, 64)
    # As after a transfer from more classes, whose width of the class branch stays.
    wide = enliven(catalogue.for_classes(model, {0: "defect"}, 64, 0)[0].eval())
    for ours in (model, wide):
        home = home_network(ours, 64)
        assert home.title.startswith("ultralytics 8.")
        with torch.no_grad():
            found, (theirs, _) = ours(pixel_values), home.network(pixel_values)
        assert_by_the_image(found.logits)
        same(found.pred_boxes * 64, theirs[:, :4].transpose(1, 2), 1e-2)
        same(found.logits.sigmoid(), theirs[:, 4:].transpose(1, 2))


@pytest.mark.slow
def test_ultralytics_end_to_end_keeps_the_branch_that_predicts():
    model, pixel_values = enliven(build("yolo26n", None)), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found, (theirs, _) = model(pixel_values), home_network(model, 64).network(pixel_values)
    assert_by_the_image(found.logits)
    # The best of all (place, class) pairs.
    best, order = found.logits.sigmoid().flatten(1).topk(theirs.shape[1])
    same(best, theirs[..., 4])
    assert torch.equal(order % 2, theirs[..., 5].long())
    boxes = found.pred_boxes.gather(1, (order // 2)[..., None].expand(-1, -1, 4))
    same(box_convert(boxes, "cxcywh", "xyxy") * 64, theirs[..., :4], 1e-2)


@pytest.mark.parametrize(
    ("architecture", "title"),
    [("resnet18", ""), ("test_resnet", ", on timm's test_resnet"), ("yolov8n", ", on yolov8n")],
)
@pytest.mark.slow
def test_torchvision(architecture, title):
    model, pixel_values = build("faster_rcnn", architecture), torch.rand(2, 3, 64, 64)
    enliven(model.backbone)
    home = home_network(model, 64)
    assert home.title.startswith("torchvision 0.")
    assert home.title.endswith(title)
    assert ("timm" in home.title) == ("timm" in title)
    with torch.no_grad():
        found, theirs = model(pixel_values), home.network(pixel_values)
        assert_by_the_image(model.backbone(pixel_values).feature_maps[-1])
    for image, their in enumerate(theirs):
        count = len(their["scores"])
        assert count
        same(found.logits[image].amax(1).sigmoid()[:count], their["scores"])
        same(box_convert(found.pred_boxes[image, :count], "cxcywh", "xyxy") * 64, their["boxes"], 1e-2)


@pytest.mark.parametrize(
    ("name", "architecture", "title"),
    [
        ("rtdetr_v2_s", "resnet18vd", " on resnet18vd"),
        ("dfine_s", "test_resnet", " on timm's test_resnet"),
        ("dfine_s", "hgnetv2_b0", " on timm's hgnetv2_b0"),
    ],
)
@pytest.mark.slow
def test_transformers(name, architecture, title):
    model, pixel_values = build(name, architecture), torch.rand(2, 3, 64, 64)
    home = home_network(model, 64)
    assert home.title.startswith("transformers 5.")
    assert home.title.endswith(title)
    assert type(home.network) is type(model)
    assert "TimmBackbone" in type(home.network.model.backbone.model).__name__
    with torch.no_grad():
        found, theirs = model(pixel_values), home.network(pixel_values)
    assert_by_the_image(found.logits)
    same(found.logits, theirs.logits)
    same(found.pred_boxes, theirs.pred_boxes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "title"),
    [("test_resnet", ""), ("tf_efficientnet_lite0", ""), ("resnet18vd", ", with resnet18vd added to it here")],
)
def test_timm(architecture, title):
    backbone, pixel_values = enliven(AgsspBackbone.from_architecture(architecture).eval()), torch.rand(2, 3, 64, 64)
    home = home_network(backbone, 64)
    assert home.title == f"timm {timm.__version__}{title}"
    with torch.no_grad():
        for ours, theirs in zip(backbone(pixel_values).feature_maps, home.network(pixel_values), strict=True):
            assert_by_the_image(ours)
            same(ours, theirs)


@pytest.mark.parametrize(
    ("name", "architecture", "reason"),
    [
        ("slf_yolon", None, "none: ultralytics has no SLF-YOLO"),
        ("yolov8n", "test_resnet", "none: ultralytics has no yolov8n on test_resnet"),
        ("dino", "test_resnet", "none: no library that is installed has DINO"),
        ("dfine_s", "yolov8n", "none: transformers has no yolov8n as a backbone"),
    ],
)
def test_where_there_is_none_it_says_why(name, architecture, reason):
    home = home_network(build(name, architecture), 64)
    assert home.network is None
    assert home.title.startswith(reason)


def test_a_yolos_backbone_alone_has_none():
    assert home_network(AgsspBackbone.from_architecture("yolov8n"), 64).network is None
