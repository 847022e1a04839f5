"""transformers' RT-DETR v2 and D-FINE as we build them: equal to those built by hand, trainable, saved, transferred."""

import copy
import pickle

import numpy as np
import pytest
import torch
from contract_cases import NAMES, TWO_IMAGES, UNUSABLE, assert_trains_beside_others, labels_of
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.ops import box_convert
from transformers import (
    AutoImageProcessor,
    AutoModelForObjectDetection,
    DFineConfig,
    DFineForObjectDetection,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
    pipeline,
)

from agssp.errors import InputError
from agssp.evaluation.detection_metrics import DetectionMetrics
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.detection import detr
from agssp.models.detection.any_detector import post_process
from agssp.models.detection.image_processing import LetterboxImageProcessor


def widths(width):
    names = ("d_model", "encoder_hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim")
    return dict.fromkeys(names, width) | {"decoder_in_channels": [width] * 3}


SMALL = widths(32) | {
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "decoder_layers": 2,
    "num_queries": 20,
    "num_denoising": 10,
    "hidden_expansion": 0.5,
}
BY_HAND = {
    "rtdetr_v2_s": (RTDetrV2Config, RTDetrV2ForObjectDetection, {}),
    "dfine_s": (DFineConfig, DFineForObjectDetection, {"depth_mult": 0.34, "decoder_n_points": [3, 6, 3]}),
}
ALL = pytest.mark.parametrize("kind", BY_HAND)
BOXES = [(0.3, 0.3, 0.4, 0.4), (0.6, 0.5, 0.5, 0.3), (0.5, 0.7, 0.3, 0.5)]


def build(kind, id2label=None, seed=0, frozen_stages=0, **fields):
    torch.manual_seed(seed)
    backbone = AgsspBackboneConfig(architecture="test_resnet", frozen_stages=frozen_stages)
    return detr.build_detr(kind, backbone, id2label or NAMES, 64, **(SMALL | fields))


@ALL
def test_a_batch_without_any_box_trains_every_parameter(kind):
    model = build(kind).train()
    out = model(torch.rand(2, 3, 64, 64), labels=labels_of([], []))
    out.loss.backward()
    assert [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None] == []
    assert out.loss_dict["vfl"] > 0
    assert all(value == 0 for name, value in out.loss_dict.items() if name != "vfl")
    torch.testing.assert_close(out.loss, sum(out.loss_dict.values()))


@ALL
def test_equal_to_the_model_built_by_hand(kind):
    config_class, model_class, fields = BY_HAND[kind]
    model = build(kind)
    assert type(model) is model_class
    plain = model_class(
        config_class(
            backbone_config=AgsspBackboneConfig(architecture="test_resnet", out_indices=[2, 3, 4]),
            encoder_in_channels=[48, 192, 96],
            freeze_backbone_batch_norms=False,
            id2label=NAMES,
            label2id={name: index for index, name in NAMES.items()},
            **SMALL,
            **fields,
        )
    )
    plain.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 64, 96)
    for mode in (False, True):
        results = []
        for network in (model, plain):
            torch.manual_seed(3)  # for the denoising queries
            results.append(network.train(mode)(images, labels=TWO_IMAGES))
        ours, theirs = results
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.pred_boxes, theirs.pred_boxes, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.loss, theirs.loss)
        names = {"vfl", "bbox", "giou"}
        if kind == "dfine_s" and mode:
            names |= {"fgl", "ddf"}
        assert set(ours.loss_dict) == names
        for name, value in ours.loss_dict.items():
            summed = sum(part for key, part in theirs.loss_dict.items() if key.startswith(f"loss_{name}"))
            torch.testing.assert_close(value, summed.detach())
        if mode:
            assert any("_dn_" in key for key in theirs.loss_dict)


TOO_SMALL = ((32, 32), None, r"for 22 queries \(such an input has 21 cells\)")


@pytest.mark.parametrize(("size", "labels", "message"), [*UNUSABLE, TOO_SMALL])
def test_input_that_cannot_be_used(size, labels, message):
    model = build("rtdetr_v2_s", num_queries=22)
    with pytest.raises(InputError, match=message):
        model(torch.rand(2, 3, *size), labels=labels)
    with pytest.raises(InputError, match=message):
        model(pixel_values=torch.rand(2, 3, *size), labels=labels)


def test_small_inputs_have_as_many_queries_as_cells():
    queries = {}
    for size in (64, 96, 128, 640):
        with torch.device("meta"):
            model = detr.build_detr("dfine_s", AgsspBackboneConfig(architecture="test_resnet"), NAMES, size)
        queries[size] = model.config.num_queries
    assert queries == {64: 84, 96: 189, 128: 300, 640: 300}


@pytest.mark.slow
def test_the_kinds_have_their_papers_sizes():
    backbone = AgsspBackboneConfig(architecture="resnet18d")
    with torch.device("meta"):
        sizes = {
            kind: sum(value.numel() for value in detr.build_detr(kind, backbone, NAMES).parameters()) / 1e6
            for kind in detr.KINDS
        }
    backbone_size = sum(value.numel() for value in AgsspBackbone(backbone).parameters()) / 1e6
    # RT-DETRv2-S is published with 20 million parameters on ResNet18.
    assert sizes["rtdetr_v2_s"] == pytest.approx(20, abs=0.5)
    assert backbone_size < sizes["dfine_s"] < sizes["rtdetr_v2_s"] < sizes["dfine_l"] < sizes["rtdetr_v2_l"]


@ALL
@pytest.mark.parametrize("labels", [TWO_IMAGES, labels_of([], [(0, BOXES[2])])])
def test_every_trained_parameter_gets_a_gradient(kind, labels):
    model = build(kind, frozen_stages=2).train()
    model(torch.rand(2, 3, 64, 64), labels=labels).loss.backward()
    assert [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None] == []
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    constants = {"model.decoder.up", "model.decoder.reg_scale"} if kind == "dfine_s" else set()
    assert {name for name in frozen if not name.startswith("model.backbone.model.network.")} == constants
    assert len(frozen) > 10


@ALL
def test_a_frozen_backbone_stays_as_it_is(kind):
    model = build(kind, frozen_stages=4).train()
    _, backbone = detr.detector_backbone(model)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.001)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.rand(2, 3, 64, 64), labels=TWO_IMAGES).loss.backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@ALL
@pytest.mark.slow
def test_distributed_training_needs_no_search_for_unused_parameters(kind, tmp_path):
    detr.save_detr(build(kind, frozen_stages=2), tmp_path)
    model = detr.open_detr(tmp_path)
    assert_trains_beside_others(model, tmp_path)


@ALL
def test_bfloat16_autocast_keeps_boxes_in_full_precision(kind):
    model = build(kind).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        full = model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(images)
    # Which of them become queries may change, so what was there before is compared.
    torch.testing.assert_close(half.enc_outputs_class.float(), full.enc_outputs_class, rtol=0.02, atol=0.05)
    finite = full.enc_outputs_coord_logits < 100
    torch.testing.assert_close(
        half.enc_outputs_coord_logits[finite], full.enc_outputs_coord_logits[finite], rtol=0.02, atol=0.05
    )
    assert half.pred_boxes.dtype == torch.float32
    assert (half.pred_boxes != half.pred_boxes.bfloat16()).float().mean() > 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.train()(images, labels=TWO_IMAGES).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value.grad).all() for value in model.parameters() if value.grad is not None)


@ALL
@pytest.mark.slow
def test_saving_and_loading_is_exact(kind, tmp_path):
    model = build(kind).eval()
    detr.save_detr(model, tmp_path)
    images = torch.rand(1, 3, 96, 64)
    for loaded in (AutoModelForObjectDetection.from_pretrained(tmp_path), detr.open_detr(tmp_path)):
        assert type(loaded) is type(model)
        assert not loaded.training
        assert loaded.config.id2label == NAMES
        assert loaded.config.image_size == 64
        assert isinstance(loaded.config.backbone_config, AgsspBackboneConfig)
        assert detr.detector_backbone(loaded)[1].config is loaded.config.backbone_config
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
        with torch.no_grad():
            torch.testing.assert_close(loaded(images).logits, model(images).logits, rtol=0, atol=1e-5)
    assert loaded.accepts_loss_kwargs is False
    trained = [[name for name, value in m.named_parameters() if value.requires_grad] for m in (loaded, model)]
    assert trained[0] == trained[1]
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, LetterboxImageProcessor)
    assert processor.image_mean == model.config.backbone_config.image_mean


@ALL
@pytest.mark.slow
def test_a_checkpoint_is_loaded_whole_as_trainer_does_it(kind, tmp_path):
    source, target = build(kind, seed=1), build(kind, seed=2)
    source.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert not {*state} <= {*source.state_dict()}, "transformers saves under other names"
    result = target.load_state_dict(state, strict=False)
    assert result.unexpected_keys == []
    tied = {name for name in source.state_dict() if name.startswith(("class_embed.", "bbox_embed."))}
    assert {*result.missing_keys} <= tied  # the same tensors as the decoder's
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())
    target.load_state_dict(source.state_dict())


def test_copies_train_as_well():
    model = build("rtdetr_v2_s").train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    images, labels = torch.rand(2, 3, 64, 64), labels_of([(1, BOXES[0])], [])

    def gradients(one):
        torch.manual_seed(1)  # of the denoising queries
        out = one(images, labels=labels)
        out.loss.backward()
        return out.loss.detach(), {name: value.grad for name, value in one.named_parameters() if value.requires_grad}

    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    loss, expected = gradients(model)
    assert all(value.abs().sum() > 0 for name, value in expected.items() if "denoising" in name or "class" in name)
    for other in copies:
        assert all(
            torch.equal(value, state[name]) for name, value in other.state_dict().items() if "running" not in name
        )
        assert {id(value) for value in other.parameters()}.isdisjoint(map(id, model.parameters()))
        torch.testing.assert_close(gradients(other), (loss, expected))
    # Also in a batch without any box, of which the labels' embedding is no part: see the first test.
    for other in copies:
        other.zero_grad()
        other(torch.rand(1, 3, 64, 64), labels=labels_of([])).loss.backward()
        assert [name for name, value in other.named_parameters() if value.requires_grad and value.grad is None] == []


def test_folders_that_hold_no_such_detector(tmp_path):
    with pytest.raises(InputError, match="cannot be opened"):
        detr.open_detr(tmp_path / "none")
    AgsspBackbone(AgsspBackboneConfig(architecture="test_resnet")).save_pretrained(tmp_path / "backbone")
    with pytest.raises(InputError, match="'agssp_backbone', expected rt_detr_v2 or d_fine"):
        detr.open_detr(tmp_path / "backbone")
    detr.save_detr(build("rtdetr_v2_s"), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["model.enc_output.0.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing \(model.enc_output.0.weight\)"):
        detr.open_detr(tmp_path)


@pytest.mark.parametrize(
    ("kind", "architecture", "image_size", "message"),
    [
        ("rtdetr", "test_resnet", 64, "expected one of rtdetr_v2_s, rtdetr_v2_l, dfine_s, dfine_l"),
        ("dfine_s", "test_resnet", 100, "multiple of 32"),
        ("dfine_s", "test_vit", 64, "has features at strides"),
    ],
)
def test_detectors_that_cannot_be_built(kind, architecture, image_size, message):
    with pytest.raises(InputError, match=message):
        detr.build_detr(kind, AgsspBackboneConfig(architecture=architecture), NAMES, image_size, **SMALL)


@ALL
@pytest.mark.slow
def test_transfer_to_other_classes(kind):
    source, target = build(kind, seed=1), build(kind, {0: "crack", 1: "scale"}, seed=2)
    before = target.class_embed[0].weight.clone()
    report = detr.transfer(target, source)
    dropped = {name for name in source.state_dict() if "class_embed" in name or "enc_score_head" in name}
    assert {*report.reinitialised} == {*report.left_out} == dropped
    shapes = {name: value.shape for name, value in source.state_dict().items()}
    assert {name for name, value in target.state_dict().items() if value.shape != shapes[name]} == dropped
    state = target.state_dict()
    assert all(torch.equal(state[name], source.state_dict()[name]) for name in report.loaded)
    assert not torch.equal(target.class_embed[0].weight, before)
    # Each class is taken for as likely as any other and the background.
    torch.testing.assert_close(target.class_embed[0].bias.sigmoid(), torch.full((2,), 1 / 3))
    assert "2 classes of its own (crack, scale)" in str(report)
    out = target.train()(torch.rand(1, 3, 64, 64), labels=labels_of([(1, BOXES[0])]))
    assert torch.isfinite(out.loss)


@ALL
def test_transfer_to_the_same_classes_takes_everything(kind):
    source, target = build(kind, seed=1), build(kind, seed=2)
    assert not detr.transfer(target, source).reinitialised
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(target.eval()(images).logits, source.eval()(images).logits)


def test_transfer_between_different_detectors_is_refused():
    with pytest.raises(InputError, match="kind of detector differs: this detector has d_fine, the source has rt_detr"):
        detr.transfer(build("dfine_s"), build("rtdetr_v2_s"))


def test_a_pretrained_backbone_is_taken_over_whatever_features_it_gave():
    config = AgsspBackboneConfig(architecture="test_resnet", out_indices=[-1], image_mean=[0.4, 0.5, 0.6])
    backbone, model = AgsspBackbone(config), build("rtdetr_v2_s")
    report = detr.load_backbone(model, backbone)
    assert len(report.loaded) == len(backbone.state_dict())
    assert all(torch.equal(model.state_dict()[name], backbone.state_dict()[name[21:]]) for name in report.loaded)
    assert detr.image_processor(model).image_mean == [0.4, 0.5, 0.6]
    assert detr.image_processor(model, 96).input_size == (96, 96)


def test_pipeline_gives_the_boxes_of_the_model(tmp_path):
    model = build("rtdetr_v2_s").eval()
    detr.save_detr(model, tmp_path)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    detect = pipeline("object-detection", model=str(tmp_path), image_processor=str(tmp_path), device="cpu")
    found = detect(picture, threshold=0.2)
    with torch.no_grad():
        outputs = model(detr.image_processor(model)(picture, return_tensors="pt")["pixel_values"])
    (expected,) = post_process(model, outputs, threshold=0.2, target_sizes=[(90, 120)], input_size=(64, 64))
    assert len(found) == len(expected["scores"]) > 0
    assert [row["score"] for row in found] == pytest.approx(expected["scores"].tolist(), abs=1e-5)
    assert [list(row["box"].values()) for row in found] == expected["boxes"].int().tolist()


@ALL
@pytest.mark.slow
def test_it_learns_a_fixed_batch(kind):
    model = build(kind, **widths(64)).train()
    images = torch.full((4, 3, 64, 64), 0.45)
    labels = labels_of(*[[(index, box)] for index, box in enumerate(BOXES)], [])
    corners = [box_convert(torch.tensor([box]), "cxcywh", "xyxy") * 64 for box in BOXES]
    for index, ((left, top, right, bottom),) in enumerate(corners):
        images[index, index, int(top) : int(bottom), int(left) : int(right)] = 1.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=100, pct_start=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        model(images, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        outputs = model.eval()(images)
    metrics = DetectionMetrics(list(NAMES.values()))
    results = post_process(
        model, outputs, threshold=0.001, target_sizes=[(64, 64)] * 4, input_size=(64, 64), multi_label=True
    )
    for index, result in enumerate(results):
        target = (corners[index], [index]) if index < 3 else ([], [])
        metrics.update(index, result["boxes"], result["scores"], result["labels"], *target)
    assert metrics.compute()["map_50"] == pytest.approx(1.0)
