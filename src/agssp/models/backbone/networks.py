"""Which networks can be backbones, how they are built, and which of their parameters lie behind which feature."""

import difflib
import functools
import inspect
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from agssp.errors import InputError
from agssp.network_sizes import MOST_PARAMETERS

from . import resnet_vd
from .csp_darknet import VARIANTS, CSPDarknet
from .model_args import check_model_args

SHORT_NAMES = {"swin_base": "swin_base_patch4_window7_224"}
"""Names of the paper's networks that timm spells otherwise."""

# timm's networks fail in their own ways on arguments that do not fit.
_UNFIT = (TypeError, ValueError, AssertionError, AttributeError, LookupError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class FeatureLayout:
    """What a network's features look like, from the finest to the coarsest.

    Attributes:
        stage_names: `stem` (only where a feature finer than stride 4 exists) and `stage1`, `stage2`, ...
        channels: number of channels of each feature.
        strides: input pixels for one position of each feature.
        parameters: for each feature, the names of all parameters that it depends on.
    """

    stage_names: tuple[str, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    parameters: tuple[frozenset[str], ...]


def full_name(architecture: str) -> str:
    """Turn what a user wrote into a timm name without tag, or the variant of a YOLO.

    Raises:
        InputError: no such network; near names are shown.
    """
    import timm

    if not isinstance(architecture, str):
        raise InputError(f"no network {architecture!r}: expected a name, such as resnet50")
    name = architecture.split(".")[0]
    name = SHORT_NAMES.get(name, name)
    if name in VARIANTS or timm.is_model(name):
        return name
    near = difflib.get_close_matches(name, [*VARIANTS, *SHORT_NAMES, *timm.list_models()], n=5)
    raise InputError(
        f"no network {architecture!r}: expected one of {', '.join(VARIANTS)}, or a timm name"
        + (f"; near names are {', '.join(near)}" if near else "; `timm.list_models()` lists them")
    )


def is_of_timm(architecture: str) -> bool:
    """Whether timm alone has a network, and opens its saved folder without this package."""
    return architecture not in VARIANTS and architecture not in resnet_vd.default_cfgs


def name_of_weights(architecture: str) -> str:
    """The full name with the tag that a user wrote, if any, which names one of several sets of published weights.

    Raises:
        InputError: no such network, or no such tag; those that are there are shown.
    """
    import timm

    name, tag = full_name(architecture), architecture.partition(".")[2]
    if not tag:
        return name
    known = [] if name in VARIANTS else timm.list_pretrained(f"{name}.*")
    if f"{name}.{tag}" not in known:
        raise InputError(
            f"no weights {architecture!r}: published of {name} are {', '.join(known) or 'none with a tag'}"
        )
    return f"{name}.{tag}"


def build_network(architecture: str, model_args: dict[str, Any]) -> nn.Module:
    """Build a network without classifier and with random weights.

    Args:
        architecture: as returned by `full_name`.
        model_args: keyword arguments of timm's `create_model`; see `check_model_args`.

    Raises:
        InputError: the network has no features, or `model_args` do not fit it or are none that it may be given.
    """
    if architecture in VARIANTS:
        if model_args:
            raise InputError(f"{architecture} takes no model_args, got {model_args}")
        return CSPDarknet(architecture)
    import timm

    check_model_args(architecture, model_args)
    try:
        network = timm.create_model(architecture, pretrained=False, num_classes=0, **model_args)
    except _UNFIT as error:
        raise InputError(f"timm cannot build {architecture!r} with {model_args}: {error}") from error
    if not hasattr(network, "forward_intermediates"):
        raise InputError(f"timm's {architecture!r} gives no intermediate features; choose another network")
    return network


def default_model_args(architecture: str) -> dict[str, Any]:
    """Arguments that let a network with a fixed image size (Swin, ViT) take other sizes too."""
    if architecture in VARIANTS:
        return {}
    with torch.device("meta"):
        known = inspect.signature(type(build_network(architecture, {})).__init__).parameters
    if "strict_img_size" in known:
        return {"strict_img_size": False}
    return {"dynamic_img_size": True} if "dynamic_img_size" in known else {}


def drop_path_args(architecture: str, rate: float) -> dict[str, Any]:
    """`default_model_args` with stochastic depth: blocks are left out with probabilities that rise to this rate.

    Raises:
        InputError: the network has no stochastic depth, or the rate is no probability below 1.
    """
    if not 0 <= rate < 1:
        raise InputError(f"drop path {rate} (--drop-path): expected a number from 0 to below 1")
    takes = False
    if architecture not in VARIANTS:
        with torch.device("meta"):
            network = build_network(architecture, {})
        takes = "drop_path_rate" in inspect.signature(type(network).__init__).parameters
    if not takes:
        raise InputError(f"drop path {rate} (--drop-path): {architecture} has no stochastic depth; leave it out")
    return default_model_args(architecture) | {"drop_path_rate": rate}


def trains_with_adamw(architecture: str) -> bool:
    """Whether a network is of the kind that AdamW trains and SGD does not: transformers, and others with layer norms.

    These are the networks with attention over positions, and those that normalise more often by layer than by batch
    (ConvNeXt, mixers); batch-normalised networks with channel attention (squeeze and excitation) are not, nor are the
    YOLOs that have an attention block or two, which train with SGD as well.
    """
    if architecture in VARIANTS:
        return False
    with torch.device("meta"):
        modules = list(build_network(architecture, {}).modules())
    if any("Attention" in type(module).__name__ for module in modules):
        return True
    by_batch = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules)
    by_layer = sum(
        isinstance(module, nn.LayerNorm) or (isinstance(module, nn.GroupNorm) and module.num_groups == 1)
        for module in modules
    )
    return by_layer > by_batch


def input_settings(architecture: str) -> dict[str, Any]:
    """Image size, mean and standard deviation that a network's published weights expect: its default, or a tag's."""
    if architecture in VARIANTS:
        return {"image_size": 640, "image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}
    import timm

    cfg = timm.get_pretrained_cfg(architecture)
    if cfg is None:
        return {"image_size": 224, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    return {"image_size": cfg.input_size[-1], "image_mean": list(cfg.mean), "image_std": list(cfg.std)}


def native_size(architecture: str, model_args: dict[str, Any]) -> tuple[int, int]:
    """(height, width) in px that a network is built for: its arguments' `img_size`, else what its weights expect."""
    check_model_args(architecture, model_args)
    size = model_args.get("img_size") or input_settings(architecture)["image_size"]
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def channels_last_in_timm(architecture: str) -> bool:
    """Whether timm's own `features_only` gives (B, H, W, C), as it does of Swin; this package always gives NCHW."""
    if not is_of_timm(architecture):
        return False
    with torch.device("meta"):
        return getattr(build_network(architecture, {}), "output_fmt", "NCHW") == "NHWC"


def feature_layout(architecture: str, model_args: dict[str, Any]) -> FeatureLayout:
    """Find a network's features and what they depend on, by one forward pass without data.

    Raises:
        InputError: see `build_network`.
    """
    return _feature_layout(architecture, json.dumps(model_args, sort_keys=True))


@functools.lru_cache(maxsize=64)
def _feature_layout(architecture: str, model_args: str) -> FeatureLayout:
    with torch.device("meta"):
        network: Any = build_network(architecture, json.loads(model_args)).to("meta").eval()
    count = sum(parameter.numel() for parameter in network.parameters())
    if count > MOST_PARAMETERS:
        raise InputError(f"model_args of {architecture}: {count:,} parameters; expected {MOST_PARAMETERS:,} at most")
    height, width = native_size(architecture, json.loads(model_args))
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    with torch.inference_mode(False), torch.enable_grad():
        image = torch.zeros(1, 3, height, width, device="meta")
        try:
            features = network.forward_intermediates(image, indices=None, intermediates_only=True, output_fmt="NCHW")
        except _UNFIT as error:
            raise InputError(
                f"{architecture!r} with {model_args} takes no RGB images of {height} x {width} px: {error}"
            ) from error
    strides = tuple(width // feature.shape[-1] for feature in features)
    stem = strides[0] < 4
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return FeatureLayout(
        stage_names=tuple("stem" if stem and i == 0 else f"stage{i + (not stem)}" for i in range(len(features))),
        channels=tuple(feature.shape[1] for feature in features),
        strides=strides,
        parameters=tuple(frozenset(names[i] for i in _leaves_behind(feature)) for feature in features),
    )


def _leaves_behind(tensor: torch.Tensor) -> set[int]:
    """Identities of the parameters in a tensor's autograd graph."""
    found: set[int] = set()
    seen: set[Any] = set()
    stack: list[Any] = [tensor.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        stack.extend(parent for parent, _ in node.next_functions)
    return found
