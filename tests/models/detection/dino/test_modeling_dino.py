"""The detector as a module: labels, gradients, freezing, denoising, saving, transfer, the Auto classes, learning."""

import json
import math

import numpy as np
import pytest
import torch
from contract_cases import (
    NAMES,
    TWO_IMAGES,
    UNUSABLE,
    assert_backbone_stays_frozen,
    assert_takes_over,
    assert_trains_beside_others,
    labels_of,
)
from dino_cases import build, config_of, random_labels
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.ops import box_convert
from transformers import AutoConfig, AutoImageProcessor, AutoModelForObjectDetection, pipeline

from agssp.errors import InputError
from agssp.evaluation.detection_metrics import DetectionMetrics
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.detection.dino import DinoConfig, DinoForObjectDetection, modeling_dino
from agssp.models.detection.dino.denoising import denoising_queries
from agssp.models.detection.dino.loss import denoising_matches, flat_targets, match, set_losses
from agssp.models.detection.image_processing import LetterboxImageProcessor

OTHER_NAMES = {0: "crack", 1: "scale"}
OF_THE_CLASSES = {
    "denoising_embed.weight",
    *(
        f"{part}.classes.{kind}"
        for part in ("decoder.heads.0", "decoder.heads.1", "query_selection.heads")
        for kind in ("weight", "bias")
    ),
}


@pytest.fixture(scope="module")
def detector():
    return build().eval()


def without_gradient(model):
    return [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]


def test_a_batch_without_any_box_has_class_losses_only(detector):
    for mode in (True, False):
        out = detector.train(mode)(torch.rand(2, 3, 64, 64), labels_of([], []))
        assert out.loss_dict["class"] > 0
        assert out.loss_dict["encoder"] > 0
        assert out.loss_dict["bbox"] == out.loss_dict["giou"] == out.loss_dict["denoising"] == 0
        torch.testing.assert_close(out.loss, sum(out.loss_dict.values()))


@pytest.mark.parametrize(("height", "width", "queries"), [(64, 64, 30), (32, 96, 30), (32, 32, 22)])
def test_shapes_are_the_same_in_training_and_evaluation(height, width, queries):
    model = build()
    for mode in (True, False):
        out = model.train(mode)(torch.rand(2, 3, height, width), TWO_IMAGES)
        assert out.logits.shape == (2, queries, 3)
        assert out.pred_boxes.shape == (2, queries, 4)
        assert (out.pred_boxes > 0).all()
        assert (out.pred_boxes < 1).all()
        assert out.loss.shape == ()
        assert list(out.loss_dict) == ["class", "bbox", "giou", "encoder", "denoising"]
        assert (out.loss_dict["denoising"] > 0) == mode
        torch.testing.assert_close(out.loss, sum(out.loss_dict.values()))
    assert model(torch.rand(1, 3, height, width)).loss is None


def test_tuple_output(detector):
    loss, parts, logits, boxes = detector(torch.rand(1, 3, 64, 64), labels_of([]), return_dict=False)
    assert loss.ndim == 0
    assert isinstance(parts, dict)
    assert logits.shape[:2] == boxes.shape[:2]


@pytest.mark.parametrize(("size", "labels", "message"), UNUSABLE)
def test_input_that_cannot_be_used(detector, size, labels, message):
    with pytest.raises(InputError, match=message):
        detector(torch.rand(2, 3, *size), labels)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 100}, "multiple of 32"),
        ({"d_model": 48}, "multiple of 32"),
        ({"decoder_attention_heads": 5}, "divides d_model"),
        ({"num_feature_levels": 2}, "3 or more"),
        ({"encoder_layers": 0}, "encoder_layers=0"),
        ({"num_queries": 0}, "num_queries=0"),
        ({"label_noise_ratio": 1.5}, r"label_noise_ratio=1.5"),
    ],
)
def test_configurations_that_cannot_be_used(fields, message):
    with pytest.raises(InputError, match=message):
        config_of(**fields)


def test_a_backbone_without_the_three_strides_is_refused():
    backbone = AgsspBackboneConfig(architecture="test_resnet", out_indices=[1, 2, 3])
    with pytest.raises(InputError, match="takes 8, 16 and 32"):
        DinoForObjectDetection(DinoConfig(backbone_config=backbone))


def test_defaults_are_the_papers():
    config = DinoConfig()
    assert config.id2label == {0: "defect"}
    assert config.backbone_config.architecture == "resnet50"
    assert (config.encoder_layers, config.decoder_layers, config.num_queries) == (6, 6, 900)
    assert (config.class_cost, config.bbox_cost, config.giou_cost) == (2, 5, 2)
    assert (config.num_denoising, config.label_noise_ratio, config.box_noise_scale) == (100, 0.5, 1.0)


def test_fresh_heads_change_no_box_and_score_one_in_a_hundred():
    torch.manual_seed(0)
    model = DinoForObjectDetection(config_of())
    for heads in (*model.decoder.heads, model.query_selection.heads):
        torch.testing.assert_close(heads.classes.bias.sigmoid(), torch.full((3,), 0.01))
        assert not heads.boxes.layers[-1].weight.any()
        assert not heads.boxes.layers[-1].bias.any()
    # Deformable attention looks to all sides at first.
    offsets = model.encoder.layers[0].self_attn.sampling_offsets
    assert not offsets.weight.any()
    assert sorted({round(value, 3) for value in offsets.bias.tolist()}) == [-4, -3, -2, -1, 0, 1, 2, 3, 4]
    assert model.encoder.level_embed.std().item() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("labels", [TWO_IMAGES, labels_of([], []), random_labels(3, 5)])
@pytest.mark.parametrize("frozen_stages", [0, 4])
def test_every_trained_parameter_gets_a_gradient(labels, frozen_stages):
    model = build(frozen_stages=frozen_stages).train()
    assert model.backbone.network.conv1[0].weight.requires_grad == (frozen_stages == 0)
    model(torch.rand(2, 3, 64, 64), labels).loss.backward()
    assert without_gradient(model) == []


def test_without_denoising_every_parameter_still_gets_a_gradient():
    model = build(num_denoising=0).train()
    model(torch.rand(2, 3, 64, 64), TWO_IMAGES).loss.backward()
    assert without_gradient(model) == []
    assert not model.denoising_embed.weight.grad.any()


def test_a_frozen_backbone_stays_as_it_is():
    model = build(frozen_stages=4)
    assert_backbone_stays_frozen(model)


@pytest.mark.parametrize("architecture", ["yolov8n", "test_convnext"])
def test_other_backbones(architecture):
    fields = config_of().to_dict() | {"backbone_config": AgsspBackboneConfig(architecture=architecture)}
    model = DinoForObjectDetection(DinoConfig(**fields)).train()
    out = model(torch.rand(2, 3, 64, 64), TWO_IMAGES)
    out.loss.backward()
    assert out.logits.shape == (2, 30, 3)
    assert without_gradient(model) == []


def test_the_loss_is_that_of_its_parts(monkeypatch):
    """Decoder layers, proposals and denoising queries put together by hand from what the parts of the model give."""
    model = build(box_noise_scale=0.4).train()
    model.backbone.eval()
    labels, images = random_labels(2, 1), torch.rand(2, 3, 64, 64)
    made = []
    monkeypatch.setattr(
        modeling_dino, "denoising_queries", lambda *args: made.append(denoising_queries(*args)) or made[-1]
    )
    decoded = []
    model.decoder.register_forward_hook(lambda _module, _args, output: decoded.append(output))
    out = model(images, labels)
    (noisy,), ((logits, boxes),) = made, decoded
    count = len(noisy.groups)
    assert count == 12
    selected = model.query_selection(model.encoder(model.backbone(images).feature_maps))
    targets = flat_targets(labels, images.device)

    def weighted(losses):
        return losses.sum(0) * torch.tensor([1.0, 5.0, 2.0]) / 3

    def matched(logits, boxes):
        return weighted(set_losses(logits, boxes, targets, match(logits, boxes, targets, (2, 5, 2), 0.25), 0.25))

    layers = matched(logits[:, :, count:], boxes[:, :, count:])
    for name, expected in zip(("class", "bbox", "giou"), layers, strict=True):
        torch.testing.assert_close(out.loss_dict[name], expected)
    proposals = matched(selected.logits[None], selected.box_logits.sigmoid()[None])
    torch.testing.assert_close(out.loss_dict["encoder"], proposals.sum())
    matches = denoising_matches(noisy, [2, 1], 2)
    denoised = set_losses(logits[:, :, :count], boxes[:, :, :count], targets, matches, 0.25, noisy.real)
    torch.testing.assert_close(out.loss_dict["denoising"], weighted(denoised).sum() / 3)
    torch.testing.assert_close(out.logits, logits[-1, :, count:])
    torch.testing.assert_close(out.pred_boxes, boxes[-1, :, count:])


def test_denoising_queries_tell_the_matching_ones_nothing():
    model = build().train()
    model.backbone.eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        alone, with_answers = model(images), model(images, random_labels(4, 2))
    assert with_answers.loss_dict["denoising"] > 0
    torch.testing.assert_close(alone.logits, with_answers.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(alone.pred_boxes, with_answers.pred_boxes, rtol=0, atol=1e-4)


def test_what_fills_up_a_group_does_not_matter():
    model = build(label_noise_ratio=0.0, box_noise_scale=0.0, num_denoising=4).train()
    model.backbone.eval()
    images, labels = torch.rand(2, 3, 64, 64), random_labels(1, 4)
    with torch.no_grad():
        both = model(images, labels).loss * 5
        # One group of four against four groups of one: without noise every group is the same.
        first = model(images[:1], labels[:1]).loss
        second = model(images[1:], labels[1:]).loss * 4
    torch.testing.assert_close(both, first + second, rtol=1e-4, atol=1e-4)


def test_the_same_random_state_gives_the_same_loss():
    model = build().train()
    model.backbone.eval()
    images = torch.rand(2, 3, 64, 64)
    losses = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        losses.append(model(images, TWO_IMAGES).loss.item())
    assert losses[0] == losses[1] != losses[2]
    with torch.no_grad():
        evaluated = {model.eval()(images, TWO_IMAGES).loss.item() for _ in range(2)}
    assert len(evaluated) == 1


def test_gradient_checkpointing_changes_nothing():
    gradients = []
    for checkpointing in (False, True):
        model = build().train()
        model.backbone.eval()
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(1)
        model(torch.rand(2, 3, 64, 64), TWO_IMAGES).loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bfloat16_autocast_keeps_the_loss_in_full_precision(attention):
    model = build().train()
    model.backbone.eval()
    assert model.config._attn_implementation == "sdpa"
    model.config._attn_implementation = attention
    images = torch.rand(2, 3, 64, 64)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(2)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = model(images, TWO_IMAGES)
        out.loss.backward()
        assert out.loss.dtype == out.pred_boxes.dtype == torch.float32
        losses.append(out.loss)
    assert without_gradient(model) == []
    torch.testing.assert_close(losses[1], losses[0], rtol=0.1, atol=0)


def test_distributed_training_needs_no_search_for_unused_parameters(tmp_path):
    build(frozen_stages=4).save_pretrained(tmp_path)
    model = DinoForObjectDetection.from_pretrained(tmp_path)
    assert_trains_beside_others(model, tmp_path)


def test_saving_and_loading_is_exact(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    loaded = DinoForObjectDetection.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path / "again")
    for file in ("config.json", "preprocessor_config.json"):
        first, second = (json.loads((folder / file).read_text()) for folder in (tmp_path, tmp_path / "again"))
        for config in (first, second):
            # transformers writes the dtype of a part only after it has loaded it.
            config.get("backbone_config", {}).pop("dtype", None)
        assert first == second
    expected = detector.state_dict()
    assert list(loaded.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = loaded.eval()(images), detector.eval()(images)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.pred_boxes, theirs.pred_boxes, rtol=0, atol=1e-5)


def test_auto_classes_open_a_local_folder(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), DinoConfig)
    loaded = AutoModelForObjectDetection.from_pretrained(tmp_path)
    assert isinstance(loaded, DinoForObjectDetection)
    assert loaded.config.id2label == NAMES
    assert isinstance(loaded.config.backbone_config, AgsspBackboneConfig)
    assert isinstance(AutoImageProcessor.from_pretrained(tmp_path), LetterboxImageProcessor)


@pytest.mark.slow
def test_pipeline_gives_the_boxes_of_the_model(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    detect = pipeline("object-detection", model=str(tmp_path), image_processor=str(tmp_path), device="cpu")
    found = detect(picture, threshold=0.2)
    with torch.no_grad():
        outputs = detector.eval()(detector.image_processor()(picture, return_tensors="pt")["pixel_values"])
    (expected,) = detector.post_process_object_detection(outputs, threshold=0.2, target_sizes=[(90, 120)])
    assert len(found) == len(expected["scores"]) > 0
    assert [row["score"] for row in found] == pytest.approx(expected["scores"].tolist(), abs=1e-5)
    assert [row["label"] for row in found] == [NAMES[label] for label in expected["labels"].tolist()]


def test_boxes_on_the_original_image(detector):
    logits = torch.full((1, 3, 3), -9.0)
    logits[0, 0, 1], logits[0, 0, 2], logits[0, 1, 0] = 2.0, 1.0, 3.0
    boxes = torch.tensor([[[0.5, 0.5, 0.25, 0.25], [0.5, 0.5, 0.25, 0.25], [0.5, 0.1, 0.1, 0.1]]])
    outputs = modeling_dino.DinoObjectDetectionOutput(logits=logits, pred_boxes=boxes)
    # 128 x 64 pixels in a square of 64: half the size, 16 rows of grey above and below.
    (result,) = detector.post_process_object_detection(outputs, target_sizes=[(64, 128)])
    assert result["labels"].tolist() == [0, 1], "no suppression of equal boxes"
    torch.testing.assert_close(result["boxes"], torch.tensor([[48.0, 16.0, 80.0, 48.0]]).expand(2, -1))
    (result,) = detector.post_process_object_detection(outputs, multi_label=True, max_detections=3)
    assert result["labels"].tolist() == [0, 1, 2]
    torch.testing.assert_close(result["scores"], torch.tensor([3.0, 2.0, 1.0]).sigmoid())
    torch.testing.assert_close(result["boxes"][0], torch.tensor([0.375, 0.375, 0.625, 0.625]))
    (result,) = detector.post_process_object_detection(outputs, threshold=0.99, target_sizes=[(64, 128)])
    assert result["boxes"].shape == (0, 4)


def test_folders_that_hold_no_such_detector(detector, tmp_path):
    with pytest.raises(InputError, match="expected a detector of type agssp_dino"):
        DinoForObjectDetection.from_pretrained(tmp_path)
    detector.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.level_embed"]
    state["decoder.heads.0.classes.weight"] = torch.zeros(1, 64)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing \(encoder.level_embed\); 1 of another shape \(decoder.heads.0"):
        DinoForObjectDetection.from_pretrained(tmp_path)


def test_loading_with_other_classes_initialises_only_what_depends_on_them(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    loaded = DinoForObjectDetection.from_pretrained(
        tmp_path, id2label=OTHER_NAMES, label2id={"crack": 0, "scale": 1}, ignore_mismatched_sizes=True
    )
    expected = detector.state_dict()
    fresh = {name for name, value in loaded.state_dict().items() if value.shape != expected[name].shape}
    assert fresh == OF_THE_CLASSES
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items() if name not in fresh)
    torch.testing.assert_close(loaded.decoder.heads[1].classes.bias.sigmoid(), torch.full((2,), 0.01))
    assert 0 < loaded.decoder.heads[1].classes.weight.std() < 1


def test_transfer_to_other_classes():
    source, target = build(seed=1), build(seed=2, id2label=OTHER_NAMES)
    report = target.transfer_from(source)
    assert set(report.reinitialised) == set(report.left_out) == OF_THE_CLASSES
    assert set(report.loaded) == set(source.state_dict()) - OF_THE_CLASSES
    state, expected = target.state_dict(), source.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in report.loaded)
    # Again, not what the target had before.
    torch.testing.assert_close(state["query_selection.heads.classes.bias"], torch.full((2,), -math.log(99)))
    assert "denoising_embed.weight: 2 classes of its own (crack, scale)" in str(report)


def test_transfer_to_the_same_classes_takes_everything():
    source, target = build(seed=1), build(seed=2)
    report = target.transfer_from(source)
    assert not report.reinitialised
    assert set(report.loaded) == set(source.state_dict())
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(target.eval()(images).logits, source.eval()(images).logits)
    other_names = build(seed=3, id2label={0: "a", 1: "b", 2: "c"})
    assert set(other_names.transfer_from(source).reinitialised) == OF_THE_CLASSES


def test_transfer_between_different_architectures_is_refused():
    source = build()
    other = config_of().to_dict() | {"backbone_config": AgsspBackboneConfig(architecture="yolov8n")}
    with pytest.raises(InputError, match="this detector has yolov8n, the source has test_resnet"):
        DinoForObjectDetection(DinoConfig(**other)).transfer_from(source)
    with pytest.raises(InputError, match="do not fit the model"):
        build(decoder_layers=1).transfer_from(source)


def test_a_pretrained_backbone_is_taken_over_with_its_normalisation():
    torch.manual_seed(3)
    config = AgsspBackboneConfig(architecture="test_resnet", image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.3])
    backbone, model = AgsspBackbone(config), build()
    assert_takes_over(model, backbone)


@pytest.mark.slow
def test_it_learns_a_fixed_batch():
    torch.manual_seed(0)
    model = DinoForObjectDetection(config_of()).train()
    images = torch.full((4, 3, 64, 64), 0.45)
    boxes = [(0.3, 0.3, 0.4, 0.4), (0.6, 0.5, 0.5, 0.3), (0.5, 0.7, 0.3, 0.5)]
    labels = labels_of(*[[(index, box)] for index, box in enumerate(boxes)], [])
    corners = [box_convert(torch.tensor([box]), "cxcywh", "xyxy") * 64 for box in boxes]
    for index, ((left, top, right, bottom),) in enumerate(corners):
        images[index, index, int(top) : int(bottom), int(left) : int(right)] = 1.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model(images, labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    with torch.no_grad():
        outputs = model.eval()(images)
    metrics = DetectionMetrics(list(NAMES.values()))
    sizes = [(64, 64)] * 4
    results = model.post_process_object_detection(outputs, threshold=0.001, target_sizes=sizes, multi_label=True)
    for index, result in enumerate(results):
        target = (corners[index], [index]) if index < 3 else ([], [])
        metrics.update(index, result["boxes"], result["scores"], result["labels"], *target)
    assert metrics.compute()["map_50"] == pytest.approx(1.0)
