"""Which weights decay and which do not; every weight that trains is in exactly one group."""

from typing import Any

from torch import nn

# Tables and tokens are matrices or larger, yet decaying them pulls positions together (Swin, ViT) or blanks the token.
UNDECAYED = (
    "relative_position_bias_table", "pos_embed", "position_embedding", "cls_token", "mask_token", "query_embed",
)  # fmt: skip


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two optimizer groups over all parameters that need a gradient.

    Args:
        model: the model; its frozen parameters are left out.
        weight_decay: of weights with two or more dimensions. Norms, biases, position tables and mask tokens get none,
            nor does what a network of timm lists in `no_weight_decay` (Swin v2's temperatures).

    Returns:
        `[{"params", "names", "weight_decay"}, ...]`, the decaying group first; empty groups are left out.
    """
    listed = {
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        if hasattr(module, "no_weight_decay")
        for name in module.no_weight_decay()
    }
    decay: dict[str, nn.Parameter] = {}
    rest: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            undecayed = parameter.ndim < 2 or name in listed or any(word in name for word in UNDECAYED)
            (rest if undecayed else decay)[name] = parameter
    groups = [(decay, weight_decay), (rest, 0.0)]
    return [
        {"params": list(members.values()), "names": list(members), "weight_decay": value}
        for members, value in groups
        if members
    ]
