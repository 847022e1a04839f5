"""What is measured on held-out images."""

import pytest
import torch

from agssp.models.backbone import AgsspBackbone
from agssp.models.pretraining import AgsspForPreTraining
from agssp.training.evaluators import alignment_evaluator, effective_rank


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


@pytest.mark.parametrize("objective", ["classification", "none"])
def test_alignment_evaluator_runs_the_backbone_once_a_batch(objective):
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture("test_resnet")
    model = AgsspForPreTraining.from_backbone(backbone, objective=objective, num_labels=2).eval()
    calls = []
    handle = backbone.register_forward_hook(lambda *_: calls.append(1))
    measured = alignment_evaluator(images(), collate, batch_size=2)(model)
    handle.remove()
    assert len(calls) == 3
    batch = collate(images())
    with torch.no_grad():
        features = backbone(batch["pixel_values"]).feature_maps[-1]
        outputs = model(**batch)
    assert measured["feature_rank"] == pytest.approx(effective_rank(features.mean((2, 3))), rel=1e-4)
    assert measured["alignment"] == pytest.approx(outputs.alignment.mean().item(), abs=1e-5)
    assert ("accuracy" in measured) == (objective == "classification")


def test_effective_rank_counts_directions():
    assert effective_rank(torch.ones(4, 3)) == 1.0
    assert effective_rank(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])) == pytest.approx(2)
