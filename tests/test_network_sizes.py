"""How large a network a configuration from elsewhere may ask for."""

import json
import resource
import shutil

import pytest
import torch
from torch import nn
from transformers import AutoModel

from agssp import AgsspForPreTraining
from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.backbone.model_args import check_model_args
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.detection import any_detector, catalogue, detr
from agssp.network_sizes import BESIDE, TIMES, built_within, check_sizes, stored_numbers

TINY = {"d_model": 32, "encoder_hidden_dim": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_denoising": 0,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_in_channels": [32] * 3}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of each kind of model."""
    root = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture("test_resnet")
    backbone.save_pretrained(root / "backbone")
    AgsspForPreTraining.from_backbone(backbone, num_labels=2).save_pretrained(root / "pretraining")
    any_detector.save(catalogue.build("faster_rcnn", backbone.config, image_size=64), root / "faster_rcnn")
    any_detector.save(catalogue.build("dino", backbone.config, image_size=64), root / "dino")
    any_detector.save(catalogue.build("yolov8n", None, image_size=64), root / "yolo")
    for kind in ("rtdetr_v2_s", "dfine_s"):
        any_detector.save(detr.build_detr(kind, backbone.config, None, 64, **TINY), root / kind)
    return root


def opened(folder):
    if folder.name.startswith("backbone"):
        return AgsspBackbone.from_pretrained(folder)
    if folder.name.startswith("pretraining"):
        return AgsspForPreTraining.from_pretrained(folder)
    return catalogue.open_folder(folder)


def changed(folder, target, **fields):
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | fields))
    return target


def test_an_empty_configuration_and_no_files():
    check_sizes({}, "model 'x'")
    assert stored_numbers([]) == 0
    with built_within(0, "model 'x'"):
        pass


def test_every_field_below_its_limit_passes():
    check_sizes(
        {"layers": list(range(1, 65)), "label2id": {"depth of a pit": 9000}, "trained_at": 1_700_000_000}, "model 'x'"
    )
    check_sizes({"depths": [256, 256], "vocab_size": 250_002, "out_indices": [-1], "size": None, "width": 0.5}, "model")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"d_model": 10**9}, r"d_model=1000000000; expected 16,384 at most"),
        ({"num_queries": 20_000}, "num_queries=20000"),
        ({"decoder_layers": 513}, "decoder_layers=513; expected 512 at most"),
        (
            {"backbone_config": {"depths": [500] * 9}},
            r"backbone_config\.depths=\[500, .*, together 4,500; expected 4,096",
        ),
        ({"anchor_image_size": [64, 10**6]}, "anchor_image_size=1000000"),
        ({"size": {"height": 10**6}}, r"size\.height=1000000"),
        ({"width_mult": float("inf")}, "width_mult=inf"),
        ({"hidden_expansion": float("nan")}, "hidden_expansion=nan"),
        ({"id2label": {str(number): "a" for number in range(10_001)}}, "id2label=10,001 entries; expected 10,000"),
        ({"anchor_ratios": [1.0] * 10_001}, "anchor_ratios=10,001 entries"),
        ({"vocab_size": 2 * 10**6}, "vocab_size=2000000; expected 1,000,000"),
    ],
)
def test_numbers_beyond_all_networks_are_refused_by_name(config, told):
    with pytest.raises(InputError, match=f"model 'x': its config.json says {told}"):
        check_sizes(config, "model 'x'")


def test_layers_of_a_backbone_have_the_same_limit():
    with pytest.raises(InputError, match=r"model_args of test_resnet: its configuration says layers=600; expected"):
        check_model_args("test_resnet", {"layers": [400, 600]})
    with pytest.raises(InputError, match="says depth=600; expected 512"):
        AgsspBackboneConfig(architecture="test_vit", model_args={"depth": 600})


@pytest.mark.parametrize("kind", ["backbone", "pretraining", "faster_rcnn", "dino", "yolo", "rtdetr_v2_s", "dfine_s"])
def test_what_was_saved_here_stays_far_below_its_limit(saved, kind):
    stored = stored_numbers([saved / kind / "model.safetensors"])
    tensors = sum(value.numel() for value in opened(saved / kind).state_dict().values())
    assert 0.9 * tensors <= stored <= 1.1 * tensors
    # Without what is granted beside, too: a large network has no need of it.
    with built_within((TIMES * stored - BESIDE) // TIMES, "all that opening builds"):
        opened(saved / kind)


LARGE = {
    "backbone": {"model_args": {"channels": [4096, 4096, 4096, 4096]}},
    "pretraining": {"objective": "mocov3", "projection_hidden": 16_384, "projection_dim": 16_384},
    "faster_rcnn": {"head_channels": 16_384},
    "dino": {"encoder_ffn_dim": 16_384, "d_model": 4096, "decoder_ffn_dim": 16_384},
    "rtdetr_v2_s": {"decoder_ffn_dim": 16_384, "d_model": 16_384},
    "dfine_s": {"encoder_ffn_dim": 16_384, "encoder_hidden_dim": 16_384},
    "yolo": {"backbone_config": {"model_type": "agssp_backbone", "architecture": "convnext_xxlarge"}},
}
"""Kind of model -> fields of a far larger one, each of them within its limits."""


@pytest.mark.parametrize("kind", LARGE)
def test_a_network_far_larger_than_its_weights_is_refused_before_it_takes_memory(saved, tmp_path, kind):
    folder = changed(saved / kind, tmp_path / kind, **LARGE[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=rf"{kind}.*but its weights hold"):
        opened(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # KiB: half a GiB


@pytest.mark.parametrize("kind", ["backbone", "pretraining", "faster_rcnn", "dino", "yolo", "rtdetr_v2_s", "dfine_s"])
def test_numbers_beyond_all_networks_are_refused_by_every_opener(saved, tmp_path, kind):
    folder = changed(saved / kind, tmp_path / kind, num_hidden_layers=10**6)
    with pytest.raises(InputError, match=rf"{kind}.*its config\.json says num_hidden_layers=1000000; expected 512"):
        opened(folder)


def test_transformers_own_door_is_the_same(saved, tmp_path):
    folder = changed(saved / "backbone", tmp_path / "backbone", **LARGE["backbone"])
    with pytest.raises(InputError, match="but its weights hold"):
        AutoModel.from_pretrained(folder, trust_remote_code=False)


def test_modules_of_other_networks_are_not_counted_afterwards():
    told = r"'x': .*more than 100,000,004 numbers \(at a weight of \(20000, 20000\)\)"
    with pytest.raises(InputError, match=told), built_within(1, "model 'x'"), torch.device("meta"):
        nn.Linear(20_000, 20_000)
    with torch.device("meta"):
        nn.Linear(20_000, 20_000)
