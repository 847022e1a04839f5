"""Dense tokens of an unmodified open_clip ViT by value-value attention beside the ordinary stream (METHOD 1.2).

In a surgery block the ordinary stream runs as ever, and a second one gathers softmax(v v^T / sqrt d) v through the same
output projection, without the MLP (CLIP Surgery, Li et al., 2023). The second stream never feeds back into the first.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agssp.errors import InputError


def check_tower(visual: nn.Module, name: str) -> None:
    """Raise unless a vision tower is a plain open_clip ViT whose blocks can be read.

    Raises:
        InputError: the tower is a ResNet or a timm trunk, pools by attention, has no projection, or special blocks.
    """
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    if not isinstance(visual, VisionTransformer):
        raise InputError(
            f"teacher {name}: its vision tower is {type(visual).__name__}, expected open_clip's VisionTransformer; "
            "use a ViT, or a vision-only teacher `timm:NAME`"
        )
    if visual.attn_pool is not None or visual.proj is None:
        raise InputError(
            f"teacher {name}: pools by attention or has no projection; its patch tokens are not in text space"
        )
    odd = [type(block).__name__ for block in visual.transformer.resblocks if type(block) is not ResidualAttentionBlock]
    if odd:
        raise InputError(f"teacher {name}: has blocks of type {odd[0]}; expected plain ResidualAttentionBlock")


def dense_tokens(visual: Any, pixel_values: Tensor, layers: Sequence[int], surgery_from: int) -> tuple[Tensor, Tensor]:
    """Patch tokens of some layers and the image embedding, in one pass with fused attention.

    Args:
        visual: open_clip VisionTransformer in eval mode.
        pixel_values: (B, 3, S, S) normalised, of the tower's dtype.
        layers: 1-based blocks whose tokens are wanted, ascending.
        surgery_from: 1-based first block with value-value attention; earlier layers give their ordinary output.

    Returns:
        Tokens (L, B, N, D), without the class token, in the joint space, not normalised; and the image embedding (B, D)
        as `encode_image` gives it.
    """
    x = visual._embeds(pixel_values)
    value_stream: Tensor | None = None
    collected = []
    for number, block in enumerate(visual.transformer.resblocks, 1):
        if number >= surgery_from:
            ordinary, values = _two_attentions(block.attn, block.ln_1(x))
            value_stream = (x if value_stream is None else value_stream) + values
            x = x + block.ls_1(ordinary)
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        else:
            x = block(x)
        if number in layers:
            collected.append(x if value_stream is None else value_stream)
    pooled, _ = visual._pool(x)
    return _project(visual, torch.stack(collected)), pooled @ visual.proj


def dense_tokens_by_hooks(
    visual: Any, pixel_values: Tensor, layers: Sequence[int], surgery_from: int
) -> tuple[Tensor, Tensor]:
    """The same as `dense_tokens` by hooks around the tower's own forward, which stays bit-equal to `encode_image`.

    It reads no private name of open_clip and computes the ordinary attention in the tower's own way: the reference that
    the fused pass is tested against.
    """
    state: dict[str, Tensor] = {}
    collected: dict[int, Tensor] = {}
    blocks = list(visual.transformer.resblocks)

    def start(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        state["values"] = args[0]

    def gather(module: nn.MultiheadAttention, args: tuple[Tensor, ...], _output: object) -> None:
        width = module.embed_dim
        bias = None if module.in_proj_bias is None else module.in_proj_bias[2 * width :]
        value = _heads(F.linear(args[0], module.in_proj_weight[2 * width :], bias), module.num_heads)
        attended = F.scaled_dot_product_attention(value, value, value)
        state["values"] = state["values"] + module.out_proj(attended.transpose(1, 2).flatten(2))

    def collector(number: int):
        def collect(_module: nn.Module, _args: object, output: Tensor) -> None:
            collected[number] = state["values"] if number >= surgery_from else output

        return collect

    with ExitStack() as hooks:
        if surgery_from <= len(blocks):
            hooks.callback(blocks[surgery_from - 1].register_forward_pre_hook(start).remove)
        for number, block in enumerate(blocks, 1):
            if number >= surgery_from:
                hooks.callback(block.attn.register_forward_hook(gather).remove)
            if number in layers:
                hooks.callback(block.register_forward_hook(collector(number)).remove)
        embedding = visual(pixel_values)
    return _project(visual, torch.stack([collected[number] for number in sorted(collected)])), embedding


def _two_attentions(attention: nn.MultiheadAttention, u: Tensor) -> tuple[Tensor, Tensor]:
    """Ordinary and value-value attention of LN1(x), (B, N+1, C) each, through one output projection."""
    q, k, v = (
        _heads(part, attention.num_heads)
        for part in F.linear(u, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
    )
    both = torch.cat([F.scaled_dot_product_attention(q, k, v), F.scaled_dot_product_attention(v, v, v)])
    return attention.out_proj(both.transpose(1, 2).flatten(2)).chunk(2)


def _heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _project(visual: Any, tokens: Tensor) -> Tensor:
    return visual.ln_post(tokens[:, :, 1:]) @ visual.proj
