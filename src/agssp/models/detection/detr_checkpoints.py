"""The published RT-DETR v2 and D-FINE: transformers' models on its own backbones, opened on equal networks here."""

import copy
import os
from typing import Any

import torch
from timm.models.hgnet import model_cfgs
from transformers import PreTrainedModel

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.backbone.networks import build_network
from agssp.models.backbone.saved_detectors import name_in_network, saved_input_settings
from agssp.models.loading import opening, saved_model_type

from .detector import open_detector
from .detr import CLASSES, ready_for_training
from .features import COARSEST_STRIDE
from .transfer import check_fit, detector_backbone

RESNETS: dict[tuple[Any, ...], str] = {
    ("basic", 64, 128, 256, 512, 2, 2, 2, 2): "resnet18vd",
    ("basic", 64, 128, 256, 512, 3, 4, 6, 3): "resnet34vd",
    ("bottleneck", 256, 512, 1024, 2048, 3, 4, 6, 3): "resnet50d",
    ("bottleneck", 256, 512, 1024, 2048, 3, 4, 23, 3): "resnet101d",
}
"""Blocks, widths and depths of a `RTDetrResNetConfig` -> the network."""

STAGES = ("stage1", "stage2", "stage3", "stage4")
HGNETS: dict[tuple[Any, ...], str] = {
    (tuple(parts["stem_chs"]), *(tuple(parts[stage]) for stage in STAGES)): name
    for name, parts in model_cfgs.items()
    if parts["stem_type"] == "v2"
}
"""Widths of the stem, and what timm lists of each stage -> the network."""

STAGE_FIELDS = (
    "stage_in_channels",
    "stage_mid_channels",
    "stage_out_channels",
    "stage_num_blocks",
    "stage_downsample",
    "stage_light_block",
    "stage_kernel_size",
    "stage_numb_of_layers",
)
"""Fields of a `HGNetV2Config` in the order in which timm lists the numbers of a stage."""

FIXED = {
    "rt_detr_resnet": (
        "num_channels",
        "embedding_size",
        "hidden_act",
        "downsample_in_first_stage",
        "downsample_in_bottleneck",
    ),
    "hgnet_v2": ("num_channels", "hidden_act", "stem_strides", "stage_downsample_strides"),
}
"""What the networks here cannot have otherwise than by default."""

TOLD = {
    "rt_detr_resnet": ("layer_type", "hidden_sizes", "depths"),
    "hgnet_v2": ("stem_channels", "stage_mid_channels", "stage_num_blocks", "use_learnable_affine_block"),
}
"""What an error tells of a network that is not known."""


def open_checkpoint(source: str | os.PathLike) -> PreTrainedModel:
    """Open a detector on a backbone of transformers' as one on an `AgsspBackbone`, in eval mode and ready for training.

    It computes what the original does. Its batch norms are ordinary ones, which `frozen_stages` freezes, where the
    original's are all frozen.

    Args:
        source: Folder or Hub id.

    Raises:
        InputError: there is none, its weights do not fit its config, or no network here is equal to its backbone.
    """
    with opening("detector", source):
        kind = saved_model_type(source, {})
    if kind not in CLASSES:
        raise InputError(f"{source}: a model of type {kind!r}, expected {' or '.join(CLASSES)}")
    original = open_detector(CLASSES[kind], source, dtype=torch.float32)
    config: Any = copy.deepcopy(original.config)
    settings = saved_input_settings(source)
    fields = {"out_features": list(config.backbone_config.out_features)} | settings
    architecture = architecture_of(config.backbone_config, str(source))
    config.backbone_config = AgsspBackboneConfig(architecture=architecture, **fields)
    config.freeze_backbone_batch_norms = False
    # Computed for each input, they fit inputs of other sizes too.
    config.anchor_image_size = config.eval_size = None
    config.image_size = COARSEST_STRIDE * max(config.backbone_config.image_size // COARSEST_STRIDE, 1)
    model = type(original)(config)
    place, backbone = detector_backbone(model)
    inside = f"{place}.network."
    given = {
        name if (inner := name_in_network(name)) is None else inside + inner: value
        for name, value in original.state_dict().items()
    }
    # transformers' networks have no part behind the last feature, and its frozen batch norms do not count.
    spare = {inside + name for name, _ in backbone.network.named_parameters() if name not in backbone.used_parameters()}
    expected = {
        name: value
        for name, value in model.state_dict().items()
        if name in given or not (name in spare or name.endswith(".num_batches_tracked"))
    }
    check_fit(expected, given, str(source))
    model.load_state_dict(given, strict=False)
    return ready_for_training(model).eval()


def architecture_of(config: Any, source: str) -> str:
    """The name of the network, timm's or one of `resnet_vd`, that a backbone of transformers' is equal to.

    Args:
        config: `RTDetrResNetConfig` or `HGNetV2Config`.
        source: Whose it is, for the messages.

    Raises:
        InputError: it is neither, or equal to none of the networks that RT-DETR v2 and D-FINE are published with.
    """
    if config.model_type not in FIXED:
        raise InputError(
            f"{source}: a detector on a backbone of type {config.model_type!r}; expected one of ours, or transformers' "
            f"{' or '.join(FIXED)}"
        )
    name, known = _equal_network(config)
    usual = type(config)()
    unlike = [field for field in FIXED[config.model_type] if _listed(config, field) != _listed(usual, field)]
    if name is None or unlike:
        fields = ", ".join(f"{field}={_listed(config, field)}" for field in (*TOLD[config.model_type], *unlike))
        raise InputError(
            f"{source}: its backbone ({config.model_type} with {fields}) is none that is known here; known are "
            f"{', '.join(known)}, as detectors are published with"
        )
    return name


def _equal_network(config: Any) -> tuple[str | None, list[str]]:
    """The network that a backbone of transformers' may be equal to, if any, and all networks of its kind."""
    if config.model_type == "rt_detr_resnet":
        return RESNETS.get((config.layer_type, *config.hidden_sizes, *config.depths)), list(RESNETS.values())
    stages = zip(*(getattr(config, field) for field in STAGE_FIELDS), strict=True)
    name = HGNETS.get((tuple(config.stem_channels[1:]), *map(tuple, stages)))
    with torch.device("meta"):
        if name is not None and build_network(name, {}).use_lab != config.use_learnable_affine_block:
            name = None
    return name, list(HGNETS.values())


def _listed(config: Any, field: str) -> Any:
    """A field's value, a tuple as a list."""
    value = getattr(config, field)
    return list(value) if isinstance(value, tuple) else value
