"""Contrastive denoising: queries made of disturbed labels, for the decoder to restore or, where far off, to refuse."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert

# Boxes without extent, which the noise may leave, still need a finite logit.
EPSILON = 1e-5


class DenoisingQueries(NamedTuple):
    """Disturbed labels of a batch in groups; a group has M positive queries, then M negative ones.

    M is the largest number of boxes of an image, G the number of groups and D = 2 G M. Images with fewer boxes have
    queries that stand for none.

    Attributes:
        classes: int64 (B, D) disturbed class.
        boxes: float32 (B, D, 4) disturbed box, centre x, centre y, width, height in 0..1.
        slots: int64 (D,) which of its image's boxes a query was made of.
        positive: bool (D,) whether it is to be restored; the others are to be refused.
        groups: int64 (D,) number of its group.
        real: bool (B, D) whether there is such a box.
    """

    classes: Tensor
    boxes: Tensor
    slots: Tensor
    positive: Tensor
    groups: Tensor
    real: Tensor


def denoising_queries(
    labels: Sequence[dict[str, Tensor]],
    num_labels: int,
    num_denoising: int,
    label_noise_ratio: float,
    box_noise_scale: float,
    device: torch.device,
) -> DenoisingQueries | None:
    """Disturb the labels of a batch.

    Args:
        labels: For each image `class_labels` (n,) and `boxes` (n, 4).
        num_labels: Number of classes.
        num_denoising: Number of pairs for an image: G is this divided by M, but at least 1. 0 for none.
        label_noise_ratio: Half of this share of the queries get a random class.
        box_noise_scale: Largest shift of a positive query's corners in halves of the box's width and height; negative
            queries are shifted by this to twice this.
        device: Where the result goes.

    Returns:
        None where there is no box in the whole batch, or none are asked for.
    """
    counts = [len(image["class_labels"]) for image in labels]
    most = max(counts, default=0)
    if most == 0 or num_denoising == 0:
        return None
    classes = torch.zeros(len(labels), most, dtype=torch.int64, device=device)
    boxes = torch.full((len(labels), most, 4), 0.5, device=device)
    for index, (image, count) in enumerate(zip(labels, counts, strict=True)):
        classes[index, :count] = image["class_labels"].to(device)
        boxes[index, :count] = image["boxes"].to(device, torch.float32)
    slots = torch.arange(most, device=device)
    real = slots < torch.tensor(counts, device=device)[:, None]

    copies = 2 * max(num_denoising // most, 1)
    halves = torch.arange(copies, device=device).repeat_interleave(most)
    positive = halves % 2 == 0
    return DenoisingQueries(
        classes=disturb_classes(classes.repeat(1, copies), num_labels, label_noise_ratio / 2),
        boxes=disturb_boxes(boxes.repeat(1, copies, 1), positive, box_noise_scale),
        slots=slots.repeat(copies),
        positive=positive,
        groups=halves // 2,
        real=real.repeat(1, copies),
    )


def disturb_classes(classes: Tensor, num_labels: int, share: float) -> Tensor:
    """Replace a share of int64 classes by random ones."""
    chosen = torch.rand(classes.shape, device=classes.device) < share
    return torch.where(chosen, torch.randint_like(classes, num_labels), classes)


def disturb_boxes(boxes: Tensor, positive: Tensor, scale: float) -> Tensor:
    """Move the four sides of boxes outwards or inwards, by chance: a little if positive, far if not.

    Args:
        boxes: (B, D, 4) as centre x, centre y, width, height in 0..1.
        positive: bool (D,). Sides of positive boxes move by less than `scale` halves of the width or height, those of
            the others by `scale` to twice as much.
        scale: See above.

    Returns:
        (B, D, 4) within 0..1. Where opposite sides have passed each other there is a box without extent between them:
        turned round it could be the very box that a negative query must not be.
    """
    halves = boxes[..., 2:].repeat(1, 1, 2) / 2
    signs = torch.randint_like(boxes, 2) * 2 - 1
    amounts = torch.rand_like(boxes) + (~positive)[:, None].float()
    corners = box_convert(boxes, "cxcywh", "xyxy") + signs * amounts * halves * scale
    return box_convert(corners.clamp(0, 1), "xyxy", "cxcywh").clamp(min=0)


def attention_mask(queries: DenoisingQueries, matching: int) -> Tensor:
    """Who may look at whom: a group at itself and at the matching queries, these at themselves, nobody at padding.

    Matching queries that saw a denoising query would see the answer, and so would groups that saw each other.

    Args:
        queries: The denoising queries, which come first.
        matching: Number of matching queries, which follow.

    Returns:
        float32 (B, 1, D + matching, D + matching): 0 where the query of the row may look at that of the column, minus
        infinity elsewhere. Every query may look at itself.
    """
    images, count = queries.real.shape
    device = queries.real.device
    group = torch.cat((queries.groups, queries.groups.new_full((matching,), -1)))
    allowed = (group[:, None] == group) | (group == -1)
    real = torch.cat((queries.real, queries.real.new_ones(images, matching)), 1)
    itself = torch.eye(count + matching, dtype=torch.bool, device=device)
    seen = (allowed & real[:, None, :]) | itself
    return torch.zeros(seen.shape, device=device).masked_fill(~seen, -torch.inf)[:, None]


def box_logits(queries: DenoisingQueries) -> Tensor:
    """The disturbed boxes before the sigmoid (B, D, 4), all finite."""
    return queries.boxes.logit(EPSILON)
