"""Which arguments of timm's networks a configuration may name, and that nothing else reaches timm."""

import json
import math

import pytest
import timm
import torch
from safetensors.torch import save_file

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.backbone.networks import build_network, default_model_args, drop_path_args
from agssp.models.detection.faster_rcnn import FasterRcnnConfig
from agssp.models.pretraining import AgsspPreTrainingConfig

TINY_SWIN = {"img_size": 64, "window_size": 4, "embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2],
             "strict_img_size": False, "drop_path_rate": 0.1, "mlp_ratio": 2.0}  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path):
    """Weights of the network, which it would have if the file that an argument names were opened."""
    torch.manual_seed(0)
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    save_file(state, tmp_path / "elsewhere.safetensors")
    return str(tmp_path / "elsewhere.safetensors")


def test_no_arguments_and_those_of_our_own_pass():
    assert AgsspBackboneConfig(architecture="test_resnet", model_args={}).model_args == {}
    for architecture in ("test_resnet", "test_vit", "test_convnext", "swin_tiny_patch4_window7_224"):
        build_network(architecture, default_model_args(architecture))
    build_network("test_vit", drop_path_args("test_vit", 0.2))
    words = build_network("test_resnet", {"act_layer": "silu", "norm_layer": "batchnorm2d", "channels": [8, 8, 16, 16]})
    assert isinstance(words.act1, torch.nn.SiLU)
    config = AgsspBackboneConfig(architecture="swin_tiny_patch4_window7_224", model_args=TINY_SWIN)
    assert config.model_args == TINY_SWIN
    assert build_network(config.architecture, config.model_args).embed_dim == 12
    # The number of classes is left out, as ever: there is no classifier.
    assert AgsspBackboneConfig(architecture="test_resnet", model_args={"num_classes": 5}).model_args == {}


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir",
                                  "pretrained", "features_only", "scriptable", "block_args"])  # fmt: skip
def test_other_arguments_are_refused_by_name(name):
    with pytest.raises(InputError, match=f"model_args of test_resnet: '{name}'"):
        build_network("test_resnet", {name: "word"})


def test_a_file_that_a_configuration_names_is_not_opened(tmp_path, checkpoint):
    AgsspBackbone.from_architecture("test_resnet").save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    foreign = json.loads(file.read_text()) | {"model_args": {"checkpoint_path": checkpoint}}
    file.write_text(json.dumps(foreign))
    message = "'checkpoint_path'"
    with pytest.raises(InputError, match=rf"saved.*config\.json.*{message}"):
        AgsspBackbone.from_pretrained(tmp_path / "saved")
    for config_class in (FasterRcnnConfig, AgsspPreTrainingConfig):
        with pytest.raises(InputError, match=message):
            config_class(backbone_config={"architecture": "test_resnet", "model_args": foreign["model_args"]})
    # What timm alone has saved names no type.
    del foreign["model_type"]
    file.write_text(json.dumps(foreign))
    with pytest.raises(InputError, match=message):
        AgsspBackbone.from_pretrained(tmp_path / "saved")


def test_arguments_that_were_put_into_a_configuration_later_are_looked_at_too(checkpoint):
    config = AgsspBackboneConfig(architecture="test_resnet")
    config.model_args = {"checkpoint_path": checkpoint}
    with pytest.raises(InputError, match="'checkpoint_path'"):
        AgsspBackbone(config)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        10**9,
        -(10**9),
        "a/b",
        "a:b",
        "a.b",
        "word\n",
        "x" * 33,
        {"a": 1},
        [[[[1]]]],
        [1] * 65,
        [1, "a/b"],
        [1, math.nan],
    ],
)
def test_values_that_are_not_plain_are_refused(value):
    with pytest.raises(InputError, match="model_args of test_resnet: depth"):
        build_network("test_resnet", {"depth": value})


@pytest.mark.parametrize("arguments", [[], "depth", 5, {3: 1}])
def test_what_is_no_table_of_arguments_is_refused(arguments):
    with pytest.raises(InputError, match="model_args of test_resnet"):
        build_network("test_resnet", arguments)


@pytest.mark.parametrize("architecture", [5, None, ["resnet50"], "hf-hub:me/network", "local-dir:/network", ""])
def test_a_name_that_is_no_network_of_timm_is_refused(architecture):
    with pytest.raises(InputError, match="no network"):
        AgsspBackboneConfig(architecture=architecture)


@pytest.mark.parametrize("arguments", [{"norm_layer": "no_such_norm"}, {"channels": "words"}, {"output_stride": 5}])
def test_arguments_that_timm_cannot_use_are_an_input_error(arguments):
    with pytest.raises(InputError, match="timm cannot build 'test_resnet'"):
        build_network("test_resnet", arguments)


def test_a_network_that_takes_no_rgb_images_is_refused():
    with pytest.raises(InputError, match="takes no RGB images of 160 x 160 px"):
        AgsspBackboneConfig(architecture="test_resnet", model_args={"in_chans": 1})


def test_a_network_too_large_for_any_machine_is_refused_before_it_is_built():
    with pytest.raises(InputError, match="parameters"):
        AgsspBackboneConfig(architecture="test_vit", model_args={"embed_dim": 16384, "depth": 64, "num_heads": 1})


@pytest.mark.parametrize(
    "fields",
    [
        {"image_size": "large"},
        {"image_size": -32},
        {"image_size": 10**9},
        {"image_size": 64.5},
        {"image_mean": 3},
        {"image_mean": "abc"},
        {"image_mean": [0.5, 0.5]},
        {"image_std": [1.0, math.nan, 1.0]},
        {"image_std": [1.0, 0.0, 1.0]},
    ],
)
def test_how_images_are_prepared_is_told_in_numbers(fields):
    with pytest.raises(InputError, match=f"{next(iter(fields))}=.*expected"):
        AgsspBackboneConfig(architecture="test_resnet", **fields)


@pytest.mark.parametrize("text", ["[]", "{", '{"backbone_config": 5, "image_mean": "grey"}', '{"image_mean": [1]}'])
def test_a_start_whose_settings_are_none(tmp_path, checkpoint, text):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "elsewhere.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"config\.json|image_mean="):
        AgsspBackbone.from_architecture("test_resnet", tmp_path)


def test_a_detector_whose_preparation_is_told_wrongly_starts_nothing(tmp_path, checkpoint):
    (tmp_path / "config.json").write_text(json.dumps({"backbone_config": {"model_type": "hgnet_v2"}}))
    (tmp_path / "elsewhere.safetensors").rename(tmp_path / "model.safetensors")
    for prepared in ({"size": {"height": "tall"}}, {"do_normalize": True, "image_mean": "grey"}):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepared))
        with pytest.raises(InputError, match=r"image_size='tall'|image_mean='grey'"):
            AgsspBackbone.from_architecture("test_resnet", tmp_path)
