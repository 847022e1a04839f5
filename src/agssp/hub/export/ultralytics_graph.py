"""A YOLO of ours described in ultralytics' own rows and modules, and its weights under the names they have there.

ultralytics builds a model anew from its description whenever it trains, so a description may name nothing but modules
that it knows. Besides its own these are torch's and, through its `TorchVision`, torchvision's networks.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from agssp.errors import InputError
from agssp.models.detection.yolo import YoloForObjectDetection
from agssp.models.yolo_graphs import as_list, neck_inputs, read_graph

RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
"""timm's networks that torchvision has under the same name with the same layers."""

CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
"""Parts of torchvision's ResNet in order, pooling and classifier left out; `TorchVision` numbers them."""


def check_has_counterpart(model: YoloForObjectDetection) -> None:
    """Refuse what ultralytics cannot build from a description.

    Raises:
        InputError: the variant is SLF-YOLO, or the backbone neither the variant's own nor one of `RESNETS`.
    """
    variant, backbone = model.config.variant, model.config.backbone_config
    instead = "use `agssp export MODEL --format onnx --output model.onnx`"
    if variant.startswith("slf_yolo"):
        raise InputError(
            f"--format ultralytics: {variant} has modules that ultralytics does not know, and its training builds a "
            f"model of none but its own; {instead}"
        )
    if backbone.architecture not in (variant, *RESNETS):
        raise InputError(
            f"--format ultralytics: backbone {backbone.architecture} of this {variant} cannot be described there; "
            f"expected {variant}'s own or one of {', '.join(RESNETS)}; {instead}"
        )
    # Stochastic depth changes training alone, and other arguments the network itself.
    changed = sorted(set(backbone.model_args) - {"drop_path_rate"})
    if changed:
        raise InputError(
            f"--format ultralytics: {backbone.architecture} was built with {', '.join(changed)}, which torchvision's "
            f"network of this name has not; {instead}"
        )


def describe(model: YoloForObjectDetection) -> dict[str, Any]:
    """The description from which ultralytics builds the same network.

    Args:
        model: For which `check_has_counterpart` passes.

    Returns:
        What ultralytics calls a model's YAML: `backbone`, `head`, `scales`, `scale`, and `nc`, the number of classes.
    """
    variant, own = model.config.variant, read_graph(model.config.variant)
    first = _normalisation_rows(model)
    if _has_own_backbone(model):
        backbone = [[_places(model, row[0]), *row[1:]] for row in own["backbone"]]
    else:
        # No weights are named, or building it would download them.
        architecture, channels = model.config.backbone_config.architecture, model.backbone.channels
        network = [[-1, 1, "TorchVision", [channels[-1], architecture, None, True, 2, True]]]
        # Its list of features begins with its input.
        features = (CHILDREN.index(f"layer{stage}") + 1 for stage in (2, 3, 4))
        backbone = network + [
            [len(first), 1, "Index", [width, feature]] for width, feature in zip(channels, features, strict=True)
        ]
    head = [[_places(model, row[0]), *row[1:]] for row in own["head"]]
    names = {"nc": model.num_labels, "yaml_file": f"{variant}.yaml"}
    return own | names | {"backbone": first + backbone, "head": head}


def weights_of(model: YoloForObjectDetection, theirs: nn.Module) -> dict[str, Tensor]:
    """State dict for the model that ultralytics builds from the description.

    Args:
        model: Ours.
        theirs: ultralytics' `DetectionModel`, of which the batch norms' epsilon is read.
    """
    state = {_their_name(model, name): value.detach().clone() for name, value in model.state_dict().items()}
    bins = {name: value for name, value in theirs.state_dict().items() if name.endswith("dfl.conv.weight")}
    if _normalisation_rows(model):
        config = model.config.backbone_config
        mean, std = torch.tensor(config.image_mean), torch.tensor(config.image_std)
        state |= {"model.0.weight": torch.diag(1 / std)[:, :, None, None], "model.0.bias": -mean / std}
    epsilons = {name: module.eps for name, module in theirs.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            # ultralytics sets the same epsilon everywhere, so the scale makes up for the difference.
            norm = _their_name(model, f"{name}.weight").removesuffix(".weight")
            variance = state[f"{norm}.running_var"].double()
            factor = ((variance + epsilons[norm]) / (variance + module.eps)).sqrt()
            state[f"{norm}.weight"] = (state[f"{norm}.weight"].double() * factor).float()
    return state | bins


def _has_own_backbone(model: YoloForObjectDetection) -> bool:
    return model.config.backbone_config.architecture == model.config.variant


def _normalisation_rows(model: YoloForObjectDetection) -> list[list[Any]]:
    """A first layer that normalises, for weights that expect other inputs than ultralytics' 0..1; else none.

    It cannot be folded into the convolution that follows: that one's padding stands for the mean, ultralytics' for
    black.
    """
    config = model.config.backbone_config
    plain = not any(config.image_mean) and all(value == 1 for value in config.image_std)
    return [] if plain else [[-1, 1, "nn.Conv2d", [3, 3, 1]]]


def _places(model: YoloForObjectDetection, sources: int | list[int]) -> int | list[int]:
    """Numbers of layers of the variant's own graph in the description; -1 stays the layer before."""
    places = [source if source < 0 else _place(model, source) for source in as_list(sources)]
    return places if isinstance(sources, list) else places[0]


def _place(model: YoloForObjectDetection, number: int) -> int:
    """Number in the description of a layer of the variant's own graph."""
    first = len(_normalisation_rows(model))
    if _has_own_backbone(model):
        return first + number
    own = read_graph(model.config.variant)
    taps, layers = neck_inputs(own), len(own["backbone"])
    # The network is one layer, each of its features another.
    return first + 1 + (taps.index(number) if number < layers else number - layers + len(taps))


def _their_name(model: YoloForObjectDetection, name: str) -> str:
    """ultralytics' name of a tensor of ours."""
    part, rest = name.split(".", 1)
    if part == "head":
        return f"model.{_place(model, model.head.i)}.{rest}"
    if part == "backbone" and not _has_own_backbone(model):
        child, rest = rest.removeprefix("network.").split(".", 1)
        return f"model.{len(_normalisation_rows(model))}.m.{CHILDREN.index(child)}.{rest}"
    # Whatever holds the layers of a graph, they keep their numbers.
    number, rest = re.sub(r"^\D+\.(?=\d)", "", rest).split(".", 1)
    return f"model.{_place(model, int(number))}.{rest}"
