"""Every weight that trains is in exactly one group of the optimizer, and in the right one: counted on whole models."""

import pytest
import timm
from torch import nn

from agssp import AgsspBackbone, AgsspForPreTraining, YoloForObjectDetection
from agssp.models.backbone import AgsspBackboneConfig
from agssp.models.detection import YoloConfig
from agssp.training.parameter_groups import parameter_groups

SMALL_SWIN = {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8), "strict_img_size": False}
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def check(model):
    """Compare the groups with what a walk over the modules finds; returns the undecayed names."""
    groups = parameter_groups(model, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(trained)
    identities = [id(parameter) for group in groups for parameter in group["params"]]
    assert identities == [id(trained[name]) for name in names]
    assert len(set(identities)) == len(identities)

    expected = set()
    for prefix, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            table = name in ("relative_position_bias_table", "pos_embed", "cls_token", "mask_token")
            if isinstance(module, NORMS) or name == "bias" or table:
                expected.add(f"{prefix}.{name}".lstrip("."))
    undecayed = set(groups[1]["names"])
    assert undecayed == expected & set(trained)
    return undecayed


def backbone(architecture, frozen_stages):
    small = SMALL_SWIN if architecture == "swin_base" else None
    return AgsspBackbone(
        AgsspBackboneConfig(architecture=architecture, model_args=small, frozen_stages=frozen_stages)
    ).train()


def test_nothing_to_train():
    assert parameter_groups(nn.Linear(2, 2).requires_grad_(False), 0.1) == []


@pytest.mark.parametrize("frozen_stages", [0, 2])
@pytest.mark.parametrize(
    ("architecture", "objective"),
    [
        ("yolov8s", "classification"),
        ("resnet50", "classification"),
        ("resnet50", "mocov3"),
        ("swin_base", "classification"),
        ("swin_base", "simmim"),
    ],
)
def test_pretraining(architecture, objective, frozen_stages):
    model = AgsspForPreTraining.from_backbone(backbone(architecture, frozen_stages), objective=objective, num_labels=3)
    undecayed = check(model.train())
    tables = [name for name in undecayed if name.endswith("relative_position_bias_table")]
    blocks = sum(SMALL_SWIN["depths"][frozen_stages:]) if architecture == "swin_base" else 0
    assert len(tables) == blocks
    assert ("mask_token" in undecayed) == (objective == "simmim")


@pytest.mark.slow
@pytest.mark.parametrize("frozen_stages", [0, 2, 4])
@pytest.mark.parametrize("architecture", ["yolov8s", "resnet50", "swin_base"])
def test_detector(architecture, frozen_stages):
    model = YoloForObjectDetection(
        YoloConfig(variant="yolov8s", backbone_config=backbone(architecture, frozen_stages).config)
    )
    undecayed = check(model.train())
    tables = [name for name in undecayed if name.endswith("relative_position_bias_table")]
    assert len(tables) == (sum(SMALL_SWIN["depths"][frozen_stages:]) if architecture == "swin_base" else 0)
    assert any(name.startswith("backbone.") for name in undecayed) == (frozen_stages < 4)
    assert sum(name.startswith("head.") for name in undecayed) > 0


@pytest.mark.slow
def test_the_whole_swin_base():
    model = AgsspForPreTraining.from_backbone(AgsspBackbone.from_architecture("swin_base"), num_labels=61).train()
    undecayed = check(model)
    assert sum(name.endswith("relative_position_bias_table") for name in undecayed) == 24
    # Its published size without classifier; the last norm belongs to no feature map and is not trained.
    trained = sum(parameter.numel() for parameter in model.backbone.parameters() if parameter.requires_grad)
    assert trained == 86_743_224 - 2 * 1024


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_networks_of_timm(name):
    check(timm.create_model(name, num_classes=3))


def test_what_a_network_lists_does_not_decay():
    network = timm.create_model(
        "swinv2_tiny_window8_256", img_size=64, window_size=2, embed_dim=12, depths=(1, 1, 1, 1), num_classes=0
    )
    undecayed = set(parameter_groups(nn.Sequential(network), 0.1)[1]["names"])
    scales = {f"0.{name}" for name, _ in network.named_parameters() if name.endswith("logit_scale")}
    assert len(scales) == 4
    assert scales <= undecayed
