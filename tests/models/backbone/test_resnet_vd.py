"""RT-DETR's small ResNets: timm's where their own shortcut does nothing, and known to timm."""

import pytest
import timm
import torch

from agssp.errors import InputError
from agssp.hub.export.timm import check_is_timm
from agssp.models.backbone import AgsspBackbone
from agssp.models.backbone.networks import is_of_timm

SHORTCUT = "layer1.0.downsample."


@pytest.mark.parametrize(("name", "like"), [("resnet18vd", "resnet18d"), ("resnet34vd", "resnet34d")])
@pytest.mark.slow
def test_equal_to_timms_where_the_shortcut_does_nothing(name, like):
    torch.manual_seed(0)
    ours, theirs = (timm.create_model(kind, num_classes=0).eval() for kind in (name, like))
    state = theirs.state_dict()
    own = {key for key in ours.state_dict() if key.startswith(SHORTCUT)}
    assert own == ours.state_dict().keys() - state.keys()
    ours.load_state_dict(state, strict=False)
    images = torch.rand(2, 3, 64, 96)
    assert not torch.allclose(ours(images), theirs(images))
    shortcut = ours.layer1[0].downsample
    torch.nn.init.dirac_(shortcut[1].weight)
    shortcut[2].eps = 1e-12  # 0 is refused by some releases of torch
    torch.testing.assert_close(ours(images), theirs(images))


def test_as_a_backbone_that_timm_opens_too(tmp_path):
    backbone = AgsspBackbone.from_architecture("resnet18vd")
    assert (backbone.config.image_mean, backbone.config.image_std) == ([0.0] * 3, [1.0] * 3)
    assert backbone.config.stage_names == ["stem", "stage1", "stage2", "stage3", "stage4"]
    assert backbone.strides == [8, 16, 32]
    backbone.save_pretrained(tmp_path)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, features_only=True, out_indices=[2, 3, 4])
    images = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(backbone(images).feature_maps, again.eval()(images), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_is_not_said_to_be_timms():
    assert [is_of_timm(name) for name in ("resnet18d", "resnet18vd", "resnet34vd", "yolov8n")] == [True] + [False] * 3
    with pytest.raises(InputError, match="--format timm: resnet18vd has a convolution"):
        check_is_timm(AgsspBackbone.from_architecture("resnet18vd"))


def test_timm_has_no_weights_for_it():
    with pytest.raises(InputError, match="timm has no weights for resnet18vd"):
        AgsspBackbone.from_architecture("resnet18vd", start="timm")
