"""Weights of a YOLO: exchange with ultralytics' files, backbones taken over, and transfer to other classes.

Files are safetensors only. Weights published by Ultralytics are AGPL-3.0, like its code.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from agssp.errors import InputError
from agssp.models.ultralytics import import_ultralytics
from agssp.models.yolo_graphs import VARIANTS, Traits, traits
from agssp.tensor_files import read_tensors

from ..transfer import TransferReport, carry_over, check_fit, class_names, require_same
from .configuration_yolo import YoloConfig
from .neck_and_head import Head, build_neck_and_head, class_branches, class_convolutions, class_width, set_classes

if TYPE_CHECKING:
    from .modeling_yolo import YoloForObjectDetection


def from_ultralytics(
    model_class: type["YoloForObjectDetection"],
    file: str | os.PathLike,
    variant: str | None = None,
    id2label: dict[int, str] | None = None,
    **config: Any,
) -> "YoloForObjectDetection":
    """Build a detector from ultralytics' weights, class count and width of the class branch taken from the file.

    Args:
        model_class: `YoloForObjectDetection`.
        file: safetensors file with ultralytics' key names (`model.0.conv.weight` ...); half precision becomes float32.
        variant: Which graph it is; by default told from the width of the first convolution and the head's number and
            branches.
        id2label: Names of the classes; by default COCO's where there are 80, else `class_0` and so on.
        config: Other fields of `YoloConfig`.

    Raises:
        InputError: the file cannot be read, is of another variant, or `id2label` has another number of classes.
    """
    state = {name: value.float() if value.is_floating_point() else value for name, value in read_weights(file).items()}
    first = state.get("model.0.conv.weight")
    if first is None:
        raise InputError(f"{file}: no tensor model.0.conv.weight; expected the key names of an ultralytics detector")
    heads = [name for name in state if re.fullmatch(r"model\.\d+\.cv3\.0\.2\.weight", name)]
    if len(heads) != 1:
        raise InputError(f"{file}: expected one detection head (model.22.cv3.0.2.weight), found {heads or 'none'}")
    variant = _variant(file, Traits(len(first), int(heads[0].split(".")[1]), _one_to_one(heads[0]) in state), variant)
    num_labels, class_channels = state[heads[0]].shape[:2]
    if id2label is None:
        id2label = coco_names() if num_labels == 80 else {index: f"class_{index}" for index in range(num_labels)}
    if len(id2label) != num_labels:
        raise InputError(f"{file}: {num_labels} classes in the file, {len(id2label)} in id2label")
    model = model_class(YoloConfig(variant=variant, id2label=id2label, class_channels=class_channels, **config))
    names = ultralytics_names(model)
    rest = {name: value for name, value in state.items() if name not in {*names.values(), *_bins(model.head)}}
    _load(model, {ours: state[theirs] for ours, theirs in names.items() if theirs in state}, rest, str(file))
    return model.eval()


def to_ultralytics(model: "YoloForObjectDetection") -> dict[str, Tensor]:
    """State dict under ultralytics' names, for a `DetectionModel` of the same variant and number of classes.

    Where the class branch is wider than ultralytics would make it (weights that began on more classes), its own model
    must be given that width first, as its `load` does.

    Raises:
        InputError: the backbone is not the variant's own, so ultralytics' graph has no place for it.
    """
    state = model.state_dict()
    return {theirs: state[ours].detach().clone() for ours, theirs in ultralytics_names(model).items()} | _bins(
        model.head
    )


def ultralytics_names(model: "YoloForObjectDetection") -> dict[str, str]:
    """Our name of each tensor -> ultralytics' name.

    Raises:
        InputError: the backbone is not the variant's own.
    """
    architecture, variant = model.config.backbone_config.architecture, model.config.variant
    if architecture != variant:
        raise InputError(
            f"backbone {architecture} has no counterpart in ultralytics' {variant}; only {variant}'s own has"
        )
    names = {}
    for ours in model.state_dict():
        part, rest = ours.split(".", 1)
        if part == "backbone":
            # Whatever holds them, the layers keep their numbers.
            rest = re.sub(r"^\D+\.(?=\d)", "", rest)
        names[ours] = f"model.{model.head.i}.{rest}" if part == "head" else f"model.{rest}"
    return names


def transfer_from(
    model: "YoloForObjectDetection", source: "YoloForObjectDetection", keep_class_head: bool = False
) -> TransferReport:
    """Take over another detector's weights: all of them but the final class convolutions where the classes differ.

    Equal numbers of classes with other names count as different classes. The class branch gets the source's width.

    Args:
        model: Detector that receives; its classes, its image size and its freezing stay.
        source: Detector of the same variant on the same backbone architecture.
        keep_class_head: Take the final class convolutions too although the names differ.

    Raises:
        InputError: variant or backbone differ, or `keep_class_head` with different numbers of classes.
    """
    require_same("variant", model.config.variant, source.config.variant)
    require_same("backbone", model.config.backbone_config.architecture, source.config.backbone_config.architecture)
    ours, theirs = class_names(model), class_names(source)
    if keep_class_head and len(ours) != len(theirs):
        raise InputError(f"keep_class_head: the source has {len(theirs)} classes, the target {len(ours)}")

    _match_class_width(model, class_width(source.head))
    dropped: list[str] = []
    if ours != theirs and not keep_class_head:
        set_classes(model.head, len(ours))
        dropped = [f"head.{name}.{kind}" for name, _ in class_convolutions(model.head) for kind in ("weight", "bias")]
    return carry_over(model, source, source.config.variant, dropped)


def read_weights(file: str | os.PathLike) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        InputError: there is no such file, or it is not safetensors.
    """
    if not Path(file).is_file():
        raise InputError(f"{file}: no such file; expected ultralytics' weights as safetensors")
    return read_tensors(file)


def coco_names() -> dict[int, str]:
    """Names of COCO's 80 classes in the order of ultralytics' weights, from its own description of COCO."""
    root = Path(str(import_ultralytics().__file__)).parent
    from ultralytics.utils import YAML

    return dict(YAML.load(root / "cfg" / "datasets" / "coco.yaml")["names"])


def _variant(file: str | os.PathLike, found: Traits, asked: str | None) -> str:
    """The variant that a file holds.

    Raises:
        InputError: no variant of ours is like it, several are and none was asked for, or another was asked for.
    """
    alike = [variant for variant in VARIANTS if traits(variant) == found]
    if asked in alike:
        return str(asked)
    described = (
        f"{file}: its first convolution has {found.first_channels} channels and its head is layer {found.head}"
        f"{' with two branches' if found.end_to_end else ''}, which is {' or '.join(alike) or 'none of ours'}"
    )
    if asked is not None:
        raise InputError(f"{described}; variant={asked!r} was asked for")
    if len(alike) != 1:
        raise InputError(f"{described}; give variant=, one of {', '.join(alike or VARIANTS)}")
    return alike[0]


def _one_to_one(name: str) -> str:
    """The name of the tensor in the second branch of an end-to-end head that corresponds to one in its first."""
    return name.replace(".cv3.", ".one2one_cv3.")


def _bins(head: Head) -> dict[str, Tensor]:
    """The constant that ultralytics keeps among its weights: the distances that the bins of a box side stand for."""
    bins = torch.arange(head.reg_max, dtype=torch.float32).view(1, -1, 1, 1)
    return {f"model.{head.i}.dfl.conv.weight": bins} if head.reg_max > 1 else {}


def _match_class_width(model: "YoloForObjectDetection", width: int) -> None:
    """Rebuild the class branches at another width."""
    if class_width(model.head) == width:
        return
    backbone, config = model.backbone, model.config
    _, head, _ = build_neck_and_head(config.variant, backbone.channels, backbone.strides, model.num_labels, width)
    for name, branch in class_branches(head).items():
        setattr(model.head, name, branch.to(model.head.cv2[0][-1].weight).train(model.head.training))
    config.class_channels = width


def _load(model: nn.Module, state: dict[str, Tensor], rest: dict[str, Tensor], source: str) -> None:
    """Load a complete state; what is missing, left over or of another shape is an error that names it."""
    check_fit(model.state_dict(), state | rest, source)
    model.load_state_dict(state)
