"""Look forward twice: the decoder against the paper's equations around transformers' single layers."""

import torch
from dino_cases import build
from transformers import DeformableDetrConfig
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrDecoder, inverse_sigmoid

from agssp.models.detection.dino.encoder import flatten, sine_embedding


def inputs(seed=2, queries=7):
    torch.manual_seed(seed)
    tokens = flatten([torch.randn(2, 64, side, side) for side in (8, 4, 2, 1)])
    return torch.randn(2, queries, 64), torch.randn(2, queries, 4), tokens


def test_equal_to_the_papers_equations():
    model = build(decoder_layers=3).eval()
    decoder = model.decoder
    content, box_logits, tokens = inputs()
    config = DeformableDetrConfig(
        d_model=64, decoder_layers=1, decoder_ffn_dim=64, decoder_attention_heads=4, num_feature_levels=4
    )
    with torch.no_grad():
        logits, boxes = decoder(content, box_logits, tokens)
        start = undetached = box_logits.sigmoid()
        hidden = content
        for index in range(3):
            single = DeformableDetrDecoder(config).eval()
            single.load_state_dict({f"layers.0.{k}": v for k, v in decoder.layers[index].state_dict().items()})
            hidden = single(
                inputs_embeds=hidden,
                encoder_hidden_states=tokens.values,
                object_queries_position_embeddings=decoder.position_head(sine_embedding(start, 32)),
                reference_points=start,
                spatial_shapes=tokens.shapes,
                spatial_shapes_list=tokens.sizes,
                level_start_index=tokens.starts,
                valid_ratios=torch.ones(2, 4, 2),
            ).last_hidden_state
            change = decoder.heads[index].boxes(hidden)
            predicted = (inverse_sigmoid(undetached) + change).sigmoid()
            torch.testing.assert_close(boxes[index], predicted, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(logits[index], decoder.heads[index].classes(hidden), rtol=1e-4, atol=1e-4)
            undetached = (inverse_sigmoid(start) + change).sigmoid()
            start = undetached.clone()
    assert (boxes[2] - boxes[0]).abs().max() > 0.01


def gradients_of_heads(layer):
    """Size of the gradient that the boxes of a layer give to the box head of each layer."""
    model = build(decoder_layers=3)
    _, boxes = model.decoder(*inputs())
    boxes[layer].sum().backward()
    grads = [heads.boxes.layers[-1].bias.grad for heads in model.decoder.heads]
    return [0.0 if grad is None else grad.abs().sum().item() for grad in grads]


def test_a_prediction_trains_the_head_of_its_own_layer_and_of_the_one_before():
    assert [size > 0 for size in gradients_of_heads(0)] == [True, False, False]
    assert [size > 0 for size in gradients_of_heads(1)] == [True, True, False]
    assert [size > 0 for size in gradients_of_heads(2)] == [False, True, True]


def test_the_gradient_of_both_heads_is_that_of_the_box():
    model = build(decoder_layers=2)
    _, boxes = model.decoder(*inputs())
    boxes[1].sum().backward()
    expected = (boxes[1] * (1 - boxes[1])).sum((0, 1)).detach()  # the slope of the sigmoid
    for heads in model.decoder.heads:
        torch.testing.assert_close(heads.boxes.layers[-1].bias.grad, expected, rtol=1e-4, atol=1e-5)


def test_where_a_query_starts_has_no_gradient():
    content, box_logits, tokens = inputs()
    box_logits.requires_grad_(True)
    logits, boxes = build().decoder(content, box_logits, tokens)
    (logits.sum() + boxes.sum()).backward()
    assert box_logits.grad is None


def test_masked_queries_do_not_matter():
    decoder = build().eval().decoder
    content, box_logits, tokens = inputs()
    mask = torch.zeros(1, 1, 7, 7)
    mask[..., 3:, :3] = -torch.inf
    other = content.clone()
    other[:, :3] = torch.randn(2, 3, 64)
    with torch.no_grad():
        first, second = (decoder(values, box_logits, tokens, mask)[0] for values in (content, other))
    torch.testing.assert_close(first[:, :, 3:], second[:, :, 3:], rtol=0, atol=1e-5)
    assert (first[:, :, :3] - second[:, :, :3]).abs().max() > 0.1
