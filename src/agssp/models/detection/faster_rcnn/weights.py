"""Weights of torchvision's Faster R-CNN with ResNet50 and feature pyramid, under our names."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.backbone.start_weights import read_safetensors

from ..transfer import check_fit
from .configuration_faster_rcnn import FasterRcnnConfig

if TYPE_CHECKING:
    from .modeling_faster_rcnn import FasterRcnnForObjectDetection

# Which names torchvision's parts have here, those of files from before its layers were wrapped included.
NAMES = (
    (r"^backbone\.body\.", "backbone.network."),
    (r"^backbone\.fpn\.", "fpn."),
    (r"^fpn\.(inner|layer)_blocks\.(\d+)\.(weight|bias)$", r"fpn.\1_blocks.\2.0.\3"),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
)
CLASS_LAYER = "roi_heads.box_predictor.cls_score.weight"
NORM_EPS = 1e-5


def from_torchvision(
    model_class: type["FasterRcnnForObjectDetection"],
    file: str | os.PathLike,
    id2label: dict[int, str] | None = None,
    frozen_norm_eps: float = 0.0,
    **config: Any,
) -> "FasterRcnnForObjectDetection":
    """Build a detector from the state dict of `torchvision.models.detection.fasterrcnn_resnet50_fpn`.

    Args:
        model_class: `FasterRcnnForObjectDetection`.
        file: safetensors file with torchvision's key names; half precision becomes float32.
        id2label: Names of the classes without the background; by default those of torchvision's COCO weights where
            there are 90, of which ten are "N/A", else `class_0` and so on.
        frozen_norm_eps: What was added to the variances of norms that were frozen in training, which a file does not
            tell (one without `num_batches_tracked` has such): 0 in the published COCO weights, 1e-5 in those that you
            trained from ImageNet weights.
        config: Other fields of `FasterRcnnConfig`.

    Returns:
        The detector in eval mode.

    Raises:
        InputError: the file cannot be read, is of another network, or `id2label` has another number of classes.
    """
    if not Path(file).is_file():
        raise InputError(f"{file}: no such file; expected weights of torchvision's Faster R-CNN as safetensors")
    state = {_our_name(name): value for name, value in read_safetensors(Path(file)).items()}
    if CLASS_LAYER not in state:
        raise InputError(f"{file}: no tensor {CLASS_LAYER}; expected torchvision's fasterrcnn_resnet50_fpn")
    count = len(state[CLASS_LAYER]) - 1
    if id2label is None:
        id2label = coco_names() if count == 90 else {index: f"class_{index}" for index in range(count)}
    if len(id2label) != count:
        raise InputError(f"{file}: {count} classes in the file, {len(id2label)} in id2label")
    backbone_config = AgsspBackboneConfig(architecture="resnet50")
    model = model_class(FasterRcnnConfig(backbone_config=backbone_config, id2label=id2label, **config))
    if not any(name.endswith(".num_batches_tracked") for name in state):
        counters = {name: value for name, value in model.state_dict().items() if name.endswith(".num_batches_tracked")}
        for name in [name for name in state if name.endswith(".running_var")]:
            # Our norms add their own.
            state[name] = state[name] + (frozen_norm_eps - NORM_EPS)
        state |= counters
    check_fit(model.state_dict(), state, str(file))
    model.load_state_dict(state)
    return model.eval()


def coco_names() -> dict[int, str]:
    """Names of the 90 classes of torchvision's COCO weights; ten of them were never used."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return dict(enumerate(names[1:]))


def _our_name(name: str) -> str:
    for theirs, ours in NAMES:
        name = re.sub(theirs, ours, name)
    return name
