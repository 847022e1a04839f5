"""A backbone found inside of a saved detector; each published one is in `detection/test_detr_checkpoints.py`."""

import json

import pytest
import torch

from agssp.errors import InputError
from agssp.models.backbone import AgsspBackbone, AgsspBackboneConfig
from agssp.models.backbone.saved_detectors import backbone_tensors, saved_input_settings
from agssp.models.detection import any_detector, catalogue
from agssp.models.detection.start import start_detector


def test_nothing_there(tmp_path):
    assert backbone_tensors({}) == {}
    assert saved_input_settings(tmp_path) == {}
    assert saved_input_settings("scratch") == {}
    assert saved_input_settings(tmp_path / "absent" / "model.safetensors") == {}


def test_names():
    given = {
        "model.backbone.model.embedder.embedder.1.convolution.weight": 1,
        "model.backbone.model.embedder.embedder.2.normalization.bias": 2,
        "model.backbone.model.encoder.stages.3.layers.1.layer.2.normalization.running_var": 3,
        "model.backbone.model.encoder.stages.1.layers.0.shortcut.1.convolution.weight": 4,
        "model.backbone.model.encoder.stages.2.blocks.0.layers.1.conv2.lab.scale": 5,
        "model.backbone.model.network.layer1.0.conv1.weight": 6,
        "backbone.network.layer1.0.bn1.weight": 7,
        "model.encoder.fpn_blocks.0.conv1.conv.weight": 8,
        "class_embed.0.weight": 9,
    }
    assert backbone_tensors(given) == {
        "conv1.3.weight": 1,
        "bn1.bias": 2,
        "layer4.1.bn3.running_var": 3,
        "layer2.0.downsample.1.weight": 4,
        "stages.2.blocks.0.layers.1.conv2.lab.scale": 5,
        "layer1.0.conv1.weight": 6,
        "layer1.0.bn1.weight": 7,
    }


@pytest.mark.parametrize("name", ["faster_rcnn", "rtdetr_v2_s"])
@pytest.mark.slow
def test_a_backbone_starts_from_a_detector_of_ours(name, tmp_path):
    config = AgsspBackboneConfig(architecture="test_resnet", image_mean=[0.1] * 3, image_std=[0.5] * 3)
    model = catalogue.build(name, config, image_size=64)
    any_detector.save(model, tmp_path)
    for start in (tmp_path, tmp_path / "model.safetensors"):
        backbone = AgsspBackbone.from_architecture("test_resnet", start=start)
        _, inside = catalogue.detr.detector_backbone(model)
        assert all(torch.equal(value, inside.state_dict()[key]) for key, value in backbone.state_dict().items())
        assert backbone.config.image_mean == [0.1] * 3
        assert backbone.config.image_std == [0.5] * 3
        assert backbone.start_report.left_out
    with pytest.raises(InputError, match="does not hold the weights of resnet18"):
        AgsspBackbone.from_architecture("resnet18", start=tmp_path)


@pytest.mark.slow
def test_a_detector_in_shards(tmp_path):
    model = catalogue.build("faster_rcnn", AgsspBackboneConfig(architecture="test_resnet"), {0: "pit"}, 64)
    model.save_pretrained(tmp_path, max_shard_size="20MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    state = start_detector(str(tmp_path), None, ["pit"], 64, 0)[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    backbone = AgsspBackbone.from_architecture("test_resnet", start=tmp_path)
    assert all(torch.equal(value, state[f"backbone.{name}"]) for name, value in backbone.state_dict().items())
    with pytest.raises(InputError, match=r"index\.json: the index of weights in several files; give the folder"):
        start_detector(str(tmp_path / "model.safetensors.index.json"), None, ["pit"], 64, 0)


def test_what_is_given_goes_before_what_was_saved(tmp_path):
    AgsspBackbone.from_architecture("test_resnet", image_mean=[0.1] * 3).save_pretrained(tmp_path)
    assert saved_input_settings(tmp_path)["image_mean"] == [0.1] * 3
    backbone = AgsspBackbone.from_architecture("test_resnet", start=tmp_path, image_mean=[0.2] * 3)
    assert backbone.config.image_mean == [0.2] * 3


def test_another_models_config_tells_nothing(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "backbone_config": None}))
    assert saved_input_settings(tmp_path) == {}
