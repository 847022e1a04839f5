"""What a teacher's configuration may not ask for when a folder or a repository brings it."""

import builtins
import gzip
import json

import open_clip
import pytest
from kead_cases import KNOWLEDGE, small_clip
from safetensors.torch import save_file
from test_teachers import CONFIG

from agssp import InputError, KeAD
from agssp.maps.clip_configs import check_clip_config
from agssp.maps.open_clip_teacher import load_open_clip
from agssp.maps.tokens import load_tokenizer, prompt_counter


@pytest.fixture
def no_question(monkeypatch):
    """What transformers asks at the terminal would be answered with yes."""
    asked = []
    monkeypatch.setattr(builtins, "input", lambda text="": asked.append(text) or "yes")
    return asked


@pytest.fixture
def teacher(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    save_file(small_clip().state_dict(), folder / "model.safetensors")

    def make(vision=None, text=None, content=None):
        model = CONFIG["model_cfg"]
        model = model | {
            "vision_cfg": model["vision_cfg"] | (vision or {}),
            "text_cfg": model["text_cfg"] | (text or {}),
        }
        file = folder / "open_clip_config.json"
        file.write_text(json.dumps(CONFIG | {"model_cfg": model}) if content is None else content)
        return f"local-dir:{folder}"

    return make


def test_what_asks_for_nothing_passes(teacher):
    assert check_clip_config(teacher())["context_length"] == 77
    check_clip_config(teacher(text={"tokenizer_kwargs": {"clean": "canonicalize"}}))
    assert load_tokenizer(teacher(text={"tokenizer_kwargs": {"clean": "canonicalize"}})).context_length == 77
    for name in ("ViT-B-16-plus-240", "ViT-B-16-SigLIP", "RN50"):
        assert check_clip_config(name) == open_clip.get_model_config(name)["text_cfg"]


def test_a_network_of_timm_by_its_name_is_refused_before_it_is_asked_for(teacher):
    name = teacher(vision={"timm_model_name": "hf-hub:me/other"})
    with pytest.raises(InputError, match=r"timm_model_name='hf-hub:me/other'.*VisionTransformer"):
        load_open_clip(name)


@pytest.mark.parametrize(
    ("vision", "text", "told"),
    [
        ({"layers": 10**6}, {}, r"open_clip_config\.json says vision_cfg\.layers=1000000; expected 512"),
        ({}, {"width": 10**6}, r"text_cfg\.width=1000000"),
        ({"width": 8192, "mlp_ratio": 4.0}, {}, "describes a network of more than .* but its weights hold"),
    ],
)
def test_towers_far_larger_than_the_weights_are_refused(teacher, vision, text, told):
    with pytest.raises(InputError, match=told):
        load_open_clip(teacher(vision, text))


@pytest.mark.parametrize("option", ["bpe_path", "vocab_file", "tokenizer_file", "cache_dir", "subfolder"])
def test_files_that_a_tokenizer_would_open_are_refused_by_name(teacher, tmp_path, option):
    with gzip.open(tmp_path / "words.gz", "wt") as file:
        file.write("none\n" * 50_000)
    name = teacher(text={"tokenizer_kwargs": {option: str(tmp_path / "words.gz")}})
    for opener in (load_open_clip, load_tokenizer, prompt_counter):
        with pytest.raises(InputError, match=f"'{option}'.*tokenizer_kwargs"):
            opener(name)


def code_in(folder, loader):
    """A folder that brings code, which leaves a file behind when it runs."""
    folder.mkdir(exist_ok=True)
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\nclass Code: ...\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "theirs", "auto_map": {"AutoConfig": "code.Code"}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {loader: ["code.Code", None]}}))


def test_code_of_a_text_model_is_neither_run_nor_asked_about(teacher, tmp_path, no_question):
    code_in(tmp_path / "text", "AutoTokenizer")
    name = teacher(text={"hf_model_name": str(tmp_path / "text")})
    with pytest.raises(InputError, match=r"its text model .*code of its own.*auto_map"):
        load_open_clip(name)
    assert not no_question
    assert not (tmp_path / "text" / "ran").exists()


def test_code_of_a_tokenizer_is_neither_run_nor_asked_about(teacher, tmp_path, no_question):
    name = teacher(text={"hf_tokenizer_name": "beside", "tokenizer_kwargs": {"trust_remote_code": True}})
    code_in(tmp_path / "clip", "AutoTokenizer")
    (tmp_path / "clip" / "config.json").unlink()
    with pytest.raises(InputError, match="its tokenizer is code of its own"):
        load_tokenizer(name)
    assert not no_question
    assert not (tmp_path / "clip" / "ran").exists()


@pytest.mark.parametrize("content", ["", "[]", "3", '{"model_cfg": 3}', '{"model_cfg": {"vision_cfg": 1}}', "{" * 1000])
def test_a_configuration_that_is_none(teacher, content):
    with pytest.raises(InputError, match="teacher local-dir:"):
        load_open_clip(teacher(content=content))


@pytest.mark.parametrize("vision", [{"no_such": 1}, {"layers": "many"}, {"patch_size": None}, {"width": 0}])
def test_a_configuration_with_wrong_values(teacher, vision):
    with pytest.raises(InputError, match="could not be loaded"):
        load_open_clip(teacher(vision=vision))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("teacher", 5),
        ("pretrained", ["openai"]),
        ("weights", {"file": "x"}),
        ("layers", [2, "4"]),
        ("layers", 3),
        ("image_size", [32, 32]),
        ("image_size", 10**9),
        ("surgery_from", True),
        ("dtype", None),
    ],
)
def test_a_kead_with_wrong_values(teacher, tmp_path, field, value):
    KeAD.from_teacher(teacher(), knowledge=KNOWLEDGE, dtype="float32", device="cpu").save_pretrained(tmp_path / "kead")
    file = tmp_path / "kead" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(InputError, match=rf"kead: {field} of its config\.json"):
        KeAD.from_pretrained(tmp_path / "kead")
