import json

import pytest
import timm
import torch
from kead_cases import KNOWLEDGE, picture, pixels, small_clip
from safetensors.torch import load_file, save_file

from agssp import InputError, KeAD

NAME = "timm:test_resnet"


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "teacher.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    return file


def vision_only(weights):
    return KeAD.from_teacher(NAME, weights=weights, image_size=64, dtype="float32", device="cpu")


def test_without_references_it_is_saved_and_opened_all_the_same(tmp_path, weights):
    vision_only(weights).save_pretrained(tmp_path / "kead")
    assert sorted(file.name for file in (tmp_path / "kead").iterdir()) == ["config.json", "references.safetensors"]
    assert KeAD.from_pretrained(tmp_path / "kead").banks == {}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"image_size": 8192}, r"image_size of its config\.json is 8,192 px; expected 4,096 at most"),
        ({"grid_size": 10**6}, r"its config\.json says grid_size=1000000"),
        ({"layers": [500] * 9}, r"layers=\[500, .*, together 4,500"),
    ],
)
def test_sizes_beyond_all_teachers_are_refused(tmp_path, weights, fields, told):
    vision_only(weights).save_pretrained(tmp_path / "kead")
    file = tmp_path / "kead/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    with pytest.raises(InputError, match=told):
        KeAD.from_pretrained(tmp_path / "kead")


def test_the_maps_are_the_same_after_loading(tmp_path, weights):
    kead = vision_only(weights)
    kead.set_references(
        {"plate": [picture(1), picture(2)], "strip": [picture(3)]}, {"plate": ["a", "b"], "strip": ["c"]}
    )
    kead.save_pretrained(tmp_path / "kead")
    again = KeAD.from_pretrained(tmp_path / "kead", device="cpu")
    inputs = pixels(kead, [5, 6])
    before, after = (each(inputs, ["plate", "strip"]) for each in (kead, again))
    assert torch.equal(before.anomaly_maps, after.anomaly_maps)
    assert torch.equal(before.scores, after.scores)
    assert again.describe() == kead.describe()


@pytest.mark.slow
def test_words_and_settings_of_a_clip_come_back(tmp_path):
    """A plain open_clip model, whose weights are a file."""
    model = small_clip()
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    vision, text = (
        dict(image_size=32, layers=8, width=64, head_width=16, patch_size=8),
        dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2),
    )
    (tmp_path / "clip").mkdir()
    config = {"model_cfg": {"embed_dim": 48, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (tmp_path / "clip/open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "clip.safetensors").rename(tmp_path / "clip/model.safetensors")
    kead = KeAD.from_teacher(f"local-dir:{tmp_path}/clip", knowledge=KNOWLEDGE, dtype="float32", device="cpu")
    inputs = pixels(kead, [5])
    expected = kead(inputs, ["strip"]).anomaly_maps
    kead.save_pretrained(tmp_path / "kead")
    again = KeAD.from_pretrained(tmp_path / "kead", device="cpu")
    assert again.knowledge == KNOWLEDGE
    assert torch.equal(again(inputs, ["strip"]).anomaly_maps, expected)
    assert again.text_features("plate")[0].shape == (48,)
    (tmp_path / "clip").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="give teacher="):
        KeAD.from_pretrained(tmp_path / "kead")
    moved = KeAD.from_pretrained(tmp_path / "kead", teacher=f"local-dir:{tmp_path}/moved", device="cpu")
    assert torch.equal(moved(inputs, ["strip"]).anomaly_maps, expected)
    file = next((tmp_path / "moved").glob("*.safetensors"))
    save_file({name: value + 1 for name, value in load_file(file).items()}, file)
    with pytest.raises(InputError, match="sha256"):
        KeAD.from_pretrained(tmp_path / "kead", teacher=f"local-dir:{tmp_path}/moved", device="cpu")


def test_another_teachers_weights_are_refused(tmp_path, weights):
    vision_only(weights).save_pretrained(tmp_path / "kead")
    other = {name: value + 1 for name, value in timm.create_model("test_resnet").state_dict().items()}
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="sha256"):
        KeAD.from_pretrained(tmp_path / "kead", weights=tmp_path / "other.safetensors")


def test_what_is_no_kead_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no readable config\.json"):
        KeAD.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="'bert'"):
        KeAD.from_pretrained(tmp_path)


def test_a_config_that_lacks_something_is_told(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "agssp_kead", "teacher": "timm:test_resnet", "layers": [8]}')
    with pytest.raises(InputError, match="lacks image_size, dtype, image_score"):
        KeAD.from_pretrained(tmp_path)


def test_a_teacher_that_only_the_folder_names_is_no_pickle(tmp_path, weights):
    vision_only(weights).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"weights": None, "weights_sha256": None}
    # Its weights are a .pth at an address of GitHub.
    config |= {"teacher": "timm:gcvit_xxtiny", "pretrained": "default", "image_size": 224}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r'pickled weights .* name it yourself: teacher="timm:gcvit_xxtiny"'):
        KeAD.from_pretrained(tmp_path)


def test_random_weights_are_not_saved(tmp_path):
    kead = KeAD.from_teacher(NAME, "random", image_size=64, dtype="float32", device="cpu")
    with pytest.raises(InputError, match="random"):
        kead.save_pretrained(tmp_path)


def test_changed_settings_are_told(tmp_path, weights):
    vision_only(weights).save_pretrained(tmp_path / "kead")
    file = tmp_path / "kead/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"grid_size": 3}))
    with pytest.raises(InputError, match="grid_size: saved 3, now 8"):
        KeAD.from_pretrained(tmp_path / "kead")
