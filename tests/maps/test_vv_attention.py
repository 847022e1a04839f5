"""Value-value tokens against a naive implementation from raw weights, and the image embedding against open_clip's."""

import pytest
import torch
import torch.nn.functional as F
from kead_cases import small_clip

from agssp.errors import InputError
from agssp.maps.vv_attention import check_tower, dense_tokens, dense_tokens_by_hooks


def attention(u, left, right, value, weights, prefix, heads):
    """softmax(left right^T / sqrt d) value with explicit heads, then the output projection."""
    batch, count, width = u.shape
    size = width // heads

    def split(x):
        return x.reshape(batch, count, heads, size).permute(0, 2, 1, 3)

    similarity = split(left) @ split(right).transpose(-2, -1) / size**0.5
    exponent = (similarity - similarity.max(-1, keepdim=True).values).exp()
    mixed = (exponent / exponent.sum(-1, keepdim=True)) @ split(value)
    flat = mixed.permute(0, 2, 1, 3).reshape(batch, count, width)
    return flat @ weights[prefix + "out_proj.weight"].T + weights[prefix + "out_proj.bias"]


def naive_tokens(visual, pixel_values, layers, surgery_from):
    """METHOD 1.2 from the state dict alone."""
    w = visual.state_dict()
    heads, blocks = visual.transformer.resblocks[0].attn.num_heads, len(visual.transformer.resblocks)

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"])

    patches = F.conv2d(pixel_values, w["conv1.weight"], stride=8).flatten(2).transpose(1, 2)
    first = w["class_embedding"].expand(len(patches), 1, -1)
    x = norm(torch.cat([first, patches], 1) + w["positional_embedding"], "ln_pre")
    stream, found = None, []
    for number in range(1, blocks + 1):
        prefix = f"transformer.resblocks.{number - 1}."
        u = norm(x, prefix + "ln_1")
        q, k, v = (u @ w[prefix + "attn.in_proj_weight"].T + w[prefix + "attn.in_proj_bias"]).chunk(3, -1)
        if number >= surgery_from:
            stream = (x if stream is None else stream) + attention(u, v, v, v, w, prefix + "attn.", heads)
        scale_1, scale_2 = w.get(prefix + "ls_1.gamma", 1), w.get(prefix + "ls_2.gamma", 1)
        x = x + scale_1 * attention(u, q, k, v, w, prefix + "attn.", heads)
        hidden = norm(x, prefix + "ln_2") @ w[prefix + "mlp.c_fc.weight"].T + w[prefix + "mlp.c_fc.bias"]
        x = x + scale_2 * (F.gelu(hidden) @ w[prefix + "mlp.c_proj.weight"].T + w[prefix + "mlp.c_proj.bias"])
        if number in layers:
            found.append(x if stream is None else stream)
    tokens = torch.stack([norm(t, "ln_post")[:, 1:] @ w["proj"] for t in found])
    return tokens, norm(x, "ln_post")[:, 0] @ w["proj"]


@pytest.mark.parametrize("ls_init_value", [None, 0.1])
@pytest.mark.parametrize("surgery_from", [1, 3, 8])
@torch.inference_mode()
def test_tokens_equal_the_naive_ones(surgery_from, ls_init_value):
    visual = small_clip(ls_init_value=ls_init_value).visual
    pixel_values = torch.randn(2, 3, 32, 32)
    layers = (2, 4, 6, 8)
    expected, embedding = naive_tokens(visual, pixel_values, layers, surgery_from)
    assert expected.shape == (4, 2, 16, 48)
    for function in (dense_tokens, dense_tokens_by_hooks):
        tokens, pooled = function(visual, pixel_values, layers, surgery_from)
        torch.testing.assert_close(tokens, expected, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(pooled, embedding, atol=2e-5, rtol=1e-5)


@torch.inference_mode()
def test_the_image_embedding_is_open_clips():
    model = small_clip(quick_gelu=True)
    pixel_values = torch.randn(3, 3, 32, 32)
    expected = model.encode_image(pixel_values)
    torch.testing.assert_close(dense_tokens(model.visual, pixel_values, (8,), 3)[1], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(dense_tokens_by_hooks(model.visual, pixel_values, (8,), 3)[1], expected)
    assert torch.equal(model.encode_image(pixel_values), expected), "hooks stayed on the model"


@torch.inference_mode()
def test_the_four_layers_are_distinct():
    tokens, _ = dense_tokens(small_clip().visual, torch.randn(1, 3, 32, 32), (2, 4, 6, 8), 3)
    for a in range(4):
        for b in range(a):
            assert not torch.allclose(tokens[a], tokens[b], atol=1e-3)


def test_other_towers_are_refused():
    from torch import nn

    with pytest.raises(InputError, match="expected open_clip's VisionTransformer"):
        check_tower(nn.Linear(1, 1), "odd")
    visual = small_clip().visual
    visual.proj = None
    with pytest.raises(InputError, match="no projection"):
        check_tower(visual, "odd")
