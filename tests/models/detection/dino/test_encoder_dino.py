"""The encoder, its positions and its attention against Deformable DETR's in transformers and against plain loops."""

import math

import pytest
import torch
from dino_cases import build, config_of
from transformers import DeformableDetrConfig
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrEncoder,
    DeformableDetrModel,
    DeformableDetrSinePositionEmbedding,
)

from agssp.models.detection.dino.encoder import DinoEncoder, flatten, sine_embedding

SIZES = [(8, 6), (4, 3), (2, 2), (1, 1)]


def maps_of(sizes, width=64, batch=2):
    torch.manual_seed(0)
    return [torch.randn(batch, width, height, columns) for height, columns in sizes]


def test_flattened_cells_know_where_they_lie():
    maps = maps_of(SIZES)
    tokens = flatten(maps)
    assert tokens.sizes == SIZES
    assert tokens.shapes.tolist() == [list(size) for size in SIZES]
    place = 0
    for level, (height, width) in enumerate(SIZES):
        assert tokens.starts[level] == place
        for row in range(height):
            for column in range(width):
                assert torch.equal(tokens.values[:, place], maps[level][:, :, row, column])
                assert tokens.centres[place].tolist() == pytest.approx([(column + 0.5) / width, (row + 0.5) / height])
                assert tokens.levels[place] == level
                place += 1
    assert tokens.values.shape == (2, place, 64)


def test_map_positions_equal_deformable_detrs():
    reference = DeformableDetrSinePositionEmbedding(32, normalize=True, temperature=20)
    maps = maps_of([(8, 6)], batch=1)
    expected = reference(maps[0].shape, "cpu", torch.float32).flatten(2)[0].T
    # It puts y before x.
    torch.testing.assert_close(sine_embedding(flatten(maps).centres.flip(1), 32, 20.0), expected, rtol=0, atol=1e-4)


def test_box_positions_equal_deformable_detrs():
    logits = torch.randn(2, 5, 4)
    owner = type("Owner", (), {"config": DeformableDetrConfig(d_model=64)})
    expected = DeformableDetrModel.get_proposal_pos_embed(owner, logits)
    torch.testing.assert_close(sine_embedding(logits.sigmoid(), 32), expected, rtol=0, atol=1e-5)


def test_sines_by_hand():
    values = sine_embedding(torch.tensor([0.25]), 4, temperature=100.0)
    angle = math.pi / 2
    expected = [math.sin(angle), math.cos(angle), math.sin(angle / 10), math.cos(angle / 10)]
    assert values.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("levels", [3, 4, 5])
def test_further_scales_are_convolutions_of_the_coarsest_map(levels):
    encoder = DinoEncoder(config_of(num_feature_levels=levels), (8, 16, 24)).eval()
    maps = [torch.randn(1, depth, side, side) for depth, side in ((8, 8), (16, 4), (24, 2))]
    tokens = encoder(maps)
    assert tokens.sizes == [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)][:levels]
    assert [project[0].in_channels for project in encoder.projections] == [8, 16, 24, 24, 64][:levels]


def test_layers_equal_deformable_detrs_encoder():
    model = build().eval()
    encoder = model.encoder
    with torch.no_grad():
        for module in encoder.modules():  # sampling places and weights that depend on the content
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, 0.1)
    reference = DeformableDetrEncoder(
        DeformableDetrConfig(
            d_model=64, encoder_layers=2, encoder_ffn_dim=64, encoder_attention_heads=4, num_feature_levels=4
        )
    ).eval()
    reference.load_state_dict({f"layers.{name}": value for name, value in encoder.layers.state_dict().items()})
    maps = [torch.randn(2, depth, side, side) for depth, side in zip(model.backbone.channels, (8, 4, 2), strict=True)]
    projected = [project(features) for project, features in zip(encoder.projections, maps, strict=False)]
    projected.append(encoder.projections[3](maps[2]))
    tokens = flatten(projected)
    positions = sine_embedding(tokens.centres, 32, 20.0) + encoder.level_embed[tokens.levels]
    with torch.no_grad():
        expected = reference(
            inputs_embeds=tokens.values,
            spatial_position_embeddings=positions[None],
            spatial_shapes=tokens.shapes,
            spatial_shapes_list=tokens.sizes,
            level_start_index=tokens.starts,
            valid_ratios=torch.ones(2, 4, 2),
        ).last_hidden_state
        ours = encoder(maps).values
    assert (expected - tokens.values).abs().max() > 0.1
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def bilinear(features, x, y):
    """Value of a map (C, H, W) at a place in 0..1, zero outside, cell centres at (i + 0.5) / side."""
    _, height, width = features.shape
    column, row = x * width - 0.5, y * height - 0.5
    total = torch.zeros(len(features))
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            if 0 <= r < height and 0 <= c < width:
                total += (1 - abs(row - r)) * (1 - abs(column - c)) * features[:, r, c]
    return total


@pytest.mark.parametrize("coordinates", [2, 4])
def test_deformable_attention_by_hand(coordinates):
    model = build().eval()
    attention = model.decoder.layers[0].encoder_attn
    with torch.no_grad():
        attention.sampling_offsets.weight.normal_(0, 0.1)
        attention.attention_weights.weight.normal_(0, 0.5)
    tokens = flatten(maps_of(SIZES, batch=1))
    queries = torch.randn(1, 3, 64)
    reference = 0.3 + 0.4 * torch.rand(1, 3, 1, coordinates)
    with torch.no_grad():
        ours, _ = attention(
            queries,
            encoder_hidden_states=tokens.values,
            reference_points=reference.expand(-1, -1, 4, -1),
            spatial_shapes=tokens.shapes,
            spatial_shapes_list=tokens.sizes,
            level_start_index=tokens.starts,
        )
        values = attention.value_proj(tokens.values)[0].view(-1, 4, 16)
        offsets = attention.sampling_offsets(queries)[0].view(3, 4, 4, 4, 2)
        weights = attention.attention_weights(queries)[0].view(3, 4, 16).softmax(-1).view(3, 4, 4, 4)
        for query in range(3):
            heads = []
            for head in range(4):
                total = torch.zeros(16)
                for level, (height, width) in enumerate(SIZES):
                    start = tokens.starts[level]
                    grid = values[start : start + height * width, head].T.view(16, height, width)
                    for point in range(4):
                        x, y = reference[0, query, 0, :2].tolist()
                        dx, dy = offsets[query, head, level, point].tolist()
                        if coordinates == 2:
                            x, y = x + dx / width, y + dy / height
                        else:
                            box = reference[0, query, 0, 2:].tolist()
                            x, y = x + dx / 4 * box[0] / 2, y + dy / 4 * box[1] / 2
                        total += weights[query, head, level, point] * bilinear(grid, x, y)
                heads.append(total)
            torch.testing.assert_close(ours[0, query], attention.output_proj(torch.cat(heads)), rtol=0, atol=1e-4)
