"""Mixed query selection against a plain loop, and its anchors against Deformable DETR's proposals."""

import math

import pytest
import torch
from dino_cases import build
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrModel

from agssp.models.detection.dino.encoder import flatten
from agssp.models.detection.dino.query_selection import anchor_logits


def tokens_of(sizes=((8, 8), (4, 4), (2, 2), (1, 1)), batch=2):
    torch.manual_seed(1)
    return flatten([torch.randn(batch, 64, height, width) for height, width in sizes])


def test_anchors_equal_deformable_detrs_away_from_the_rim():
    sizes = [(80, 40), (40, 20), (20, 10), (10, 5)]
    tokens = tokens_of(sizes, batch=1)
    owner = type("Owner", (), {"enc_output": torch.nn.Identity(), "enc_output_norm": torch.nn.Identity()})
    nothing_hidden = torch.zeros(1, len(tokens.centres), dtype=torch.bool)
    _, expected = DeformableDetrModel.gen_encoder_output_proposals(owner, tokens.values, nothing_hidden, sizes)
    ours = anchor_logits(tokens.centres, tokens.levels)
    inside = torch.isfinite(expected[0]).all(1)
    assert 0 < (~inside).sum() < 0.1 * len(inside)
    torch.testing.assert_close(ours[inside], expected[0, inside], rtol=1e-4, atol=1e-4)
    assert torch.isfinite(ours).all()
    assert ours[0].sigmoid().tolist() == pytest.approx([0.5 / 40, 0.5 / 80, 0.05, 0.05], rel=1e-4)


def test_the_highest_class_scores_are_chosen():
    selection = build(num_queries=20).query_selection
    tokens = tokens_of()
    with torch.no_grad():
        selected = selection(tokens)
        for image in range(2):
            candidates = []
            for place in range(len(tokens.centres)):
                hidden = selection.norm(selection.projection(tokens.values[image, place]))
                logits = selection.heads.classes(hidden)
                x, y = tokens.centres[place].tolist()
                side = 0.05 * 2 ** int(tokens.levels[place])
                anchor = torch.tensor([math.log(value / (1 - value)) for value in (x, y, side, side)])
                candidates.append((max(logits.tolist()), logits, anchor + selection.heads.boxes(hidden)))
            candidates.sort(key=lambda candidate: -candidate[0])
            for query, (_, logits, box) in enumerate(candidates[:20]):
                torch.testing.assert_close(selected.logits[image, query], logits, rtol=1e-4, atol=1e-4)
                torch.testing.assert_close(selected.box_logits[image, query], box, rtol=1e-4, atol=1e-4)
            assert torch.equal(selected.content[image], selection.content.weight)


def test_a_small_input_has_fewer_queries():
    selection = build(num_queries=30).query_selection
    selected = selection(tokens_of(((4, 4), (2, 2), (1, 1), (1, 1))))
    assert selected.content.shape == (2, 22, 64)
    assert selected.logits.shape == (2, 22, 3)
    assert torch.equal(selected.content[1], selection.content.weight[:22])


def test_many_coarse_scales_have_finite_anchors():
    tokens = tokens_of([(1, 1)] * 6, batch=1)
    assert torch.isfinite(anchor_logits(tokens.centres, tokens.levels)).all()


def test_what_is_looked_for_is_learned_and_where_is_not():
    model = build()
    selected = model.query_selection(tokens_of())
    logits, boxes = model.decoder(selected.content, selected.box_logits, tokens_of())
    (logits.sum() + boxes.sum()).backward()
    selection = model.query_selection
    assert selection.content.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in selection.heads.parameters())
    selected.box_logits.sum().backward()
    assert selection.heads.boxes.layers[0].weight.grad.abs().sum() > 0
