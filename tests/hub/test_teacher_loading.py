"""A teacher that a published KeAD names: safetensors alone, and no code of its repositories."""

import copy
import json
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save
from test_model_loading import open_all

from agssp import KeAD

sys.path.insert(0, str(Path(__file__).parents[1] / "maps"))

from kead_cases import KNOWLEDGE, small_clip

CLIP = {
    "model_cfg": {
        "embed_dim": 48,
        "vision_cfg": {"layers": 8, "width": 64, "head_width": 16, "patch_size": 8, "image_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {},
}


@pytest.mark.slow
def test_the_teacher_that_a_repository_names_brings_no_pickle_and_no_code(hub, tmp_path):
    state = small_clip().state_dict()
    torch.save(state, tmp_path / "pickle")
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(CLIP))
    (folder / "model.safetensors").write_bytes(save(state))
    network = save(timm.create_model("test_resnet").state_dict())
    (tmp_path / "network.safetensors").write_bytes(network)
    options = {"dtype": "float32", "device": "cpu"}
    clip = KeAD.from_teacher(f"local-dir:{folder}", knowledge=KNOWLEDGE, **options)
    vision = KeAD.from_teacher("timm:test_resnet", weights=tmp_path / "network.safetensors", **options)

    def publish(name, kead, teacher, **changes):
        kead.save_pretrained(tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text()) | {"weights": None, "weights_sha256": None}
        files = {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        hub.publish(f"me/{name}", files | {"config.json": json.dumps(config | {"teacher": teacher} | changes)})

    code = copy.deepcopy(CLIP)
    code["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "me/code", "tokenizer_kwargs": {"trust_remote_code": True}}
    weights = {"open_clip_model.safetensors": save(state)}
    hub.publish("me/pickled-clip", {"open_clip_config.json": json.dumps(CLIP),
                                    "open_clip_pytorch_model.bin": (tmp_path / "pickle").read_bytes()})  # fmt: skip
    hub.publish("me/safe-clip", {"open_clip_config.json": json.dumps(CLIP)} | weights)
    hub.publish("me/code-clip", {"open_clip_config.json": json.dumps(code)} | weights)
    foreign = {"auto_map": {"AutoTokenizer": ["code.Code", None]}, "tokenizer_class": "Code"}
    hub.publish("me/code", {"tokenizer_config.json": json.dumps(foreign), "config.json": "{}",
                            "code.py": f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Code: ...\n"})  # fmt: skip
    hub.publish("timm/test_resnet.r160_in1k", {"model.safetensors": network, "config.json": "{}"})
    for name in ("pickled", "safe", "code"):
        publish(name, clip, f"hf-hub:me/{name}-clip")
    publish("vision", vision, "timm:test_resnet", pretrained="default")
    pickled, safe, foreign, network = open_all(
        hub, ["kead", "me/pickled"], ["kead", "me/safe"], ["kead", "me/code"], ["kead", "me/vision"]
    )
    assert "me/pickled-clip has no open_clip_model.safetensors" in pickled
    assert safe == network == "opened"
    assert "its tokenizer is code of its own" in foreign
    assert not (tmp_path / "ran").exists()
