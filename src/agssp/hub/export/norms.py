"""Batch norms folded into the convolutions before them, early: what is gone need not be decomposed and optimised."""

from typing import Any

import torch
from torch.nn.utils.fusion import fuse_conv_bn_weights

CONVOLUTION, NORM = torch.ops.aten.conv2d.default, torch.ops.aten.batch_norm.default


def fold_norms(program: torch.export.ExportedProgram) -> int:
    """Give a traced network's convolutions the weights that make the norms after them superfluous.

    The exporter's optimiser folds the same norms, but last, when each has gone through all of its steps. Tensors of the
    model stay as they are. A norm stays where its convolution's output or weights have another use.

    Args:
        program: As traced in eval mode, not decomposed; changed in place.

    Returns:
        How many norms were folded.
    """
    graph, signature, state = program.graph_module.graph, program.graph_signature, program.state_dict
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    folded = 0
    for norm in graph.find_nodes(op="call_function", target=NORM):
        convolution, *of_norm, training, _, eps, _ = norm.args  # its scale, shift, mean and variance
        if convolution.target != CONVOLUTION or training or any(user.op == "output" for user in norm.users):
            continue
        values, kernel, bias, *rest = [*convolution.args, None][: max(3, len(convolution.args))]
        nodes = [kernel, bias, *of_norm]
        keys = [None if node is None else names.get(node.name) for node in nodes]
        needed = keys if bias is not None else [keys[0], *keys[2:]]
        if any(key not in state for key in needed) or any(
            len(node.users) > 1 for node in (convolution, *nodes) if node is not None
        ):
            continue
        tensors: list[Any] = [None if key is None else state[key] for key in keys]
        weight, offset, scale, shift, mean, variance = tensors
        # The norm's shift is the place where the convolution's new bias lies.
        state[keys[0]], state[keys[3]] = fuse_conv_bn_weights(weight, offset, mean, variance, eps, scale, shift)
        convolution.args = (values, kernel, of_norm[1], *rest)
        norm.replace_all_uses_with(convolution)
        graph.erase_node(norm)
        folded += 1
    program.graph_module.recompile()
    return folded
