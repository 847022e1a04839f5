"""What predictions of a set of boxes are trained on: one-to-one matching, focal loss, distance and generalised IoU."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from .denoising import DenoisingQueries

GAMMA = 2.0  # of the focal loss and of the matching cost that goes with it


class Targets(NamedTuple):
    """The boxes of a batch in one list, image after image. N is their number.

    Attributes:
        classes: int64 (N,).
        boxes: float32 (N, 4), centre x, centre y, width, height in 0..1.
        counts: How many belong to each image.
    """

    classes: Tensor
    boxes: Tensor
    counts: list[int]


class Matches(NamedTuple):
    """Predictions that each stand for a target; int64 (P,) each.

    Attributes:
        layers: Layer of the prediction.
        images: Its image in the batch.
        queries: Its query.
        targets: The target in the batch's list.
    """

    layers: Tensor
    images: Tensor
    queries: Tensor
    targets: Tensor


def flat_targets(labels: Sequence[dict[str, Tensor]], device: torch.device) -> Targets:
    """transformers' labels as one list."""
    return Targets(
        torch.cat([image["class_labels"] for image in labels]).to(device),
        torch.cat([image["boxes"] for image in labels]).to(device, torch.float32),
        [len(image["class_labels"]) for image in labels],
    )


def matching_cost(
    logits: Tensor, boxes: Tensor, classes: Tensor, target_boxes: Tensor, weights: Sequence[float], alpha: float
) -> Tensor:
    """What it costs to let a prediction stand for a target.

    Args:
        logits: (Q, C) class logits.
        boxes: (Q, 4) centre x, centre y, width, height.
        classes: int64 (n,).
        target_boxes: (n, 4) likewise.
        weights: Of the class, the distance and the generalised IoU.
        alpha: Of the focal loss.

    Returns:
        (Q, n): the focal loss of the target's class as a positive less that as a negative, the sum of the absolute
        differences of the coordinates, and minus the generalised IoU, weighted.
    """
    scores = logits.sigmoid()
    positive = -alpha * (1 - scores) ** GAMMA * torch.nn.functional.logsigmoid(logits)
    negative = -(1 - alpha) * scores**GAMMA * torch.nn.functional.logsigmoid(-logits)
    overlap = generalized_box_iou(box_convert(boxes, "cxcywh", "xyxy"), box_convert(target_boxes, "cxcywh", "xyxy"))
    class_weight, distance_weight, overlap_weight = weights
    return (
        class_weight * (positive - negative)[:, classes]
        + distance_weight * torch.cdist(boxes, target_boxes, p=1)
        - overlap_weight * overlap
    )


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, targets: Targets, weights: Sequence[float], alpha: float) -> Matches:
    """Let one prediction of every layer stand for each target, so that the sum of the costs is least.

    Args:
        logits: float32 (layers, B, Q, C).
        boxes: float32 (layers, B, Q, 4).
        targets: What is to be found. Of more targets than queries the dearest are left over.
        weights: See `matching_cost`.
        alpha: See `matching_cost`.
    """
    layers, _, queries, _ = logits.shape
    parts, first = [], 0
    for image, count in enumerate(targets.counts):
        own = slice(first, first + count)
        cost = matching_cost(
            logits[:, image].flatten(0, 1), boxes[:, image].flatten(0, 1), targets.classes[own], targets.boxes[own],
            weights, alpha,
        )  # fmt: skip
        parts.append(cost.view(layers, queries, count))
        first += count
    # All costs move at once: each move would wait for the device. What is not a number has diverged, and must not
    # stop the training before whoever watches the loss can tell.
    costs = torch.cat(parts, 2).nan_to_num(1e9, 1e9, -1e9).cpu().numpy()
    found: list[tuple[int, int, int, int]] = []
    first = 0
    for image, count in enumerate(targets.counts):
        for layer in range(layers):
            rows, columns = linear_sum_assignment(costs[layer, :, first : first + count])
            found += [(layer, image, row, first + column) for row, column in zip(rows, columns, strict=True)]
        first += count
    return Matches(*torch.tensor(found, dtype=torch.int64, device=logits.device).view(-1, 4).unbind(1))


def denoising_matches(queries: DenoisingQueries, counts: Sequence[int], layers: int) -> Matches:
    """Every positive denoising query stands for the box that it was made of, in every layer."""
    device = queries.real.device
    firsts = torch.tensor(counts, device=device).cumsum(0) - torch.tensor(counts, device=device)
    images, places = (queries.real & queries.positive).nonzero(as_tuple=True)
    return Matches(
        torch.arange(layers, device=device).repeat_interleave(len(images)),
        images.repeat(layers),
        places.repeat(layers),
        (firsts[images] + queries.slots[places]).repeat(layers),
    )


def set_losses(
    logits: Tensor, boxes: Tensor, targets: Targets, matches: Matches, alpha: float, counted: Tensor | None = None
) -> Tensor:
    """Losses of predictions that stand for targets, and of all others, which are to find nothing.

    Args:
        logits: float32 (layers, B, Q, C).
        boxes: float32 (layers, B, Q, 4).
        targets: What is to be found.
        matches: Which prediction stands for which target.
        alpha: Weight of the positive side in the focal loss.
        counted: bool (B, Q), predictions that count; all without it.

    Returns:
        (layers, 3): sums over the batch of the focal loss of all predictions, and of the absolute differences of the
        coordinates and 1 - generalised IoU of those that stand for a target.
    """
    place = (matches.layers, matches.images, matches.queries)
    wanted = torch.zeros_like(logits)
    wanted[*place, targets.classes[matches.targets]] = 1
    focal = sigmoid_focal_loss(logits, wanted, alpha, GAMMA, reduction="none").sum(3)
    if counted is not None:
        focal = focal * counted
    found, true = boxes[place], targets.boxes[matches.targets]
    distance = (found - true).abs().sum(1)
    overlap = generalized_box_iou_loss(box_convert(found, "cxcywh", "xyxy"), box_convert(true, "cxcywh", "xyxy"))
    nothing = logits.new_zeros(len(logits))
    return torch.stack(
        (
            focal.sum((1, 2)),
            nothing.index_add(0, matches.layers, distance),
            nothing.index_add(0, matches.layers, overlap),
        ),
        1,
    )


def mean_number_of_boxes(count: int, device: torch.device) -> Tensor:
    """What sums of losses are divided by: the number of boxes, of all processes on average while training, at least 1.

    Processes with different numbers of boxes then train as one with all of them would.
    """
    number = torch.tensor(float(count), device=device)
    # Without gradients it may be an evaluation, which some processes may have finished already.
    if torch.is_grad_enabled() and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(number)
        number /= torch.distributed.get_world_size()
    return number.clamp(min=1)
