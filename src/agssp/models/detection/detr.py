"""transformers' own RT-DETR v2 and D-FINE on our backbones: built, opened, given weights, and their boxes.

The models are transformers' classes (Apache-2.0) as they are; what `Detector` does in methods, functions do here.
Their own backbones are `resnet18vd`, `resnet34vd`, `resnet50d` and `resnet101d` (RT-DETR), and `hgnetv2_b0` to
`hgnetv2_b5` (D-FINE); `detr_checkpoints` opens what is published with these.
"""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DFineForObjectDetection, PreTrainedModel, RTDetrV2ForObjectDetection
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import ModelOutput

from agssp.errors import InputError
from agssp.files import whole_files
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.loading import opening, saved_model_type

from .detector import open_detector
from .features import COARSEST_STRIDE, taken_channels, with_strides
from .image_processing import LetterboxImageProcessor
from .labels import check_labels, with_class_names
from .transfer import TransferReport, carry_over, class_names, detector_backbone, load_backbone, require_same

__all__ = [
    "CLASSES",
    "KINDS",
    "build_detr",
    "detector_backbone",
    "image_processor",
    "load_backbone",
    "open_detr",
    "ready_for_training",
    "save_detr",
    "sum_losses",
    "transfer",
]

D_FINE_POINTS = [3, 6, 3]
# The widths of the papers' smallest and base models; what is not named is the configuration class's default.
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rtdetr_v2_s": (RTDetrV2ForObjectDetection, {"decoder_layers": 3, "hidden_expansion": 0.5}),
    "rtdetr_v2_l": (RTDetrV2ForObjectDetection, {}),
    "dfine_s": (
        DFineForObjectDetection,
        {"decoder_layers": 3, "hidden_expansion": 0.5, "depth_mult": 0.34, "decoder_n_points": D_FINE_POINTS},
    ),
    "dfine_l": (DFineForObjectDetection, {"decoder_n_points": D_FINE_POINTS}),
}
CLASSES = {model_class.config_class.model_type: model_class for model_class, _ in KINDS.values()}
"""model_type of a configuration -> transformers' class."""

STRIDES = (8, 16, 32)
MOST_QUERIES = 300
BOX_HEADS = re.compile(r"(^|\.)(enc_bbox_head|pre_bbox_head|bbox_embed\.\d+)$")
OF_THE_CLASSES = re.compile(r"(^|\.)(class_embed|enc_score_head|denoising_class_embed)\.")


def build_detr(
    kind: str,
    backbone_config: AgsspBackboneConfig | dict[str, Any],
    id2label: Mapping[int, str] | None = None,
    image_size: int = 640,
    **fields: Any,
) -> PreTrainedModel:
    """Build a detector with random weights.

    Args:
        kind: One of `KINDS`.
        backbone_config: Backbone with features at strides 8, 16 and 32, which are chosen whatever it returns.
        id2label: Names of the classes; one, `defect`, by default.
        image_size: Side in pixels of the square input that training and prediction use by default. Others work too.
        fields: Other fields of the configuration. D-FINE takes two decoder layers at least. `num_queries` is 300 by
            default, or as many as the feature maps of a smaller input have cells.

    Returns:
        A plain `RTDetrV2ForObjectDetection` or `DFineForObjectDetection`, made ready by `ready_for_training`.

    Raises:
        InputError: no such kind, an image size that 32 does not divide, or a backbone without the strides.
    """
    if kind not in KINDS:
        raise InputError(f"detector {kind!r}: expected one of {', '.join(KINDS)}")
    if image_size < COARSEST_STRIDE or image_size % COARSEST_STRIDE:
        raise InputError(f"image_size={image_size}: expected a multiple of {COARSEST_STRIDE}")
    model_class, preset = KINDS[kind]
    backbone_config = with_strides(backbone_config, STRIDES)
    names = with_class_names({"id2label": None if id2label is None else dict(id2label)})
    queries = {"num_queries": min(MOST_QUERIES, cells(image_size, image_size, STRIDES))}
    config = model_class.config_class(
        backbone_config=backbone_config,
        encoder_in_channels=taken_channels(backbone_config),
        # Ours freeze by `frozen_stages`, and frozen norms of random weights would never be right.
        freeze_backbone_batch_norms=False,
        image_size=image_size,
        **names,
        **(queries | preset | fields),
    )
    model = model_class(config)
    backbone, _ = detector_backbone(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not name.startswith(backbone):
            # transformers starts RT-DETR's with scales around 0, its authors with 1.
            module.reset_parameters()
    return ready_for_training(model)


def open_detr(folder: str | os.PathLike) -> PreTrainedModel:
    """Open a saved detector, in eval mode and ready for training.

    Raises:
        InputError: there is no such folder or repository, it holds another kind of model, or its weights do not fit.
    """
    with opening("detector", folder):
        kind = saved_model_type(folder, {})
    if kind not in CLASSES:
        raise InputError(f"{folder}: a model of type {kind!r}, expected {' or '.join(CLASSES)}")
    return ready_for_training(open_detector(CLASSES[kind], folder))


def ready_for_training(model: PreTrainedModel) -> PreTrainedModel:
    """Let a plain model train as ours do; what it computes in full precision stays the same.

    Input that it cannot take is an InputError. Its loss reaches every parameter also where a batch has no box, which
    distributed training needs. `loss_dict` has one entry a kind of loss (see `sum_losses`). Boxes keep full precision
    where the network runs in half. transformers' Trainer divides the loss by the accumulated steps, and goes on from a
    checkpoint with all of its weights.
    """
    # Its forward takes any keyword, from which Trainer would conclude that it normalises by a number of tokens.
    model.accepts_loss_kwargs = False  # type: ignore[assignment]
    model.register_load_state_dict_pre_hook(_rename_saved)
    model.register_forward_pre_hook(_check_input, with_kwargs=True)
    model.register_forward_hook(_complete_losses)
    for name, module in model.named_modules():
        if BOX_HEADS.search(name):
            module.register_forward_hook(_in_full_precision)
    for name, parameter in model.named_parameters():
        # Constants of D-FINE, which transformers' loader makes trainable.
        if name.endswith(("decoder.up", "decoder.reg_scale")):
            parameter.requires_grad_(False)
    return model


def sum_losses(loss_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses of all decoder layers, the encoder and the denoising queries, added up for each kind, detached.

    Args:
        loss_dict: transformers' `loss_vfl`, `loss_bbox_aux_0`, `loss_giou_dn_2` and so on, already weighted.

    Returns:
        `vfl` (classes), `bbox` (L1) and `giou`; D-FINE's `fgl` and `ddf` as well.
    """
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for name, value in loss_dict.items():
        parts[re.sub(r"^loss_|_(aux|dn)_\d+$", "", name)].append(value.detach())
    return {name: sum(values[1:], values[0]) for name, values in parts.items()}


def transfer(model: PreTrainedModel, donor: PreTrainedModel) -> TransferReport:
    """Take over another detector's weights: all of them but those of its classes, where these differ.

    Equal numbers of classes with other names count as different classes.

    Args:
        model: Detector that receives; what belongs to its classes starts afresh.
        donor: Detector of the same kind on the same backbone architecture.

    Raises:
        InputError: kind, backbone or widths differ.
    """
    require_same("kind of detector", model.config.model_type, donor.config.model_type)
    ours, theirs = (detector_backbone(detector)[1].config.architecture for detector in (model, donor))
    require_same("backbone", ours, theirs)
    dropped: list[str] = []
    if class_names(model) != class_names(donor):
        fresh = type(model)(model.config).state_dict()
        dropped = [name for name in fresh if OF_THE_CLASSES.search(name)]
        model.load_state_dict({name: fresh[name] for name in dropped}, strict=False)
    return carry_over(model, donor, model.config.model_type, dropped)


def image_processor(model: PreTrainedModel, size: int | None = None) -> LetterboxImageProcessor:
    """The preparation of images that a model expects, at its own input size or another."""
    config: Any = model.config
    backbone = config.backbone_config
    return LetterboxImageProcessor(size or config.image_size, backbone.image_mean, backbone.image_std)


def save_detr(model: PreTrainedModel, folder: str | os.PathLike) -> None:
    """Save a detector with its image processor, without which no pipeline opens it."""
    with whole_files(folder, last="config.json") as part:
        model.save_pretrained(part)
        image_processor(model).save_pretrained(str(part))


def _rename_saved(model: Any, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """A hook before `load_state_dict`: the names that transformers saves under become those that the model has.

    `save_pretrained` writes the names of older versions, and `from_pretrained` knows; Trainer, which goes on from a
    checkpoint with `load_state_dict`, does not, and only warns that weights are missing.
    """
    names = list(model.state_dict())
    places = revert_weight_conversion(model, {name: torch.tensor(place) for place, name in enumerate(names)})
    for saved, place in places.items():
        ours, theirs = prefix + names[int(place)], prefix + saved
        if theirs in state_dict and ours not in state_dict:
            state_dict[ours] = state_dict.pop(theirs)


def cells(height: int, width: int, strides: Sequence[int]) -> int:
    """Cells of the feature maps of these strides together: one query is chosen from each at most."""
    return sum((height // stride) * (width // stride) for stride in strides)


def _check_input(model: Any, inputs: tuple, named: dict[str, Any]) -> None:
    """A forward pre-hook: input sizes and labels that the model has no words for."""
    pixel_values = inputs[0] if inputs else named["pixel_values"]
    batch, _, height, width = pixel_values.shape
    queries, found = model.config.num_queries, cells(height, width, model.config.feat_strides)
    if height % COARSEST_STRIDE or width % COARSEST_STRIDE or found < queries:
        raise InputError(
            f"pixel_values of {height} x {width} pixels: both sides must be multiples of {COARSEST_STRIDE}, and large "
            f"enough for {queries} queries (such an input has {found} cells)"
        )
    if named.get("labels") is not None:
        check_labels(named["labels"], batch, model.config.num_labels)


def _complete_losses(model: Any, _: Any, output: Any) -> None:
    """A forward hook; see `ready_for_training`."""
    if not isinstance(output, ModelOutput) or output.get("loss") is None:
        return
    if model.config.num_denoising > 0:
        # Without a box there is nothing to denoise.
        output["loss"] = output["loss"] + 0 * model.model.denoising_class_embed.weight.sum()
    output["loss_dict"] = sum_losses(output["loss_dict"])


def _in_full_precision(_: Any, __: Any, output: Tensor) -> Tensor:
    """A forward hook: boxes are sums of these, and bfloat16 has too few digits for a coordinate of 640 px."""
    return output.float()
