import pytest
import timm
from torch import nn

from agssp.training.parameter_groups import parameter_groups


def test_nothing_to_train():
    assert parameter_groups(nn.Linear(2, 2).requires_grad_(False), 0.1) == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_resnet", {}),
        ("test_vit", {}),
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 2, "embed_dim": 12, "depths": (1, 1, 1, 1)}),
    ],
)
def test_every_weight_is_in_exactly_one_group(name, options):
    model = timm.create_model(name, num_classes=3, **options)
    groups = parameter_groups(model, 0.1)
    names = [member for group in groups for member in group["names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    identities = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(identities) == sorted(map(id, model.parameters()))
    plain = {member for group in groups if group["weight_decay"] == 0 for member in group["names"]}
    for member, parameter in model.named_parameters():
        table = any(word in member for word in ("relative_position_bias_table", "pos_embed", "cls_token"))
        assert (member in plain) == (parameter.ndim < 2 or table)


def test_frozen_weights_are_left_out():
    model = timm.create_model("test_resnet", num_classes=3)
    model.conv1.requires_grad_(False)
    names = [member for group in parameter_groups(model, 0.1) for member in group["names"]]
    assert len(names) == sum(parameter.requires_grad for parameter in model.parameters())
