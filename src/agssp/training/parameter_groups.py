"""Which weights decay and which do not; every weight that trains is in exactly one group."""

from typing import Any

from torch import nn

# Position tables are matrices or larger, yet decaying them pulls positions together (Swin, ViT).
POSITION_TABLES = ("relative_position_bias_table", "pos_embed", "position_embedding", "cls_token", "query_embed")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two optimizer groups over all parameters that need a gradient.

    Args:
        model: the model; its frozen parameters are left out.
        weight_decay: of weights with two or more dimensions. Norms, biases and position tables get none.

    Returns:
        `[{"params", "names", "weight_decay"}, ...]`, the decaying group first; empty groups are left out.
    """
    decay: dict[str, nn.Parameter] = {}
    rest: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = parameter.ndim >= 2 and not any(table in name for table in POSITION_TABLES)
            (decay if plain else rest)[name] = parameter
    groups = [(decay, weight_decay), (rest, 0.0)]
    return [
        {"params": list(members.values()), "names": list(members), "weight_decay": value}
        for members, value in groups
        if members
    ]
