"""AgsspForPreTraining: Eq. 8, what gets gradients, and what a checkpoint keeps."""

import copy

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForPreTraining

from agssp.errors import InputError
from agssp.models.backbone import AgsspBackbone, AgsspBackboneConfig
from agssp.models.pretraining import AgsspForPreTraining, AgsspPreTrainingConfig
from agssp.models.pretraining.distillation import attention_map, distillation_loss, map_alignment


def build(architecture: str = "test_resnet", frozen_stages: int = 2, out_indices=None, **config) -> AgsspForPreTraining:
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture(architecture, frozen_stages=frozen_stages, out_indices=out_indices)
    return AgsspForPreTraining.from_backbone(backbone, **{"num_labels": 4, **config})


def batch(seed: int = 0, size: int = 96) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pixel_values": torch.randn(4, 3, size, size, generator=generator),
        "anomaly_maps": torch.rand(4, 15, 15, generator=generator),
        "labels": torch.tensor([0, 1, 2, 3]),
    }


def test_first_step_sets_lambda_and_later_steps_keep_it():
    model = build().train()
    assert model.distillation_weight.isnan()
    first = model(**batch(0))
    task, distillation = first.loss_dict["task"], first.loss_dict["distillation"]
    assert model.distillation_weight.item() == pytest.approx((task / distillation).item())
    assert first.loss.item() == pytest.approx(2 * task.item())
    weight = model.distillation_weight.clone()
    second = model(**batch(1))
    assert torch.equal(model.distillation_weight, weight)
    expected = second.loss_dict["task"] + weight * second.loss_dict["distillation"]
    torch.testing.assert_close(second.loss.detach(), expected)
    assert second.loss_dict["distillation_weight"] == weight


def test_loss_equals_equations_on_the_features():
    model, inputs = build(distill_loss="cosine", map_target="minmax").eval(), batch()
    model.distillation_weight.fill_(1.5)
    with torch.no_grad():
        features = model.backbone(inputs["pixel_values"]).feature_maps
        output = model(**inputs)
    pooled = torch.stack([feature.flatten(1).mean(dim=1) for feature in features[-1]])
    logits = pooled @ model.classifier.weight.T + model.classifier.bias
    attentions = [attention_map(feature) for feature in features[-2:]]
    distillation = sum(distillation_loss(a, inputs["anomaly_maps"], "cosine", "minmax") for a in attentions)
    torch.testing.assert_close(output.pooled_features, pooled)
    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.loss, F.cross_entropy(logits, inputs["labels"]) + 1.5 * distillation)
    alignment = sum(map_alignment(a, inputs["anomaly_maps"]) for a in attentions) / 2
    torch.testing.assert_close(output.alignment, alignment)
    assert all(torch.equal(a, b) for a, b in zip(output.attention_maps, attentions, strict=True))


def test_evaluation_does_not_set_lambda():
    model = build().eval()
    output = model(**batch())
    assert model.distillation_weight.isnan()
    assert output.loss.isnan()
    assert output.loss_dict["task"].isfinite()


def test_lambda_is_kept_by_saving_and_by_state_dicts(tmp_path):
    model = build().train()
    model(**batch())
    model.save_pretrained(tmp_path)
    loaded = AgsspForPreTraining.from_pretrained(tmp_path)
    assert torch.equal(loaded.distillation_weight, model.distillation_weight)
    inputs = batch(1)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).loss, model.eval()(**inputs).loss)
        assert isinstance(AutoModelForPreTraining.from_pretrained(tmp_path), AgsspForPreTraining)
    loaded.train()(**inputs)
    assert torch.equal(loaded.distillation_weight, model.distillation_weight)

    other = build().train()
    other(**batch(2))
    other.load_state_dict(model.state_dict())
    other(**batch(2))
    assert torch.equal(other.distillation_weight, model.distillation_weight)


def test_lambda_can_be_reset_for_a_new_run():
    model = build().train()
    model(**batch(0))
    old = model.distillation_weight.clone()
    model.reset_distillation_weight()
    assert model.distillation_weight.isnan()
    model(**batch(1))
    assert model.distillation_weight.isfinite()
    assert not torch.equal(model.distillation_weight, old)


def test_lambda_comes_from_the_first_micro_batch_of_gradient_accumulation():
    model, single = build().train(), build().train()
    for seed in range(3):
        (model(**batch(seed)).loss / 3).backward()
    single(**batch(0))
    assert torch.equal(model.distillation_weight, single.distillation_weight)


def test_fixed_weights_replace_lambda():
    model = build(loss_weights=[0.1, 2.0]).train()
    output = model(**batch())
    expected = 0.1 * output.loss_dict["task"] + 2 * output.loss_dict["distillation"]
    torch.testing.assert_close(output.loss.detach(), expected)
    assert model.distillation_weight.isnan()
    assert output.loss_dict["distillation_weight"] == 2


def test_objective_none_is_distillation_alone():
    model = build(objective="none").train()
    inputs = batch()
    del inputs["labels"]
    output = model(**inputs)
    assert output.logits is None
    assert set(output.loss_dict) == {"distillation"}
    assert torch.equal(output.loss.detach(), output.loss_dict["distillation"])
    assert not hasattr(model, "classifier")


def test_classification_alone():
    model = build(distillation=False).train()
    inputs = batch()
    del inputs["anomaly_maps"]
    output = model(**inputs)
    assert (output.attention_maps, set(output.loss_dict)) == (None, {"task"})


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "swin_tiny_patch4_window7_224", "yolov8n"])
@pytest.mark.parametrize("config", [{}, {"objective": "none"}, {"distillation": False}])
@pytest.mark.slow
def test_gradients_reach_exactly_what_is_trainable(architecture, config):
    model = build(architecture, **config).train()
    model(**batch()).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert any(parameter.requires_grad for parameter in model.parameters())
    assert not all(parameter.requires_grad for parameter in model.parameters())


def test_distillation_alone_does_not_touch_the_classifier():
    model = build(loss_weights=[0.0, 1.0]).train()
    model(**batch()).loss.backward()
    assert model.classifier.weight.grad.abs().sum() == 0
    assert model.backbone.network.layer3[0].downsample[1].weight.grad.abs().sum() > 0


def test_frozen_norms_stay_frozen_inside_the_model():
    model = build().train()
    before = copy.deepcopy(model.backbone.network.layer2.state_dict())
    model(**batch())
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.network.layer2.state_dict().items())


def test_bf16_autocast_computes_the_loss_in_float32():
    model, inputs = build().train(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**inputs)
    output.loss.backward()
    assert output.loss.dtype == output.attention_maps[0].dtype == torch.float32
    reference = build().train()(**inputs)
    assert output.loss.item() == pytest.approx(reference.loss.item(), rel=0.02)


@pytest.mark.slow
def test_attention_can_be_learned():
    torch.manual_seed(0)
    model = build(frozen_stages=0, objective="none", map_target="centered").train()
    inputs = batch(size=64)
    inputs["anomaly_maps"] = torch.zeros(4, 15, 15)
    for index in range(4):
        inputs["anomaly_maps"][
            index, 4 * (index // 2) : 4 * (index // 2) + 8, 7 * (index % 2) : 7 * (index % 2) + 8
        ] = 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = model(inputs["pixel_values"], inputs["anomaly_maps"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_backbone_is_shared_and_saved_alone(tmp_path):
    model = build()
    model.backbone.save_pretrained(tmp_path)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.backbone.eval()(image).feature_maps
        assert torch.equal(AgsspBackbone.from_pretrained(tmp_path)(image).feature_maps[-1], expected[-1])


def test_config_round_trip(tmp_path):
    config = AgsspPreTrainingConfig(
        backbone_config=AgsspBackboneConfig(architecture="test_resnet", frozen_stages=2),
        distill_loss="cosine",
        map_target="centered",
        distill_layers=[-1],
        loss_weights=[0.1, 2.0],
        id2label={0: "steel_plate", 1: "rail", 2: "strip"},
    )
    config.save_pretrained(tmp_path)
    again = AgsspPreTrainingConfig.from_pretrained(tmp_path)
    assert again.to_diff_dict() == config.to_diff_dict()
    assert (again.distill_layers, again.num_labels, again.id2label[2]) == ([4], 3, "strip")
    assert (again.backbone_config.architecture, again.backbone_config.frozen_stages) == ("test_resnet", 2)


def test_missing_targets_are_named():
    model, inputs = build().train(), batch()
    with pytest.raises(InputError, match="training needs labels"):
        model(inputs["pixel_values"], anomaly_maps=inputs["anomaly_maps"])
    with pytest.raises(InputError, match="training needs anomaly_maps"):
        model(inputs["pixel_values"], labels=inputs["labels"])
    output = model.eval()(inputs["pixel_values"])
    assert (output.loss, output.loss_dict, output.alignment) == (None, None, None)
    assert output.logits.shape == (4, 4)


def test_first_step_without_usable_maps_is_an_error():
    model, inputs = build().train(), batch()
    inputs["anomaly_maps"].fill_(float("nan"))
    with pytest.raises(InputError, match="constant, absent or NaN"):
        model(**inputs)
    assert model.distillation_weight.isnan()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"objective": "rotation"}, "objective must be one of classification, mocov3, simmim, none"),
        ({"distill_loss": "l1"}, "distill_loss must be one of"),
        ({"map_target": "log"}, "map_target must be one of"),
        ({"objective": "none", "distillation": False}, "nothing to train on"),
        ({"loss_weights": [1.0]}, "two numbers"),
        ({"distill_layers": [0, 4]}, r"expected different ones of \[2, 3, 4\]"),
        ({"distill_layers": [4, -1]}, "different"),
        ({"distill_layers": []}, "different"),
        ({"objective": "none", "distill_layers": [2]}, "without training"),
    ],
)
def test_wrong_settings_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        AgsspPreTrainingConfig(backbone_config=AgsspBackboneConfig(architecture="test_resnet"), **config)


def test_one_category_cannot_be_classified():
    with pytest.raises(InputError, match="choose another objective"):
        build(num_labels=1)


def test_gradient_checkpointing_reaches_the_backbone_and_changes_no_gradient():
    plain, saving = build("test_vit", frozen_stages=0).train(), build("test_vit", frozen_stages=0).train()
    saving.gradient_checkpointing_enable()
    assert saving.backbone.network.grad_checkpointing
    for model in (plain, saving):
        model(**batch()).loss.backward()
    for (name, expected), found in zip(plain.named_parameters(), saving.parameters(), strict=True):
        if expected.requires_grad:
            torch.testing.assert_close(found.grad, expected.grad, msg=name)
