"""AgsspBackbone: features, freezing, and one folder that three libraries open alike."""

import copy
import json

import pytest
import timm
import torch
from safetensors.torch import load_file
from transformers import AutoBackbone, AutoConfig, AutoModel

from agssp.errors import InputError
from agssp.models.backbone import AgsspBackbone, AgsspBackboneConfig
from agssp.models.backbone.networks import drop_path_args, feature_layout, trains_with_adamw
from agssp.models.pretraining import AgsspForPreTraining

TINY_SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8], "strict_img_size": False}
NETWORKS = {
    "test_resnet": {},
    "swin_tiny_patch4_window7_224": TINY_SWIN,
    "tf_efficientnet_lite0": {},
    "test_vit": {"dynamic_img_size": True},
    "test_convnext": {},
}


def tiny(architecture: str = "test_resnet", **config) -> AgsspBackbone:
    torch.manual_seed(0)
    return AgsspBackbone.from_architecture(architecture, model_args=NETWORKS.get(architecture), **config)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.slow
def test_three_loaders_agree_bit_for_bit(architecture, image, tmp_path):
    backbone = tiny(architecture)
    backbone.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = backbone(image).feature_maps
        ours = AgsspBackbone.from_pretrained(tmp_path)(image).feature_maps
        auto = AutoModel.from_pretrained(tmp_path)(image).feature_maps
        features = timm.create_model(
            f"local-dir:{tmp_path}", pretrained=True, features_only=True, out_indices=backbone.out_indices
        )
        theirs = features.eval()(image)
    if "swin" in architecture:  # timm's own feature lists are NHWC for Swin
        theirs = [feature.permute(0, 3, 1, 2) for feature in theirs]
    for maps in (ours, auto, theirs):
        assert all(torch.equal(a, b) for a, b in zip(expected, maps, strict=True))
    assert [tuple(feature.shape) for feature in expected] == [
        (2, channels, 224 // stride, 224 // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]


def test_files_hold_timm_names_and_one_config(tmp_path):
    backbone = tiny("test_resnet", image_mean=[0.1, 0.2, 0.3], image_size=160)
    backbone.save_pretrained(tmp_path / "a")
    AgsspBackbone.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    names = set(timm.create_model("test_resnet", num_classes=0).state_dict())
    assert set(load_file(tmp_path / "a" / "model.safetensors")) == names
    assert set(load_file(tmp_path / "b" / "model.safetensors")) == names
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config == json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == config["image_mean"] == [0.1, 0.2, 0.3]
    assert config["pretrained_cfg"]["input_size"] == [3, 160, 160]
    assert timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True, num_classes=6).num_classes == 6


@pytest.mark.parametrize("size", [{"img_size": 96, "window_size": 3}, {"img_size": [96, 64], "window_size": 2}])
def test_timm_builds_a_network_of_the_size_that_ours_was_built_for(size, tmp_path):
    args = TINY_SWIN | {"num_heads": [1, 2, 2, 2]} | size
    backbone = AgsspBackbone.from_architecture(
        "swin_tiny_patch4_window7_224", model_args=args | {"strict_img_size": True}
    )
    backbone.save_pretrained(tmp_path)
    built = backbone.network.patch_embed.img_size
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert theirs.patch_embed.img_size == built
    assert theirs.pretrained_cfg["input_size"] == (3, *built)
    images = torch.rand(1, 3, *built)
    with torch.no_grad():
        assert torch.equal(theirs.eval().forward_features(images), backbone.network.forward_features(images))
    # Trained at another size, it is still rebuilt as it was built: its position tables are those.
    args = TINY_SWIN
    AgsspBackbone.from_architecture("swin_tiny_patch4_window7_224", model_args=args, image_size=96).save_pretrained(
        tmp_path
    )
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=True).patch_embed.img_size == (224, 224)


def test_config_round_trip_and_auto_classes(tmp_path, image):
    config = AgsspBackboneConfig(architecture="test_resnet", out_indices=[-1], frozen_stages=1, image_size=96)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(again, AgsspBackboneConfig)
    assert (again.out_indices, again.out_features, again.frozen_stages) == ([4], ["stage4"], 1)
    assert again.to_diff_dict() == config.to_diff_dict()
    assert len(AutoBackbone.from_config(again)(image).feature_maps) == 1


def test_out_indices_may_be_chosen_at_loading(tmp_path, image):
    backbone = tiny(out_indices=[0, 1, 2, 3, 4])
    backbone.save_pretrained(tmp_path)
    chosen = AgsspBackbone.from_pretrained(tmp_path, out_indices=[1, 3])
    assert (chosen.strides, chosen.out_features) == ([4, 16], ["stage1", "stage3"])
    with torch.no_grad():
        every, two = backbone(image).feature_maps, chosen(image, output_hidden_states=True)
    assert torch.equal(two.feature_maps[0], every[1])
    assert torch.equal(two.feature_maps[1], every[3])
    assert len(two.hidden_states) == 5


def test_default_features_are_the_last_three():
    assert tiny().strides == [8, 16, 32]
    assert tiny("swin_tiny_patch4_window7_224").config.stage_names == ["stage1", "stage2", "stage3", "stage4"]
    assert tiny().config.stage_names[0] == "stem"


def test_swin_takes_other_sizes_than_it_was_built_for():
    features = tiny("swin_tiny_patch4_window7_224")(torch.rand(1, 3, 160, 192)).feature_maps
    assert [tuple(feature.shape[2:]) for feature in features] == [(20, 24), (10, 12), (5, 6)]


@pytest.mark.parametrize("architecture", [*NETWORKS, "yolov8n"])
def test_layout_names_the_parameters_behind_each_feature(architecture):
    backbone = tiny(architecture)
    network = backbone.network.requires_grad_(True)
    layout = feature_layout(architecture, backbone.config.model_args)
    for index, names in enumerate(layout.parameters):
        network.zero_grad()
        network.forward_intermediates(torch.rand(1, 3, 224, 224), indices=[index], intermediates_only=True)[
            0
        ].sum().backward()
        assert names == {name for name, parameter in network.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("architecture", [*NETWORKS, "yolov8n"])
@pytest.mark.parametrize("frozen_stages", [0, 2])
def test_gradients_reach_exactly_what_is_trainable(architecture, frozen_stages, image):
    backbone = tiny(architecture, frozen_stages=frozen_stages).train()
    sum(feature.square().mean() for feature in backbone(image).feature_maps).backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_frozen_stages_change_neither_weights_nor_norm_statistics(image):
    backbone = tiny(frozen_stages=2).train()
    before = copy.deepcopy(backbone.state_dict())
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    backbone(image).feature_maps[-1].square().mean().backward()
    optimizer.step()
    changed = {
        name.split(".")[1] for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"layer3", "layer4"}
    assert not backbone.network.layer2.training
    assert not backbone.network.bn1.training
    assert backbone.network.layer3.training


@pytest.mark.slow
def test_freezing_survives_saving_and_can_be_changed(tmp_path):
    backbone = tiny(frozen_stages=2)
    backbone.save_pretrained(tmp_path)
    loaded = AgsspBackbone.from_pretrained(tmp_path).train()
    trainable = [parameter.requires_grad for parameter in backbone.parameters()]
    assert [parameter.requires_grad for parameter in loaded.parameters()] == trainable
    assert not loaded.network.layer1.training
    loaded.freeze_stages(0)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.network.layer1.training
    loaded.freeze_stages(4)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with pytest.raises(InputError, match="expected 0 to 4"):
        loaded.freeze_stages(5)
    assert loaded.config.frozen_stages == 4


@pytest.mark.parametrize(
    ("architecture", "adamw"),
    [
        *((name, True) for name in ("swin_tiny_patch4_window7_224", "deit_tiny_patch16_224", "beit_base_patch16_224")),
        *((name, True) for name in ("test_vit", "test_convnext", "levit_128s", "mobilevit_xxs", "poolformer_s12")),
        *((name, False) for name in ("yolov8n", "resnet18", "seresnet33ts", "resnetv2_50x1_bit", "regnety_002")),
        *((name, False) for name in ("tf_efficientnet_lite0", "vgg11", "skresnet18", "vovnet39a")),
    ],
)
def test_optimizer_of_a_network(architecture, adamw):
    assert trains_with_adamw(architecture) is adamw


def test_drop_path_reaches_the_blocks():
    backbone = tiny("test_vit")
    assert not any(isinstance(module, timm.layers.DropPath) for module in backbone.modules())
    args = drop_path_args("test_vit", 0.3)
    assert args == {"dynamic_img_size": True, "drop_path_rate": 0.3}
    backbone = AgsspBackbone.from_architecture("test_vit", model_args=args)
    rates = [module.drop_prob for module in backbone.modules() if isinstance(module, timm.layers.DropPath)]
    assert max(rates) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("architecture", "rate", "message"),
    [("vgg11", 0.1, "no stochastic depth"), ("yolov8n", 0.1, "no stochastic depth"), ("test_vit", 1.0, "below 1")],
)
def test_drop_path_that_cannot_be_is_refused(architecture, rate, message):
    with pytest.raises(InputError, match=message):
        drop_path_args(architecture, rate)


def test_state_dict_loads_with_and_without_prefix(image):
    backbone, other = tiny(), AgsspBackbone(AgsspBackboneConfig(architecture="test_resnet")).eval()
    state = backbone.state_dict()
    other.load_state_dict({name.removeprefix("network."): value for name, value in state.items()})
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())
    other.load_state_dict(state)


def test_copies_work(image):
    backbone = tiny("swin_tiny_patch4_window7_224")
    assert torch.equal(copy.deepcopy(backbone)(image).feature_maps[-1], backbone(image).feature_maps[-1])


def test_gradient_checkpointing_gives_the_same_gradients(image):
    gradients = []
    for checkpointing in (False, True):
        backbone = tiny("test_vit").train()
        if checkpointing:
            backbone.gradient_checkpointing_enable()
        backbone(image).feature_maps[-1].sum().backward()
        gradients.append(next(backbone.parameters()).grad.clone())
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
def test_unknown_names_show_near_ones():
    with pytest.raises(InputError, match="resnet50"):
        AgsspBackboneConfig(architecture="resnet5O")
    assert AgsspBackboneConfig(architecture="swin_base").architecture == "swin_base_patch4_window7_224"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"out_indices": [5]}, "must lie in 0..4"),
        ({"out_indices": [3, 2]}, "same order"),
        ({"out_features": ["layer1"]}, "stage_names"),
        ({"frozen_stages": 5}, "expected 0 to 4"),
        ({"frozen_stages": -1}, "expected 0 to 4"),
        ({"model_args": {"no_such_argument": 1}}, "no_such_argument"),
    ],
)
def test_wrong_settings_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        AgsspBackboneConfig(architecture="test_resnet", **config)


def test_folder_of_another_architecture_is_refused(tmp_path):
    tiny().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": "resnet18"}))
    with pytest.raises(InputError, match="does not hold the weights of resnet18"):
        AgsspBackbone.from_pretrained(tmp_path)


def test_folder_of_another_model_is_refused(tmp_path):
    model = AgsspForPreTraining.from_backbone(tiny(), num_labels=3)
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="'agssp_pretraining', expected 'agssp_backbone'"):
        AgsspBackbone.from_pretrained(tmp_path)


def test_folder_that_timm_saved_opens(tmp_path, image):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet").eval()
    timm.models.save_for_hf(network, tmp_path, safe_serialization=True)
    backbone = AgsspBackbone.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = network.forward_intermediates(image, indices=[2, 3, 4], intermediates_only=True)
        assert all(torch.equal(a, b) for a, b in zip(backbone(image).feature_maps, expected, strict=True))


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be opened"):
        AgsspBackbone.from_pretrained(tmp_path / "nothing")
