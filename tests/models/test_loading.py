"""What a saved model may not ask for when it is opened: code, other files, other repositories, pickles."""

import builtins
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from agssp import AgsspForPreTraining
from agssp.errors import InputError
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.detection import any_detector, catalogue, detr
from agssp.models.detection.detr_checkpoints import open_checkpoint
from agssp.models.detection.start import start_detector
from agssp.saved_configs import check_config, refuse_code

TINY = {"d_model": 32, "encoder_hidden_dim": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_denoising": 0,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_in_channels": [32] * 3}  # fmt: skip

OPENERS = {
    "backbone": AgsspBackbone.from_pretrained,
    "faster_rcnn": catalogue.open_folder,
    "rtdetr": detr.open_detr,
    "pretraining": AgsspForPreTraining.from_pretrained,
}
"""Saved model -> what opens it."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture("test_resnet")
    backbone.save_pretrained(root / "backbone")
    AgsspForPreTraining.from_backbone(backbone, num_labels=2).save_pretrained(root / "pretraining")
    any_detector.save(catalogue.build("faster_rcnn", backbone.config, image_size=64), root / "faster_rcnn")
    any_detector.save(detr.build_detr("rtdetr_v2_s", backbone.config, None, 64, **TINY), root / "rtdetr")
    return root


@pytest.fixture
def no_question(monkeypatch):
    """What transformers asks at the terminal would be answered with yes."""
    asked = []
    monkeypatch.setattr(builtins, "input", lambda text="": asked.append(text) or "yes")
    return asked


def changed(saved, kind, target, **fields):
    shutil.copytree(saved / kind, target)
    file = target / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return target


def test_a_configuration_without_wishes_passes():
    check_config({}, "model 'x'")
    refuse_code({}, "model 'x'")
    plain = {
        "backbone": None,
        "use_timm_backbone": False,
        "quantization_config": None,
        "attn_implementation": "sdpa",
        "backbone_config": {"model_type": "hgnet_v2"},
        "label2id": {"backbone": 0},
        "_name_or_path": "/some/where",
    }
    check_config(plain, "model 'x'")


@pytest.mark.parametrize("kind", OPENERS)
def test_what_was_saved_here_opens(saved, kind):
    assert isinstance(OPENERS[kind](saved / kind), torch.nn.Module)


@pytest.mark.parametrize(
    "fields",
    [
        {"auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}},
        {"transformers_weights": "other.safetensors"},
        {"transformers_weights": "adapter_model.bin"},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        {"fusion_config": {"patch_embeddings": True}},
        {"backbone": "me/other"},
        {"attn_implementation": "me/kernel"},
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": {"backbone_config": "me/kernel"}},
    ],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.parametrize("kind", OPENERS)
def test_what_reaches_beyond_the_folder_is_refused_by_name(saved, kind, fields, tmp_path, no_question):
    folder = changed(saved, kind, tmp_path / "model", **fields)
    with pytest.raises(InputError, match=rf"{folder}.*config\.json.*{next(iter(fields))}"):
        OPENERS[kind](folder)
    assert not no_question


@pytest.mark.parametrize("kind", ["faster_rcnn", "rtdetr", "pretraining"])
def test_the_configuration_within_is_looked_at_too(saved, kind, tmp_path):
    inner = json.loads((saved / kind / "config.json").read_text())["backbone_config"]
    folder = changed(
        saved, kind, tmp_path / "a", backbone_config=inner | {"quantization_config": {"quant_method": "x"}}
    )
    with pytest.raises(InputError, match="quantization_config"):
        OPENERS[kind](folder)
    foreign = {"model_type": "timm_backbone", "backbone": "hf-hub:me/other"}
    folder = changed(saved, kind, tmp_path / "b", backbone_config=foreign)
    with pytest.raises(InputError, match=r"backbone by its name|backbone of type 'timm_backbone'"):
        OPENERS[kind](folder)
    folder = changed(saved, kind, tmp_path / "c", backbone_config={"model_type": "timm_wrapper"})
    with pytest.raises(InputError, match="backbone of type 'timm_wrapper'"):
        OPENERS[kind](folder)


def test_code_of_a_model_of_unknown_type_is_neither_run_nor_asked_about(tmp_path, no_question):
    code = {"model_type": "theirs", "auto_map": {"AutoConfig": "code.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(code))
    (tmp_path / "code.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nfrom transformers import PreTrainedConfig as Config\n"
    )
    for opener in (catalogue.open_folder, lambda folder: start_detector(str(folder), None, ["pit"], 64, 0)):
        with pytest.raises(InputError, match=r"code of its own.*auto_map"):
            opener(tmp_path)
    for opener in (detr.open_detr, open_checkpoint, AgsspBackbone.from_pretrained):
        with pytest.raises(InputError, match="'theirs'"):
            opener(tmp_path)
    assert not no_question
    assert not (tmp_path / "ran").exists()


def test_a_model_of_another_type_is_named_without_building_its_configuration(tmp_path):
    foreign = {"model_type": "detr", "backbone": "resnet50", "use_pretrained_backbone": True}
    (tmp_path / "config.json").write_text(json.dumps(foreign))
    with pytest.raises(InputError, match="a model of type 'detr', expected a detector"):
        catalogue.open_folder(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", '{"model_type": "rt_detr_v2", ', "", '{"a": ' * 100_000])
def test_a_configuration_that_is_none(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    for opener in (*OPENERS.values(), open_checkpoint):
        with pytest.raises(InputError, match=str(tmp_path)):
            opener(tmp_path)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("backbone", {"out_indices": "all"}),
        ("backbone", {"image_mean": 3}),
        ("faster_rcnn", {"image_size": "large"}),
        ("faster_rcnn", {"backbone_config": 5}),
        ("rtdetr", {"d_model": "wide"}),
        ("rtdetr", {"backbone_config": {"model_type": "agssp_backbone", "architecture": "none"}}),
        ("pretraining", {"objective": "none", "distillation": False}),
    ],
)
def test_a_configuration_with_wrong_values(saved, kind, fields, tmp_path):
    folder = changed(saved, kind, tmp_path / "model", **fields)
    with pytest.raises(InputError, match=rf"{folder}.*config\.json cannot be used|{folder}.*backbone of type"):
        OPENERS[kind](folder)


@pytest.mark.parametrize("kind", OPENERS)
def test_an_adapter_beside_a_model_is_refused(saved, kind, tmp_path):
    folder = changed(saved, kind, tmp_path / "model")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "me/other"}')
    with pytest.raises(InputError, match=r"adapter_config\.json"):
        OPENERS[kind](folder)


@pytest.mark.parametrize("kind", OPENERS)
def test_pickled_weights_are_refused(saved, kind, tmp_path):
    folder = changed(saved, kind, tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        OPENERS[kind](folder)


@pytest.mark.parametrize("kind", OPENERS)
@pytest.mark.parametrize("shard", ["shard.bin", "../elsewhere.safetensors", "/elsewhere.safetensors"])
def test_an_index_of_other_files_is_refused(saved, kind, shard, tmp_path):
    folder = changed(saved, kind, tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "shard.bin")
    save_file(state, tmp_path / "elsewhere.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(state, shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json: expected names of \.safetensors"):
        OPENERS[kind](folder)


@pytest.mark.parametrize("kind", ["backbone", "pretraining"])
def test_auto_classes_come_through_the_same_door(saved, kind, tmp_path):
    assert AutoConfig.from_pretrained(saved / kind).model_type.startswith("agssp_")
    folder = changed(saved, kind, tmp_path / "model", transformers_weights="other.safetensors")
    with pytest.raises(InputError, match="transformers_weights"):
        AutoModel.from_pretrained(folder) if kind == "backbone" else OPENERS[kind](folder)
