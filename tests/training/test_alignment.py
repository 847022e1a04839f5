"""What is measured of a backbone on held-out images, against brute force."""

import math

import numpy as np
import pytest
import torch

from agssp.models.backbone import AgsspBackbone
from agssp.models.pretraining import AgsspForPreTraining
from agssp.models.pretraining.distillation import resize_map
from agssp.training.alignment import AlignmentEvaluator, _Seen, effective_rank, fixed_attention_levels, standardised


def collate(items):
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


def images(count=5):
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "pixel_values": torch.randn(3, 64, 64, generator=generator),
            "anomaly_maps": torch.rand(8, 8, generator=generator),
            "labels": torch.tensor(index % 2),
        }
        for index in range(count)
    ]


def pretraining_model(**config):
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture("test_resnet")
    return AgsspForPreTraining.from_backbone(backbone, **{"num_labels": 2} | config).eval()


def correlation(first, second):
    return float(np.corrcoef(np.ravel(first), np.ravel(second))[0, 1])


@pytest.mark.parametrize("objective", ["classification", "none"])
def test_evaluator_runs_the_backbone_once_a_batch_and_averages_over_images(objective):
    model, calls = pretraining_model(objective=objective), []
    handle = model.backbone.register_forward_hook(lambda *_: calls.append(1))
    measured = AlignmentEvaluator(images(), collate, batch_size=2)(model)
    handle.remove()
    assert len(calls) == 3
    batch = collate(images())
    with torch.no_grad():
        features = model.backbone(batch["pixel_values"]).feature_maps[-1]
        outputs = model(**batch)
    assert measured["feature_rank"] == pytest.approx(effective_rank(features.mean((2, 3))), rel=1e-4)
    assert measured["alignment"] == pytest.approx(outputs.alignment.mean().item(), abs=1e-5)
    assert measured["distillation_loss"] == pytest.approx(outputs.loss_dict["distillation"].item(), rel=1e-5)
    assert ("accuracy" in measured) == ("task_loss" in measured) == (objective == "classification")
    if objective == "classification":
        assert measured["task_loss"] == pytest.approx(outputs.loss_dict["task"].item(), rel=1e-5)
        assert measured["accuracy"] == pytest.approx(
            (outputs.logits.argmax(1) == batch["labels"]).float().mean().item()
        )


def test_alignment_elsewhere_is_the_mean_over_all_pairs_of_different_images():
    model, batch = pretraining_model(), collate(images())
    measured = AlignmentEvaluator(images(), collate, batch_size=2)(model)
    with torch.no_grad():
        attention_maps = model(**batch).attention_maps
    by_layer = []
    for attention in attention_maps:
        maps = resize_map(batch["anomaly_maps"], attention.shape[1:])
        pairs = [correlation(attention[i], maps[j]) for i in range(5) for j in range(5) if i != j]
        by_layer.append(np.mean(pairs))
    assert measured["alignment_elsewhere"] == pytest.approx(np.mean(by_layer), abs=1e-5)
    assert "alignment_elsewhere" not in AlignmentEvaluator(images(1), collate, batch_size=2)(model)


@pytest.mark.parametrize("map_target", ["raw", "centered"])
def test_images_without_a_target_count_for_no_batch(map_target):
    items = images()
    items[0]["anomaly_maps"] = torch.full((8, 8), 0.5)
    items[3]["anomaly_maps"] = torch.full((8, 8), math.nan)
    model = pretraining_model(map_target=map_target)
    measured = AlignmentEvaluator(items, collate, batch_size=2)(model)
    with torch.no_grad():
        whole = model(**collate(items)).loss_dict["distillation"].item()
    assert measured["distillation_loss"] == pytest.approx(whole, rel=1e-5)


def test_without_maps_the_task_alone_is_measured():
    items = [{key: value for key, value in item.items() if key != "anomaly_maps"} for item in images()]
    evaluator = AlignmentEvaluator(items, collate, batch_size=2)
    assert set(evaluator(pretraining_model(distillation=False))) == {"task_loss", "accuracy", "feature_rank"}
    assert evaluator.levels == {}


def test_weights_that_are_not_finite_are_measured_as_such():
    model = pretraining_model()
    with torch.no_grad():
        model.classifier.weight.fill_(math.nan)
        model.backbone.network.conv1[0].weight.fill_(math.nan)
    measured = AlignmentEvaluator(images(), collate, batch_size=2)(model)
    assert math.isnan(measured["feature_rank"])
    assert math.isnan(measured["task_loss"])


def test_levels_are_those_of_the_first_measurement():
    model, evaluator = pretraining_model(), AlignmentEvaluator(images(), collate, batch_size=2)
    assert evaluator.levels is None
    evaluator(model)
    batch = collate(images())
    with torch.no_grad():
        grids = [attention.shape[1:] for attention in model(**batch).attention_maps]
    expected = fixed_attention_levels(batch["anomaly_maps"], grids, "l2", "raw")
    assert evaluator.levels.keys() == expected.keys() == {"constant_map", "mean_map"}
    for name, numbers in expected.items():
        assert evaluator.levels[name] == pytest.approx(numbers)


def test_levels_of_fixed_attention_by_brute_force():
    maps = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(1))
    levels = fixed_attention_levels(maps, [(6, 6), (3, 3)], "cosine", "raw")
    constant, mean = [], []
    for grid in ((6, 6), (3, 3)):
        small = resize_map(maps, grid).double().numpy().reshape(4, -1)
        constant.append(np.mean([1 - row.sum() / (np.linalg.norm(row) * math.sqrt(len(row))) for row in small]))
        mean.append(np.mean([correlation(small[i], np.delete(small, i, 0).mean(0)) for i in range(4)]))
    assert levels["constant_map"] == {"alignment": 0.0, "distillation_loss": pytest.approx(sum(constant), rel=1e-5)}
    assert levels["mean_map"]["alignment"] == pytest.approx(np.mean(mean), abs=1e-5)


def test_a_border_that_is_always_hot_is_worth_much_to_the_mean_map():
    maps = 0.01 * torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(2))
    maps[:, 0] += 1
    maps[0] = math.nan
    # The image without a map scores 0 and is no part of any mean.
    assert fixed_attention_levels(maps, [(8, 8)], "l2", "raw")["mean_map"]["alignment"] == pytest.approx(
        5 / 6, abs=1e-3
    )


def test_levels_that_mean_nothing_are_left_out():
    one = fixed_attention_levels(torch.rand(1, 4, 4), [(4, 4)], "l2_raw", "raw")
    assert one == {"constant_map": {"alignment": 0.0}}


def test_products_of_standardised_maps_are_correlations():
    maps = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(3))
    maps[2] = 0.7
    shaped = standardised(maps)
    assert float((shaped[0] * shaped[1]).sum()) == pytest.approx(correlation(maps[0], maps[1]), abs=1e-6)
    assert shaped[2].abs().max() == 0


def test_effective_rank_counts_directions():
    assert effective_rank(torch.ones(4, 3)) == 1.0
    assert effective_rank(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])) == pytest.approx(2)
    assert math.isnan(effective_rank(torch.tensor([[1.0], [math.inf]])))


@pytest.mark.parametrize("empty_first", [False, True])
def test_process_without_images_adds_nothing(empty_first):
    seen, empty = _Seen(), _Seen()
    seen._add_pairs([torch.ones(2, 2)], [torch.full((2, 2), 2.0)])
    whole, other = (empty, seen) if empty_first else (seen, empty)
    whole.merge(other)
    assert torch.equal(whole.attention[0], torch.ones(2, 2))
    assert torch.equal(whole.heat[0], torch.full((2, 2), 2.0))
