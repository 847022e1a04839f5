"""Which of a backbone's feature maps a detector takes."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.backbone.networks import FeatureLayout, feature_layout

COARSEST_STRIDE = 32


def check_input(pixel_values: Tensor) -> None:
    """Refuse an input (B, 3, H, W) that the coarsest feature map does not divide.

    Raises:
        InputError: a side is no multiple of 32.
    """
    height, width = pixel_values.shape[2:]
    if height % COARSEST_STRIDE or width % COARSEST_STRIDE:
        raise InputError(
            f"pixel_values of {height} x {width} pixels: both sides must be multiples of {COARSEST_STRIDE}"
        )


def layout_of(config: AgsspBackboneConfig) -> FeatureLayout:
    """Names, channels and strides of all features of a backbone."""
    return feature_layout(config.architecture, config.model_args or {})


def with_strides(
    backbone_config: AgsspBackboneConfig | dict[str, Any], strides: Sequence[int] | None = None
) -> AgsspBackboneConfig:
    """A copy of a backbone's configuration that returns the features of these strides, whatever it returned before.

    Args:
        backbone_config: `AgsspBackboneConfig` or its dict.
        strides: Ascending, each twice the one before, the last one 32. `None` takes those of 4, 8, 16, 32 that the
            backbone has.

    Raises:
        InputError: the backbone has no such features.
    """
    fields = backbone_config if isinstance(backbone_config, dict) else backbone_config.to_dict()
    config = AgsspBackboneConfig(**fields)
    # Where several features have one stride, the last has seen most.
    index = {stride: position for position, stride in enumerate(layout_of(config).strides)}
    if strides is None:
        strides = [stride for stride in sorted(index) if 4 <= stride <= COARSEST_STRIDE]
    halving = [COARSEST_STRIDE >> step for step in range(len(strides))][::-1]
    if not strides or list(strides) != halving or not {*strides} <= {*index}:
        raise InputError(
            f"strides={list(strides)}: backbone {config.architecture} has features at strides {sorted(index)}; "
            f"expected some of these, each twice the one before, up to {COARSEST_STRIDE}"
        )
    config.set_output_features_output_indices(out_features=None, out_indices=[index[stride] for stride in strides])
    return config


def taken_strides(config: AgsspBackboneConfig) -> list[int]:
    """Strides of the features that a backbone returns."""
    strides = layout_of(config).strides
    return [strides[index] for index in config.out_indices]


def taken_channels(config: AgsspBackboneConfig) -> list[int]:
    """Channels of the features that a backbone returns."""
    channels = layout_of(config).channels
    return [channels[index] for index in config.out_indices]
