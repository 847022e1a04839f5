"""The published RT-DETR v2 and D-FINE: every size has its network, and computes on it what transformers' does."""

import json
import sys
from pathlib import Path

import pytest
import torch
from contract_cases import NAMES, TWO_IMAGES
from safetensors.torch import load_file, save_file
from transformers import (
    AutoBackbone,
    DFineConfig,
    DFineForObjectDetection,
    HGNetV2Config,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
    TimmBackboneConfig,
)

from agssp.errors import InputError
from agssp.models.backbone import AgsspBackbone
from agssp.models.backbone.networks import build_network
from agssp.models.backbone.saved_detectors import name_in_network, saved_input_settings
from agssp.models.detection import any_detector, catalogue
from agssp.models.detection.detr_checkpoints import architecture_of

sys.path.append(str(Path(__file__).parents[2] / "hub"))

from local_hub import LocalHub

BASIC, BOTTLENECK = [64, 128, 256, 512], [256, 512, 1024, 2048]
B0 = {
    "stem_channels": [3, 16, 16],
    "stage_in_channels": [16, 64, 256, 512],
    "stage_mid_channels": [16, 32, 64, 128],
    "stage_out_channels": [64, 256, 512, 1024],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [3] * 4,
    "use_learnable_affine_block": True,
    "hidden_sizes": [128, 256, 512, 1024],
}
B2 = {
    "stem_channels": [3, 24, 32],
    "stage_in_channels": [32, 96, 384, 768],
    "stage_mid_channels": [32, 64, 128, 256],
    "stage_out_channels": [96, 384, 768, 1536],
    "stage_num_blocks": [1, 1, 3, 1],
    "stage_numb_of_layers": [4] * 4,
    "use_learnable_affine_block": True,
    "hidden_sizes": [192, 384, 768, 1536],
}
B4 = {"stage_num_blocks": [1, 1, 3, 1]}  # the default of transformers
B5 = {
    "stem_channels": [3, 32, 64],
    "stage_in_channels": [64, 128, 512, 1024],
    "stage_mid_channels": [64, 128, 256, 512],
    "stage_num_blocks": [1, 2, 5, 2],
}
PUBLISHED = {
    "rtdetr_v2_r18vd": ("resnet18vd", {"layer_type": "basic", "hidden_sizes": BASIC, "depths": [2, 2, 2, 2]}),
    "rtdetr_v2_r34vd": ("resnet34vd", {"layer_type": "basic", "hidden_sizes": BASIC}),
    "rtdetr_v2_r50vd": ("resnet50d", {}),
    "rtdetr_v2_r101vd": ("resnet101d", {"depths": [3, 4, 23, 3]}),
    "dfine-nano-coco": ("hgnetv2_b0", B0 | {"out_indices": [3, 4]}),
    "dfine-small-coco": ("hgnetv2_b0", B0),
    "dfine-medium-coco": ("hgnetv2_b2", B2),
    "dfine-large-coco": ("hgnetv2_b4", B4),
    "dfine-xlarge-coco": ("hgnetv2_b5", B5),
}
"""Network and the fields of the backbone's config.json, without those that have transformers' default."""

IMAGES = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(1)).repeat_interleave(16, 2)
IMAGES = IMAGES.repeat_interleave(16, 3)


def backbone_config(name, **fields):
    make = RTDetrResNetConfig if name.startswith("rtdetr") else HGNetV2Config
    return make(**({"out_indices": [2, 3, 4]} | PUBLISHED[name][1] | fields))


def published(name):
    """transformers' model on the backbone of a published one, neck and head narrower; weights and norms are random."""
    torch.manual_seed(0)
    backbone = backbone_config(name)
    channels = (backbone.stage_out_channels if "dfine" in name else backbone.hidden_sizes)[-len(backbone.out_indices) :]
    fields = dict.fromkeys(("d_model", "encoder_hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim"), 32) | {
        "backbone_config": backbone,
        "encoder_in_channels": channels,
        "decoder_in_channels": [32] * len(channels),
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "decoder_layers": 2,
        "hidden_expansion": 0.5,
        "num_queries": 20,
        "num_denoising": 10,
        "num_labels": 5,
    }
    if name == "dfine-nano-coco":
        levels = {"num_feature_levels": 2, "encode_proj_layers": [1], "feat_strides": [16, 32]}
        model = DFineForObjectDetection(DFineConfig(**fields, **levels, decoder_n_points=[6, 6], depth_mult=0.5))
    elif name.startswith("dfine"):
        model = DFineForObjectDetection(DFineConfig(**fields, decoder_n_points=[3, 6, 3], depth_mult=0.34))
    else:
        model = RTDetrV2ForObjectDetection(RTDetrV2Config(**fields))
    norms = [module for module in model.modules() if "BatchNorm" in type(module).__name__]
    hooks = [norm.register_forward_pre_hook(take_statistics) for norm in norms]
    with torch.no_grad():
        for key, value in model.named_parameters():
            if ".lab." in key:
                value.uniform_(0.1, 1)
            elif not value.any():
                value.normal_(0, 0.05)
        model.eval()(IMAGES)
    for hook in hooks:
        hook.remove()
    return model


def take_statistics(norm, inputs):
    """Before the first forward pass of a batch norm: values of its own that keep what goes through it alive."""
    norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
    norm.running_var.copy_(inputs[0].var((0, 2, 3)))
    norm.weight.uniform_(0.5, 1.5)
    norm.bias.normal_(0, 0.5)


PREPARED = {
    "do_normalize": False,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "image_processor_type": "RTDetrImageProcessor",
    "size": {"height": 480, "width": 480},
}


def change(file, **fields):
    file.write_text(json.dumps((json.loads(file.read_text()) if file.is_file() else {}) | fields))


def save(model, folder):
    """As it was published, with fields of older versions."""
    model.save_pretrained(folder)
    change(folder / "config.json", backbone=None, use_timm_backbone=False, backbone_kwargs=None)
    change(folder / "preprocessor_config.json", **PREPARED)


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    save(published("dfine-nano-coco"), folder)
    return folder


@pytest.fixture
def copy_of_nano(nano, tmp_path):
    for file in nano.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_folder_without_weights(copy_of_nano):
    (copy_of_nano / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        catalogue.open_folder(copy_of_nano)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_backbone_has_a_network_with_the_same_tensors(name):
    config = backbone_config(name)
    architecture = architecture_of(config, name)
    assert architecture == PUBLISHED[name][0]
    with torch.device("meta"):
        theirs, ours = AutoBackbone.from_config(config), build_network(architecture, {})
    renamed = {
        name_in_network(f"model.backbone.model.{key}"): value.shape for key, value in theirs.state_dict().items()
    }
    head = {key for key in ours.state_dict() if key.startswith("head.")}
    assert renamed == {key: value.shape for key, value in ours.state_dict().items() if key not in head}


@pytest.mark.parametrize("name", ["rtdetr_v2_r18vd", "rtdetr_v2_r50vd", "dfine-nano-coco"])
@pytest.mark.slow
def test_computes_what_the_original_does(name, tmp_path):
    original = published(name)
    save(original, tmp_path)
    model = catalogue.open_folder(tmp_path)
    assert type(model) is type(original)
    assert not model.training
    assert model.config.backbone_config.architecture == PUBLISHED[name][0]
    # With fewer digits the rounding of fifty random layers would choose other queries.
    images = IMAGES.double()
    for module in model.modules():
        module._forward_hooks.clear()  # that make boxes float32
    with torch.no_grad():
        theirs, ours = original.double()(images), model.double()(images)
        maps = [detector.model.backbone.model(images).feature_maps for detector in (original, model)]
    for expected, given in zip(*maps, strict=True):
        assert expected.std() > 0.1
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-6)
    assert theirs.logits.std(1).min() > 0.1
    assert theirs.pred_boxes[..., :2].std(1).min() > 0.01
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.pred_boxes, theirs.pred_boxes, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_images_are_prepared_as_the_checkpoint_says(copy_of_nano):
    processor = any_detector.image_processor(catalogue.open_folder(copy_of_nano))
    assert (processor.image_mean, processor.image_std, processor.input_size) == ([0.0] * 3, [1.0] * 3, (480, 480))
    change(copy_of_nano / "preprocessor_config.json", do_normalize=True, size={"height": 500, "width": 500})
    processor = any_detector.image_processor(catalogue.open_folder(copy_of_nano))
    assert (processor.image_mean, processor.image_std) == (PREPARED["image_mean"], PREPARED["image_std"])
    assert processor.input_size == (480, 480)  # a multiple of 32
    (copy_of_nano / "preprocessor_config.json").unlink()
    assert saved_input_settings(copy_of_nano) == {"image_size": 640, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}


@pytest.mark.slow
def test_is_trained_for_other_classes_saved_and_opened(nano, tmp_path):
    donor = catalogue.open_folder(nano)
    model, report = catalogue.for_classes(donor, NAMES, image_size=64, frozen_stages=2)
    # Strides 16 and 32 have 16 and 4 cells.
    assert (model.config.num_queries, model.config.image_size) == (20, 64)
    assert all("class_embed" in name or "score_head" in name for name in report.reinitialised)
    inside = "model.backbone.model.network."
    assert {name for name in donor.state_dict() if name.startswith(inside)} <= set(report.loaded)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.01)
    model.train()(torch.rand(2, 3, 64, 64), labels=TWO_IMAGES).loss.backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = (f"{inside}stem.", f"{inside}stages.0.", f"{inside}stages.1.", f"{inside}head.")
    assert not {name for name in changed if name.startswith(frozen)}
    trained = {name for name in before if name.startswith((f"{inside}stages.2.", f"{inside}stages.3."))}
    # transformers' norms are frozen, these average.
    assert {name for name in trained if name.endswith((".conv.weight", ".bn.weight", ".running_mean"))} <= changed
    any_detector.save(model.eval(), tmp_path)
    again = catalogue.open_folder(tmp_path)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(again(images).logits, model(images).logits)
    assert again.config.backbone_config.image_mean == [0.0] * 3


@pytest.mark.slow
def test_a_backbone_starts_from_it(nano):
    donor = catalogue.open_folder(nano)
    backbone = AgsspBackbone.from_architecture("hgnetv2_b0", start=nano)
    state = donor.model.backbone.model.network.state_dict()
    assert set(backbone.start_report.missing) == {
        name for name in state if name.startswith("head.") or name.endswith("num_batches_tracked")
    }
    assert all(torch.equal(backbone.network.state_dict()[name], state[name]) for name in backbone.start_report.matched)
    neck_and_head = {name for name in load_file(nano / "model.safetensors") if "backbone" not in name}
    assert set(backbone.start_report.left_out) == neck_and_head
    assert backbone.config.image_mean == [0.0] * 3
    # And back into a detector that was opened from the same checkpoint.
    assert any("stages.3" in name for name in catalogue.detr.load_backbone(donor, backbone).loaded)


@pytest.mark.slow
def test_by_its_name_on_the_hub(nano, tmp_path):
    with LocalHub(tmp_path / "hub") as hub:
        hub.publish("ustc-community/dfine-nano-coco", {file.name: file.read_bytes() for file in nano.iterdir()})
        program = """
            import json
            from agssp.models.backbone import AgsspBackbone
            from agssp.models.detection import catalogue
            name = "ustc-community/dfine-nano-coco"
            model = catalogue.open_folder(name)
            backbone = AgsspBackbone.from_architecture("hgnetv2_b0", start=name)
            inside = model.model.backbone.model.network.stages[3].blocks[0].layers[0].conv1.conv.weight
            same = (inside == backbone.network.stages[3].blocks[0].layers[0].conv1.conv.weight).all().item()
            print(json.dumps([model.config.image_size, backbone.config.image_mean, same]))
        """
        assert hub.run(program).value == [480, [0.0] * 3, True]


@pytest.mark.slow
def test_tensors_that_do_not_fit(copy_of_nano):
    file = copy_of_nano / "model.safetensors"
    state = load_file(file)
    name = "model.backbone.model.encoder.stages.0.blocks.0.layers.0.convolution.weight"
    save_file({key: value for key, value in state.items() if key != name}, file, {"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing \(model\.backbone\.model\.encoder\.stages\.0"):
        catalogue.open_folder(copy_of_nano)
    save_file(state | {"model.backbone.model.encoder.extra": torch.zeros(1)}, file, {"format": "pt"})
    with pytest.raises(InputError, match=r"1 unexpected \(model\.backbone\.model\.encoder\.extra"):
        catalogue.open_folder(copy_of_nano)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("rtdetr_v2_r18vd", {"depths": [2, 2, 2, 3]}, r"depths=\[2, 2, 2, 3\].*resnet18vd, resnet34vd, resnet50d"),
        ("rtdetr_v2_r50vd", {"downsample_in_bottleneck": True}, "downsample_in_bottleneck=True"),
        ("rtdetr_v2_r50vd", {"hidden_act": "silu"}, "hidden_act=silu"),
        ("dfine-small-coco", {"stage_num_blocks": [1, 1, 2, 2]}, r"stage_num_blocks=\[1, 1, 2, 2\].*hgnetv2_b0"),
        ("dfine-small-coco", {"use_learnable_affine_block": False}, "use_learnable_affine_block=False"),
        ("dfine-large-coco", {"use_learnable_affine_block": True}, "use_learnable_affine_block=True"),
        ("dfine-large-coco", {"stem_strides": [1, 1, 1, 2, 1]}, r"stem_strides=\[1, 1, 1, 2, 1\]"),
    ],
)
def test_backbones_that_are_no_known_network(name, fields, message):
    with pytest.raises(InputError, match=f"some/where: its backbone.*{message}"):
        architecture_of(backbone_config(name, **fields), "some/where")


def test_another_kind_of_backbone():
    with pytest.raises(InputError, match=r"backbone of type 'timm_backbone'.*rt_detr_resnet or hgnet_v2"):
        architecture_of(TimmBackboneConfig(backbone="resnet18"), "some/where")
