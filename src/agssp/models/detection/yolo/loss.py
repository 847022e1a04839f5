"""ultralytics' detection loss (AGPL-3.0) on transformers' labels, without ultralytics' model around it."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from agssp.errors import InputError
from agssp.models.ultralytics import import_ultralytics

from .neck_and_head import Head


def make_criterion(head: Head, box_gain: float, cls_gain: float, dfl_gain: float) -> Any:
    """ultralytics' `v8DetectionLoss` for a head; it keeps tensors on the head's present device."""
    import_ultralytics()
    from ultralytics.utils.loss import v8DetectionLoss

    # The loss reads only these of ultralytics' own model.
    owner: Any = SimpleNamespace(
        parameters=head.parameters, model=[head], args=SimpleNamespace(box=box_gain, cls=cls_gain, dfl=dfl_gain)
    )
    return v8DetectionLoss(owner)


def detection_loss(criterion: Any, raw: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """The box, class and distribution losses (3,) in float32, each times the number of images.

    Args:
        criterion: What `make_criterion` returned.
        raw: Raw predictions of the head, see `run_head`.
        targets: Boxes of the batch, see `flat_targets`.
    """
    device = raw["scores"].device
    # The task-aligned assignment and the IoU need more digits than bfloat16 has for a coordinate of 640 px.
    with torch.autocast(device.type, enabled=False):
        # Of the feature maps it reads only the sizes and the dtype.
        empty = torch.zeros((), device=device)
        preds = {
            "boxes": raw["boxes"].float(),
            "scores": raw["scores"].float(),
            "feats": [empty.expand(feature_map.shape) for feature_map in raw["feats"]],
        }
        parts, _ = criterion(preds, targets)
    return parts


def flat_targets(
    labels: Sequence[dict[str, Tensor]], batch: int, num_labels: int, device: torch.device
) -> dict[str, Tensor]:
    """transformers' labels as the flat lists that ultralytics' loss reads.

    Args:
        labels: For each image `class_labels` (n,) and `boxes` (n, 4).
        batch: Number of images.
        num_labels: Number of classes.
        device: Where the result goes.

    Returns:
        `batch_idx` (N,) int64, `cls` (N,) float32, `bboxes` (N, 4) float32 of all images' boxes.

    Raises:
        InputError: not one entry an image, boxes and classes that do not match, or a class beyond the list.
    """
    if len(labels) != batch:
        raise InputError(
            f"labels for {len(labels)} images, pixel_values of {batch}: give one dict an image, boxes or not"
        )
    counts = torch.tensor([len(image["class_labels"]) for image in labels])
    if any(image["boxes"].shape != (count, 4) for image, count in zip(labels, counts.tolist(), strict=True)):
        shapes = [tuple(image["boxes"].shape) for image in labels]
        raise InputError(f"class_labels of {counts.tolist()} boxes with boxes of shapes {shapes}: expected (n, 4) each")
    classes = torch.cat([image["class_labels"] for image in labels]).to(device)
    if len(classes) and bool(((classes < 0) | (classes >= num_labels)).any()):
        raise InputError(
            f"class_labels from {int(classes.min())} to {int(classes.max())}, the model has {num_labels} labels"
        )
    return {
        "batch_idx": torch.arange(batch).repeat_interleave(counts).to(device),
        "cls": classes.float(),
        "bboxes": torch.cat([image["boxes"] for image in labels]).to(device, torch.float32),
    }
