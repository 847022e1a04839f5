"""The same networks as their home libraries build and run them, with the weights of ours, to compare with."""

import copy
import re
from dataclasses import dataclass
from typing import Any

import timm
import torchvision
import transformers
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from transformers import TimmBackboneConfig

from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.backbone.networks import is_of_timm
from agssp.models.detection.yolo.home_network import ultralytics_network
from agssp.models.yolo_graphs import VARIANTS

from .dino import DinoForObjectDetection
from .faster_rcnn import FasterRcnnForObjectDetection
from .transfer import detector_backbone
from .yolo import YoloForObjectDetection

TORCHVISION_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
RESNET_LAYERS = {"4": "layer1", "8": "layer2", "16": "layer3", "32": "layer4"}
"""Stride of a feature -> the layer of a ResNet that gives it."""

PARTS = {"network": "body", "fpn": "fpn"}
"""Our names of what torchvision counts to a detector's backbone -> its own."""


@dataclass(frozen=True)
class HomeNetwork:
    """A network of another library.

    Attributes:
        title: The library with its version, and how its network differs from ours; or why there is none.
        network: Takes `pixel_values` (B, 3, H, W) as ours do; in eval mode. None where there is none.
    """

    title: str
    network: nn.Module | None = None


def home_network(model: Any, image_size: int) -> HomeNetwork:
    """The counterpart of a detector or a backbone in the library that its network comes from.

    Args:
        model: A detector of `catalogue.FAMILIES` or an `AgsspBackbone`; its weights are copied.
        image_size: Side in px of the square input that it will be given.
    """
    if isinstance(model, AgsspBackbone):
        return _of_timm(model)
    if isinstance(model, YoloForObjectDetection):
        return _of_ultralytics(model)
    if isinstance(model, FasterRcnnForObjectDetection):
        return _of_torchvision(model, image_size)
    if isinstance(model, DinoForObjectDetection):
        return HomeNetwork("none: no library that is installed has DINO's detector; it is written here")
    return _of_transformers(model)


def _of_timm(backbone: AgsspBackbone) -> HomeNetwork:
    """timm's own network of features."""
    config = backbone.config
    if config.architecture in VARIANTS:
        return HomeNetwork("none: ultralytics has its backbones inside of detectors only")
    network = timm.create_model(
        config.architecture, features_only=True, out_indices=list(config.out_indices), **config.model_args
    )
    _copy_by_name(backbone.network, network)
    where = "" if is_of_timm(config.architecture) else f", with {config.architecture} added to it here"
    return HomeNetwork(f"timm {timm.__version__}{where}", network.eval())


def _of_ultralytics(model: YoloForObjectDetection) -> HomeNetwork:
    variant, backbone = model.config.variant, model.config.backbone_config.architecture
    if variant.startswith("slf_yolo"):
        return HomeNetwork("none: ultralytics has no SLF-YOLO")
    if backbone != variant:
        return HomeNetwork(f"none: ultralytics has no {variant} on {backbone}")
    version, network = ultralytics_network(model)
    return HomeNetwork(f"ultralytics {version}", network)


def _of_torchvision(model: FasterRcnnForObjectDetection, image_size: int) -> HomeNetwork:
    """torchvision's detector, on its own ResNet where ours is one."""
    config = model.config
    architecture, strides = config.backbone_config.architecture, [str(stride) for stride in config.strides]
    own = architecture in TORCHVISION_RESNETS and not config.backbone_config.model_args
    pyramid: Any = (
        BackboneWithFPN(
            torchvision.models.get_model(architecture, weights=None),
            {RESNET_LAYERS[stride]: stride for stride in strides},
            list(model.backbone.channels),
            config.pyramid_channels,
        )
        if own
        else _Pyramid(model)
    )
    network = FasterRCNN(
        pyramid,
        # It resizes and normalises in the model, which is made to change nothing.
        min_size=image_size,
        max_size=image_size,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=copy.deepcopy(model.rpn.anchor_generator),
        rpn_pre_nms_top_n_test=config.proposals[1],
        rpn_post_nms_top_n_test=config.proposals[1],
        rpn_nms_thresh=config.proposal_nms_threshold,
        box_roi_pool=MultiScaleRoIAlign(strides, output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(config.pyramid_channels * 7 * 7, config.head_channels),
        box_predictor=FastRCNNPredictor(config.head_channels, model.num_labels + 1),
        box_score_thresh=config.score_threshold,
        box_nms_thresh=config.nms_threshold,
        box_detections_per_img=config.detections_per_image,
    )
    given = {
        re.sub(r"^(backbone\.)?(network|fpn)\.", lambda part: f"backbone.{PARTS[part[2]]}.", name): value
        for name, value in model.state_dict().items()
    }
    network.load_state_dict(given)
    where = "" if own else f", on {_whose(architecture)}"
    return HomeNetwork(f"torchvision {torchvision.__version__}{where}", network.eval())


class _Pyramid(nn.Module):
    """torchvision's pyramid on any network of timm's or a YOLO's own."""

    def __init__(self, model: FasterRcnnForObjectDetection):
        super().__init__()
        self.body = copy.deepcopy(model.backbone.network)
        self.indices = list(model.backbone.out_indices)
        self.names = [str(stride) for stride in model.config.strides]
        self.out_channels = model.config.pyramid_channels
        self.fpn = FeaturePyramidNetwork(model.backbone.channels, self.out_channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.body.forward_intermediates(
            images, indices=self.indices, intermediates_only=True, output_fmt="NCHW", stop_early=True
        )
        return self.fpn(dict(zip(self.names, maps, strict=True)))


def _of_transformers(model: Any) -> HomeNetwork:
    """The same class on timm's network through transformers' own wrapper of it."""
    config, backbone = copy.deepcopy(model.config), model.config.backbone_config
    if backbone.architecture in VARIANTS:
        return HomeNetwork(f"none: transformers has no {backbone.architecture} as a backbone")
    _, own = detector_backbone(model)
    if getattr(own.network, "output_fmt", "NCHW") != "NCHW":
        return HomeNetwork(
            f"none: transformers' detectors do not take {backbone.architecture}'s features, channels last"
        )
    fields: dict[str, Any] = {"backbone": backbone.architecture, "out_indices": list(backbone.out_indices)}
    config.backbone_config = TimmBackboneConfig(**fields, **backbone.model_args)
    network = type(model)(config)
    _copy_by_name(model, network)
    title = f"transformers {transformers.__version__} on {_whose(backbone.architecture)}"
    return HomeNetwork(title, network.eval())


def _whose(architecture: str) -> str:
    """A backbone's name, with timm's where it comes from there."""
    return f"timm's {architecture}" if is_of_timm(architecture) else architecture


def _copy_by_name(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy weights onto timm's networks of features, which leave out what they have no use for."""

    def plain(name: str) -> str:
        # Some of them spell `layers.0` as `layers_0`.
        return name.replace("._backbone.", ".network.").replace("_", ".")

    given = {plain(name): value for name, value in ours.state_dict().items()}
    theirs.load_state_dict({name: given[plain(name)] for name in theirs.state_dict()})
