"""Loading teachers: every wrong name, tag and file is an error that says what to do; timm networks of each kind."""

import copy
import json

import open_clip
import pytest
import torch
from kead_cases import picture, small_clip
from safetensors.torch import save_file

from agssp.errors import InputError
from agssp.maps.modeling_kead import KeAD
from agssp.maps.open_clip_teacher import evenly_spaced, load_open_clip
from agssp.maps.teacher_weights import RESEARCH_ONLY, best_dtype, cuda_dtype, licence_of
from agssp.maps.timm_teacher import TimmTeacher

CONFIG = {
    "model_cfg": {
        "embed_dim": 48,
        "vision_cfg": {"layers": 8, "width": 64, "head_width": 16, "patch_size": 8, "image_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}


def test_the_papers_layers():
    assert [evenly_spaced(blocks) for blocks in (12, 24, 32)] == [(3, 6, 9, 12), (6, 12, 18, 24), (8, 16, 24, 32)]
    assert evenly_spaced(2) == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ViT-B-61", "openai"), "no such model; near are ViT-B-16"),
        (("qqq", "openai"), r"no such model; `open_clip.list_models\(\)` lists them"),
        (("test_resnet", "random"), "no such model, but timm has; give timm:test_resnet"),
        (("ViT-B-16-plus-240", None), "give --pretrained TAG .*laion400m_e32"),
        (("ViT-B-16-plus-240", "openai"), "has no tag 'openai'; there are: laion400m_e31"),
        (("ViT-L-14-336", "openai"), "use ViT-L-14-336-quickgelu"),
        (("RN50", None, "nowhere.safetensors"), "existing .safetensors"),
    ],
)
@pytest.mark.slow
def test_wrong_open_clip_names(arguments, message):
    with pytest.raises(InputError, match=message):
        load_open_clip(*arguments)


def test_a_folder_without_weights_is_an_error(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(InputError, match="random weights"):
        load_open_clip(f"local-dir:{tmp_path}")


def test_a_folder_with_weights(tmp_path):
    model = small_clip()
    (tmp_path / "open_clip_config.json").write_text(json.dumps(CONFIG))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    teacher = load_open_clip(f"local-dir:{tmp_path}")
    assert teacher.image_mean == (0.5, 0.5, 0.5)
    assert (teacher.image_size, teacher.grid_size, teacher.layers, teacher.surgery_from) == (32, 4, (2, 4, 6, 8), 3)
    pixel_values = torch.randn(1, 3, 32, 32)
    expected = torch.nn.functional.normalize(model.encode_image(pixel_values), dim=-1)
    torch.testing.assert_close(teacher(pixel_values)[1], expected, atol=1e-6, rtol=1e-5)

    state = model.state_dict()
    state["visual.proj"] = state["visual.proj"][:, :3].contiguous()
    del state["visual.ln_post.bias"]
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"1 keys missing .visual.ln_post.bias., 1 of other shape .visual.proj."):
        load_open_clip(f"local-dir:{tmp_path}", weights=tmp_path / "other.safetensors")


@pytest.mark.parametrize("failure", [OSError("no network"), None])
@pytest.mark.slow
def test_weights_of_the_hub_that_do_not_come_are_an_error(monkeypatch, failure):
    def download(*arguments, **options):
        if failure is not None:
            raise failure

    monkeypatch.setattr("open_clip.factory._get_hf_config", lambda *arguments, **options: copy.deepcopy(CONFIG))
    monkeypatch.setattr("open_clip.factory.download_pretrained_from_hf", download)
    monkeypatch.setattr("open_clip.factory.download_pretrained", download)
    with pytest.raises(InputError, match=r"teacher hf-hub:someone/clip .*could not be loaded"):
        load_open_clip("hf-hub:someone/clip")
    with pytest.raises(InputError, match=r"teacher ViT-B-32 .laion2b_e16.: could not be loaded"):
        load_open_clip("ViT-B-32", "laion2b_e16")


@pytest.mark.parametrize("name", ["hf-hub:someone/clip", "local-dir:/nowhere"])
def test_a_tag_that_would_be_ignored_is_an_error(name):
    with pytest.raises(InputError, match="leave out --pretrained openai"):
        load_open_clip(name, "openai", "weights.safetensors")


@pytest.mark.slow
def test_a_file_of_a_known_tag_gets_that_tags_normalisation(tmp_path):
    name, tag = "ViT-S-32-alt", "openai"
    model = open_clip.create_model(name)
    save_file({key: value.clone() for key, value in model.state_dict().items()}, tmp_path / "weights.safetensors")
    plain = load_open_clip(name, weights=tmp_path / "weights.safetensors")
    assert plain.image_mean == open_clip.OPENAI_DATASET_MEAN
    known = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_clip.pretrained._PRETRAINED, name, {tag: known})
        teacher = load_open_clip(name, tag, tmp_path / "weights.safetensors")
        assert (teacher.image_mean, teacher.image_std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
        own = load_open_clip(name, "our_run_7", tmp_path / "weights.safetensors")
        assert own.image_mean == open_clip.OPENAI_DATASET_MEAN
    with pytest.raises(InputError, match="use ViT-L-14-336-quickgelu"):
        load_open_clip("ViT-L-14-336", "openai", tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    ("tag", "name", "licence"),
    [
        (None, "", "unknown"),
        ("", "", "unknown"),
        ("our_run_7", "ViT-B-32", "unknown"),
        ("dfn5b", "", RESEARCH_ONLY),
        ("dfndr2b", "", RESEARCH_ONLY),
        ("datacompdr_lt", "", RESEARCH_ONLY),
        ("datacomp_xl_s13b_b90k", "", "MIT"),
        ("laion2b_s32b_b79k", "", "MIT"),
        (None, "hf-hub:apple/DFN5B-CLIP-ViT-H-14-378", RESEARCH_ONLY),
        (None, "hf-hub:apple/MobileCLIP-S1-OpenCLIP", RESEARCH_ONLY),
        (None, "hf-hub:laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "MIT"),
        (None, "hf-hub:facebook/metaclip-h14-fullcc2.5b", "CC-BY-NC-4.0"),
        (None, "hf-hub:someone/laion-finetuned", "unknown"),
        ("random", "hf-hub:laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "none"),
        (None, "local-dir:laion/clip", "unknown"),
    ],
)
def test_licences(tag, name, licence):
    assert licence_of(tag, name) == licence


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        ((6, 1), torch.float32),
        ((7, 5), torch.float32),
        ((8, 0), torch.bfloat16),
        ((8, 6), torch.bfloat16),
        ((9, 0), torch.bfloat16),
        ((12, 0), torch.bfloat16),
    ],
)
def test_bfloat16_only_on_gpus_that_compute_it(capability, dtype):
    assert cuda_dtype(capability) == dtype


def test_the_best_dtype_asks_the_gpu_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5) if device.index else (9, 0))
    assert best_dtype(torch.device("cuda:0")) == torch.bfloat16
    assert best_dtype(torch.device("cuda:1")) == torch.float32


@pytest.mark.parametrize(
    ("name", "options", "layers", "grid"),
    [
        ("test_resnet", {}, (8, 16), 20),
        ("test_resnet", {"layers": [16]}, (16,), 10),
        ("test_efficientnet", {"image_size": 96}, (8, 16), 12),
        ("test_vit", {}, (2, 3, 4, 6), 10),
        ("test_vit", {"image_size": 96, "layers": [1, 6]}, (1, 6), 6),
    ],
)
def test_timm_networks(name, options, layers, grid):
    teacher = TimmTeacher(name, "random", **options)
    assert (teacher.layers, teacher.grid_size) == (layers, grid)
    tokens, embedding = teacher(torch.randn(2, 3, teacher.image_size, teacher.image_size))
    assert tokens.shape[:3] == (len(layers), 2, grid * grid)
    assert embedding is None
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(tokens.shape[:3]))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_tokens_in_bfloat16_are_rounded_once_after_the_features(name):
    torch.manual_seed(0)
    teacher = TimmTeacher(name, "random", image_size=96, dtype=torch.bfloat16)
    pixel_values = torch.randn(2, 3, 96, 96, dtype=torch.bfloat16)
    tokens, _ = teacher(pixel_values)
    assert tokens.dtype == torch.bfloat16
    features = teacher.model.forward_intermediates(
        pixel_values, indices=teacher.indices, intermediates_only=True, output_fmt="NCHW"
    )
    feature = features[0].double()
    if name == "test_resnet":
        feature = torch.nn.functional.avg_pool2d(feature, 3, 1, 1, count_include_pad=False)
    exact = feature.flatten(2).transpose(1, 2)
    exact = exact / exact.norm(dim=-1, keepdim=True)
    # Half a unit in the last place of 8 bits, and nothing on top.
    assert ((tokens[0, ..., : exact.shape[-1]].double() - exact).abs() <= exact.abs() * 2**-8 * 1.01 + 1e-12).all()


def test_a_timm_teacher_draws_distances(tmp_path):
    source = TimmTeacher("test_resnet", "random").model
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    kead = KeAD.from_teacher(
        "timm:test_resnet", weights=tmp_path / "weights.safetensors", image_size=64, dtype="float32", device="cpu"
    )
    assert kead.describe()["weights_sha256"]
    with pytest.raises(InputError, match="'a': has no references"):
        kead(kead.preprocess(picture(0))[None], ["a"])
    kead.set_references({"a": [picture(0), picture(1)]}, {"a": ["0", "1"]})
    inputs = torch.stack([kead.preprocess(picture(0))] * 2)
    output = kead(inputs, ["a", "a"], ["other", "0"])
    assert output.anomaly_maps[0].max() < 1e-6 < output.anomaly_maps[1].max()
    torch.testing.assert_close(output.scores, output.anomaly_maps.flatten(1).amax(1))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("timm:test_resnetx", "random"), {}, "no such model; near are test_resnet"),
        (("timm:qqq", "random"), {}, r"no such model; `timm.list_models\(\)` lists them"),
        (("timm:test_resnet",), {}, "give --pretrained default"),
        (("timm:test_resnet", "no_such_tag"), {}, "could not be loaded"),
        (("timm:test_resnet", "random"), {"layers": [8, 64]}, r"has strides \[2, 4, 8, 16, 32\]; got layers \[8, 64\]"),
        (("timm:test_vit", "random"), {"layers": [7]}, r"has blocks \[1, 2, 3, 4, 5, 6\]"),
        (("timm:test_resnet", "random"), {"surgery_from": 2}, "needs no surgery"),
        (("ViT-B-32", "random"), {"image_size": 64}, "fixed by its position table"),
        (("ViT-B-32", "random"), {"dtype": "int8"}, "expected auto, float32 or bfloat16"),
    ],
)
def test_wrong_teachers(arguments, options, message):
    with pytest.raises(InputError, match=message):
        KeAD.from_teacher(*arguments, **options)
