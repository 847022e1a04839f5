"""ultralytics' detection loss (AGPL-3.0) on transformers' labels, without ultralytics' model around it."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from agssp.models.ultralytics import import_ultralytics

from ..labels import check_labels
from .fimetal_iou import FIMetalBoxLoss
from .neck_and_head import Head, is_end_to_end


def make_criterion(head: Head, box_gain: float, cls_gain: float, dfl_gain: float, box_loss: str = "ciou") -> Any:
    """ultralytics' loss for a head; it keeps tensors on the head's present device.

    Args:
        head: Detection head. One with two branches gets `E2ELoss`, which trains both; all others `v8DetectionLoss`.
        box_gain: Weight of the box loss.
        cls_gain: Weight of the class loss.
        dfl_gain: Weight of the loss of the distances.
        box_loss: `ciou`, ultralytics' own, or `fimetal_iou`.
    """
    import_ultralytics()
    from ultralytics.utils.loss import E2ELoss, v8DetectionLoss

    # The loss reads only these of ultralytics' own model. It shifts the weights of the branches over `epochs - 1`
    # epochs; with 2 of them the shift is counted in trainings, see `set_progress`.
    gains = SimpleNamespace(box=box_gain, cls=cls_gain, dfl=dfl_gain, epochs=2)
    owner: Any = SimpleNamespace(parameters=head.parameters, model=[head], args=gains)
    criterion: Any = E2ELoss(owner) if is_end_to_end(head) else v8DetectionLoss(owner)
    if box_loss == "fimetal_iou":
        for part in (criterion.one2many, criterion.one2one) if is_end_to_end(head) else (criterion,):
            part.bbox_loss = FIMetalBoxLoss(part.bbox_loss)
    return criterion


def set_progress(criterion: Any, progress: float) -> None:
    """Weigh the branches of an end-to-end loss for this part of the training, as ultralytics does epoch by epoch.

    Args:
        criterion: What `make_criterion` returned; one without branches is left as it is.
        progress: 0 at the beginning (the many predictions an object count 0.8, the one 0.2), 1 at the end (0.1, 0.9).
    """
    if hasattr(criterion, "decay"):
        criterion.o2m = criterion.decay(progress)
        criterion.o2o = criterion.total - criterion.o2m


def detection_loss(criterion: Any, branches: dict[str, dict[str, Tensor]], targets: dict[str, Tensor]) -> Tensor:
    """The box and class losses and the loss of the distances (3,) in float32, each times the number of images.

    Args:
        criterion: What `make_criterion` returned.
        branches: Raw predictions of each of the head's branches, see `run_head`.
        targets: Boxes of the batch, see `flat_targets`.
    """
    device = targets["bboxes"].device
    # The task-aligned assignment and the IoU need more digits than bfloat16 has for a coordinate of 640 px.
    with torch.autocast(device.type, enabled=False):
        # Of the feature maps it reads only the sizes and the dtype.
        empty = torch.zeros((), device=device)
        preds: dict[str, Any] = {
            branch: {
                "boxes": raw["boxes"].float(),
                "scores": raw["scores"].float(),
                "feats": [empty.expand(feature_map.shape) for feature_map in raw["feats"]],
            }
            for branch, raw in branches.items()
        }
        parts, _ = criterion(preds if len(preds) > 1 else preds["one2many"], targets)
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
    check_labels(labels, batch, num_labels)
    counts = torch.tensor([len(image["class_labels"]) for image in labels])
    classes = torch.cat([image["class_labels"] for image in labels]).to(device)
    return {
        "batch_idx": torch.arange(batch).repeat_interleave(counts).to(device),
        "cls": classes.float(),
        "bboxes": torch.cat([image["boxes"] for image in labels]).to(device, torch.float32),
    }
