"""MoCo v3: its loss against loops, the slow encoder against a copy, and the whole step against separate networks."""

import copy
import math

import pytest
import torch
from torch import nn

from agssp.errors import InputError
from agssp.models.backbone import AgsspBackbone
from agssp.models.pretraining import AgsspForPreTraining
from agssp.models.pretraining.distillation import attention_map, distillation_loss
from agssp.models.pretraining.mocov3 import BatchNormOverRanks, MomentumEncoder, contrastive_loss, momentum_at


def build(architecture: str = "test_resnet", frozen_stages: int = 2, **config) -> AgsspForPreTraining:
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture(architecture, frozen_stages=frozen_stages)
    settings = {"objective": "mocov3", "projection_hidden": 32, "projection_dim": 8, **config}
    return AgsspForPreTraining.from_backbone(backbone, **settings)


def batch(seed: int = 0, size: int = 64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pixel_values": torch.randn(4, 3, size, size, generator=generator),
        "second_views": torch.randn(4, 3, size, size, generator=generator),
        "anomaly_maps": torch.rand(4, 8, 8, generator=generator),
    }


def by_loops(queries, keys, temperature):
    """InfoNCE over all pairs, one by one, in float64."""
    total = 0.0
    for i, query in enumerate(queries.double()):
        similarities = []
        for key in keys.double():
            product = sum(float(a) * float(b) for a, b in zip(query, key, strict=True))
            lengths = math.sqrt(sum(float(a) ** 2 for a in query)) * math.sqrt(sum(float(b) ** 2 for b in key))
            similarities.append(product / lengths / temperature)
        total += math.log(sum(math.exp(value) for value in similarities)) - similarities[i]
    return 2 * temperature * total / len(queries)


def test_one_image_has_nothing_to_be_told_from():
    assert contrastive_loss(torch.randn(1, 8), torch.randn(1, 8), 0.2) == 0


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_loss_equals_loops(temperature):
    queries, keys = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert contrastive_loss(queries, keys, temperature).item() == pytest.approx(by_loops(queries, keys, temperature))


def test_momentum_rises_along_a_cosine():
    assert momentum_at(0, 0.99) == pytest.approx(0.99)
    assert momentum_at(0.5, 0.99) == pytest.approx(0.995)
    assert momentum_at(1, 0.99) == 1
    assert momentum_at(0.25, 0.9) == pytest.approx(1 - 0.05 * (1 + math.cos(math.pi / 4)))


def test_momentum_equals_a_loop_over_numbers():
    online = nn.Linear(3, 2)
    slow = MomentumEncoder(online)
    expected = {name: value.flatten().tolist() for name, value in online.named_parameters()}
    for step in range(4):
        momentum = momentum_at(step / 4, 0.8)
        with torch.no_grad():
            online.weight.add_(step + 1.0)
        slow.follow(online, momentum)
        for name, value in online.named_parameters():
            pairs = zip(expected[name], value.flatten().tolist(), strict=True)
            expected[name] = [momentum * old + (1 - momentum) * new for old, new in pairs]
    for name, values in expected.items():
        assert getattr(slow, name).flatten().tolist() == pytest.approx(values, rel=1e-5)


def test_slow_encoder_computes_what_a_slow_copy_would():
    online = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).train()
    online[0].requires_grad_(False)
    slow, reference = MomentumEncoder(online), copy.deepcopy(online)
    inputs = torch.randn(8, 4)
    for momentum in (0.9, 0.5):
        with torch.no_grad():
            for parameter in online[1:].parameters():
                parameter.add_(torch.randn_like(parameter))
            for old, new in zip(reference.parameters(), online.parameters(), strict=True):
                old.copy_(momentum * old + (1 - momentum) * new)
        slow.follow(online, momentum)
        statistics = online[1].running_mean.clone()
        torch.testing.assert_close(slow.encode(online, inputs), reference(inputs))
        assert torch.equal(online[1].running_mean, statistics), "the online network's statistics moved"
    torch.testing.assert_close(getattr(slow, "1-running_mean"), reference[1].running_mean)
    # The frozen layer is shared, so there is no copy of it.
    assert {name for name, _ in slow.named_buffers()} == {
        "1-weight", "1-bias", "1-running_mean", "1-running_var", "1-num_batches_tracked", "3-weight", "3-bias",
    }  # fmt: skip


def test_head_norm_alone_is_torch_batch_norm():
    ours, theirs = BatchNormOverRanks(6), nn.BatchNorm1d(6)
    inputs = torch.randn(5, 6)
    assert torch.equal(ours(inputs), theirs(inputs))
    assert torch.equal(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "yolov8n"])
def test_step_equals_two_networks_and_the_equations(architecture):
    model = build(architecture, frozen_stages=1, distill_loss="cosine").train()
    slow = copy.deepcopy(model)  # a second network, at the slow encoder's values
    model.after_optimizer_step(0.0)
    inputs = batch(size=96)
    output = model(**inputs)

    def project(network, view):
        return network.projector(network.backbone(view).feature_maps[-1].mean(dim=(2, 3)))

    reference = copy.deepcopy(slow)
    with torch.no_grad():
        q1, q2 = (reference.predictor(project(reference, inputs[name])) for name in ("pixel_values", "second_views"))
        k1, k2 = (project(slow, inputs[name]) for name in ("pixel_values", "second_views"))
        features = copy.deepcopy(slow).backbone(inputs["pixel_values"]).feature_maps[-2:]
    task = by_loops(q1, k2, 1.0) + by_loops(q2, k1, 1.0)
    distillation = sum(distillation_loss(attention_map(f), inputs["anomaly_maps"], "cosine") for f in features)
    assert output.loss_dict["task"].item() == pytest.approx(task, rel=1e-4)
    torch.testing.assert_close(output.loss_dict["distillation"], distillation, rtol=1e-4, atol=1e-6)
    assert output.loss.item() == pytest.approx(2 * task, rel=1e-4)


def test_gradients_reach_what_trains_and_nothing_slow():
    model = build().train()
    model(**batch()).loss.backward()
    missing = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert missing == []
    assert all(not buffer.requires_grad for buffer in model.buffers())


def test_slow_encoder_moves_with_the_optimizer_alone():
    model = build().train()
    before = model.momentum_backbone.state_dict()["network-layer4-0-conv1-weight"].clone()
    for _ in range(3):  # micro batches of one step
        model(**batch()).loss.backward()
    assert torch.equal(model.momentum_backbone.state_dict()["network-layer4-0-conv1-weight"], before)
    online = model.backbone.network.layer4[0].conv1.weight
    with torch.no_grad():
        online.add_(1.0)
    model.after_optimizer_step(0.0)
    after = model.momentum_backbone.state_dict()["network-layer4-0-conv1-weight"]
    torch.testing.assert_close(after, 0.99 * before + 0.01 * online.detach())
    model.after_optimizer_step(1.0)
    assert torch.equal(model.momentum_backbone.state_dict()["network-layer4-0-conv1-weight"], after)


def test_slow_encoder_is_kept_by_saving(tmp_path):
    model = build().train()
    with torch.no_grad():
        model.backbone.network.layer4[0].conv1.weight.add_(1.0)
    model.after_optimizer_step(0.0)
    model.save_pretrained(tmp_path)
    loaded, info = AgsspForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    saved = model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items() if "weight" in name
               and "distillation" not in name)  # fmt: skip
    inputs = batch()
    torch.testing.assert_close(loaded.train()(**inputs).loss_dict["task"], model(**inputs).loss_dict["task"])


def test_evaluation_needs_no_second_view():
    model, inputs = build().eval(), batch()
    inputs.pop("second_views")
    output = model(**inputs)
    assert output.loss is None
    assert output.alignment.shape == (4,)
    with pytest.raises(InputError, match="second_views"):
        model.train()(**inputs)


@pytest.mark.slow
def test_training_pulls_the_views_of_an_image_together():
    model = build(distillation=False, frozen_stages=0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    inputs = {name: value for name, value in batch().items() if name != "anomaly_maps"}
    losses = []
    for step in range(30):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_optimizer_step(step / 30)
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
