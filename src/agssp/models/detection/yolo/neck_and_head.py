"""The half of a YOLO that comes after the backbone, built from its graph's description.

The modules are ultralytics' and therefore under AGPL-3.0; see `YoloForObjectDetection` for what that means.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from agssp.errors import InputError
from agssp.models.ultralytics import import_ultralytics
from agssp.models.yolo_graphs import as_list, build_layers, neck_inputs, read_graph

# ultralytics' `Detect`; the types of its nested modules are beyond a type checker.
Head = Any


def build_neck_and_head(
    variant: str,
    channels: Sequence[int],
    strides: Sequence[int],
    num_labels: int,
    class_channels: int | None = None,
) -> tuple[nn.ModuleDict, Head, tuple[int, ...]]:
    """Build the layers that follow the backbone in the graph of a variant.

    Args:
        variant: Name of the graph with its scale, such as `yolov8s`.
        channels: Channels of the backbone's feature maps, finest first.
        strides: Strides of these maps; the head has the last three.
        num_labels: Number of classes.
        class_channels: Width of the head's class branch; `None` takes what ultralytics derives from `num_labels`.

    Returns:
        The neck's layers under their numbers in the graph, ultralytics' `Detect` head, and the numbers of the graph's
        backbone layers whose place the feature maps take.

    Raises:
        InputError: the graph takes another number of feature maps, or the class branch cannot have this width.
    """
    import_ultralytics()
    from ultralytics.utils.torch_utils import initialize_weights

    graph = read_graph(variant)
    last = len(graph["backbone"]) - 1
    taps = neck_inputs(graph)
    if len(taps) != len(channels):
        raise InputError(
            f"{variant} takes {len(taps)} feature maps, the backbone gives {len(channels)}; set out_indices"
        )
    # The backbone's layers are replaced by parameterless ones that only tell the parser their number of channels, so
    # that the layers after them keep their numbers and read the channels of any backbone.
    widths = dict(zip(taps, channels, strict=True))
    graph["backbone"] = [[-1, 1, "Index", [widths.get(index, 3), 0]] for index in range(last + 1)]
    graph["nc"] = class_channels or num_labels
    # transformers builds models without storage inside from_pretrained; the parser and the head need real numbers.
    with torch.device("cpu"):
        layers = build_layers(graph)
        neck = nn.ModuleDict({str(index): layers[index] for index in range(last + 1, len(layers) - 1)})
        head: Head = layers[-1]
        # The priors of the head's biases depend on the strides, which ultralytics finds by a trial run of its backbone.
        head.stride = torch.tensor(strides[-head.nl :], dtype=torch.float32)
        head.bias_init()
        if class_channels is not None:
            set_classes(head, num_labels)
        # Its only use, the mean over the bins, is in `decode_boxes`. As a parameter without gradient it would stall
        # distributed training, since transformers' loader makes every parameter trainable.
        head.dfl = nn.Identity()
        # Sets ultralytics' epsilon and momentum of the batch norms, which no file of weights carries.
        initialize_weights(neck)
        initialize_weights(head)
    if class_channels not in (None, class_width(head)):
        raise InputError(f"class_channels={class_channels}: the nearest that {variant} can have is {class_width(head)}")
    return neck, head, taps


def run_neck(neck: nn.ModuleDict, head: Head, taps: Sequence[int], feature_maps: Sequence[Tensor]) -> list[Tensor]:
    """Feature maps of the backbone -> feature maps that the head reads.

    Args:
        neck: Layers as built by `build_neck_and_head`.
        head: The head, which knows which layers it reads.
        taps: Number of the backbone layer that each feature map stands for.
        feature_maps: One `(B, C, H / stride, W / stride)` a stride, finest first.

    Returns:
        One `(B, C, H / stride, W / stride)` a stride of the head.
    """
    outputs = dict(zip(taps, feature_maps, strict=True))
    previous = feature_maps[-1]
    layer: Any  # carries ultralytics' numbers of itself and of what it reads
    read_later = {source for layer in (*neck.values(), head) for source in as_list(layer.f)}
    for layer in neck.values():
        inputs = [previous if source == -1 else outputs[source] for source in as_list(layer.f)]
        previous = layer(inputs if isinstance(layer.f, list) else inputs[0])
        # Memory is what the rest would cost.
        if layer.i in read_later:
            outputs[layer.i] = previous
    return [outputs[source] for source in head.f]


def run_head(head: Head, feature_maps: list[Tensor], branch: str) -> dict[str, Any]:
    """Raw predictions of one branch of the head, the same in training and evaluation mode.

    Args:
        head: The head.
        feature_maps: What it reads.
        branch: `one2many`, the only one of most heads; or `one2one` of an end-to-end head, whose gradient ends at the
            feature maps in training, so that backbone and neck learn from the many predictions an object.

    Returns:
        `boxes` (B, 4 * bins, A): logits of the distances' bins, or the distances where there is one bin; `scores`
        (B, C, A): class logits; `feats`: the feature maps. This is what ultralytics' loss reads.
    """
    if branch == "one2one" and head.training:
        feature_maps = [feature_map.detach() for feature_map in feature_maps]
    return head.forward_head(feature_maps, **getattr(head, branch))


def is_end_to_end(head: Head) -> bool:
    """Whether the head has a second branch with one prediction an object, which need no suppression."""
    return hasattr(head, "one2one_cv3")


def box_branches(head: Head) -> dict[str, Any]:
    """The branches that predict boxes, by their names inside the head."""
    return {"cv2": head.cv2} | ({"one2one_cv2": head.one2one_cv2} if is_end_to_end(head) else {})


def class_branches(head: Head) -> dict[str, Any]:
    """The branches that predict classes, by their names inside the head."""
    return {"cv3": head.cv3} | ({"one2one_cv3": head.one2one_cv3} if is_end_to_end(head) else {})


def class_width(head: Head) -> int:
    """Width of the head's class branches: the channels that enter their final convolutions."""
    return head.cv3[0][-1].in_channels


def class_convolutions(head: Head) -> Iterator[tuple[str, Any]]:
    """The final class convolution of each branch and stride with its name inside the head, such as `cv3.0.2`."""
    for name, branch in class_branches(head).items():
        for level, layers in enumerate(branch):
            yield f"{name}.{level}.{len(layers) - 1}", layers[-1]


def prior_biases(head: Head) -> dict[nn.Module, float]:
    """What ultralytics' `bias_init` sets for each of the head's final convolutions.

    The class bias makes every image of 640 px begin with about five objects.
    """
    biases = {layers[-1]: 2.0 for branch in box_branches(head).values() for layers in branch}
    for branch in class_branches(head).values():
        for layers, stride in zip(branch, head.stride.tolist(), strict=True):
            biases[layers[-1]] = math.log(5 / head.nc / (640 / stride) ** 2)
    return biases


def set_classes(head: Head, num_labels: int) -> None:
    """Give the head fresh final class convolutions for this number of classes, with their prior biases."""
    head.nc, head.no = num_labels, num_labels + 4 * head.reg_max
    for branch in class_branches(head).values():
        for layers in branch:
            old = layers[-1]
            layers[-1] = nn.Conv2d(old.in_channels, num_labels, 1).to(old.weight)
    biases = prior_biases(head)
    for _, convolution in class_convolutions(head):
        nn.init.constant_(convolution.bias, biases[convolution])


def decode_boxes(distributions: Tensor, feature_sizes: Sequence[tuple[int, int]], strides: Sequence[float]) -> Tensor:
    """Distances from each cell's centre to the four sides -> boxes relative to the input.

    A distance is the mean of a distribution over whole cells (generalised focal loss, arXiv:2006.04388), or given
    directly where there is one bin.

    Args:
        distributions: Logits (B, 4 * bins, A) in the order left, top, right, bottom.
        feature_sizes: (height, width) of the head's feature maps, whose cells add up to A.
        strides: Pixels of the input per cell of each map.

    Returns:
        float32 boxes (B, A, 4) as centre x, centre y, width, height, in 0..1 of the input where they lie inside it.
    """
    batch, channels, anchors = distributions.shape
    bins = channels // 4
    distributions = distributions.float()
    if bins > 1:
        places = torch.arange(bins, dtype=torch.float32, device=distributions.device)
        # A matrix product would have fewer digits under autocast.
        distributions = (distributions.view(batch, 4, bins, anchors).softmax(2) * places[:, None]).sum(2)
    near, far = distributions.view(batch, 2, 2, anchors).unbind(1)
    # What a compiler traces must not be kept.
    cells_of = cell_grid.__wrapped__ if torch.compiler.is_compiling() else cell_grid
    centre, cell = cells_of(tuple(feature_sizes), tuple(strides), distributions.device)
    boxes = torch.cat((centre + (far - near) / 2 * cell, (near + far) * cell), 1)
    return boxes.transpose(1, 2)


@functools.lru_cache(maxsize=16)
def cell_grid(
    feature_sizes: tuple[tuple[int, int], ...], strides: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Centres and sizes of the cells of all maps; kept, for the many small steps cost a GPU more than the boxes do.

    Args:
        feature_sizes: (height, width) of each map.
        strides: Pixels of the input per cell of each map.
        device: Where the result lies.

    Returns:
        float32 (2, A) each: x and y of the centres, width and height of the cells, both relative to the input.
    """
    width, height = (feature_sizes[0][axis] * strides[0] for axis in (1, 0))
    centres, cells = [], []
    # A pass without gradients may come first, and one with gradients needs ordinary tensors.
    with torch.inference_mode(False):
        for (rows, columns), stride in zip(feature_sizes, strides, strict=True):
            y, x = torch.meshgrid(
                (torch.arange(rows, dtype=torch.float32, device=device) + 0.5) * (stride / height),
                (torch.arange(columns, dtype=torch.float32, device=device) + 0.5) * (stride / width),
                indexing="ij",
            )
            centres.append(torch.stack((x.flatten(), y.flatten())))
            # One cell of this map in units of the input's width and height.
            cells.append(
                torch.stack(
                    (torch.full_like(centres[-1][0], stride / width), torch.full_like(centres[-1][0], stride / height))
                )
            )
        return torch.cat(centres, 1), torch.cat(cells, 1)


def square_input_size(num_anchors: int, strides: Sequence[float]) -> tuple[int, int]:
    """The square input whose feature maps have this many cells in all.

    Raises:
        InputError: no square input has as many, so the input was a rectangle, which must be named.
    """
    side = math.sqrt(num_anchors / sum(stride**-2 for stride in strides))
    coarsest = int(max(strides))
    size = round(side / coarsest) * coarsest
    if sum((size // int(stride)) ** 2 for stride in strides) != num_anchors:
        raise InputError(f"{num_anchors} predictions an image do not come from a square input; give input_size=(H, W)")
    return size, size
