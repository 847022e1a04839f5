"""Whether an exported `.pt` file, opened as ultralytics opens it, computes what the detector itself computes."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agssp.data.letterbox import letterboxed_input
from agssp.errors import InputError
from agssp.models.ultralytics import import_ultralytics

PIXELS, LOGIT = 0.1, 0.01
"""Boxes and class logits may differ by this much; rounding alone makes less than a hundredth of it."""


def check_ultralytics(model: Any, file: str | os.PathLike, images: Sequence[np.ndarray]) -> dict[str, Any]:
    """Compare all raw predictions, before any is chosen or suppressed.

    Args:
        model: The `YoloForObjectDetection` that was exported, in eval mode and float32 on the CPU.
        file: Its export, which is opened: a pickle.
        images: uint8 (H, W, 3) in RGB, one or more.

    Returns:
        `against`: what the file was opened with; `images`; `boxes` that were compared, all of them; and the largest
        differences `pixels` of the boxes and `logit` of the classes.

    Raises:
        InputError: a prediction differs by more than `PIXELS` or `LOGIT`, or the numbers of predictions or classes do.
    """
    ultralytics = import_ultralytics()
    side, config = model.config.image_size, model.config.backbone_config
    size = (side, side)
    pixel_values = letterboxed_input(images, size, config.image_mean, config.image_std)
    plain = letterboxed_input(images, size, (0.0,) * 3, (1.0,) * 3)
    theirs = ultralytics.YOLO(file).model.eval()
    with torch.no_grad():
        outputs = model(pixel_values=torch.from_numpy(pixel_values))
        logits, corners = _raw_predictions(theirs, torch.from_numpy(plain))
    centres, sides = outputs.pred_boxes.split(2, 2)
    expected = side * torch.cat((centres - sides / 2, centres + sides / 2), 2)
    if logits.shape != outputs.logits.shape or corners.shape != expected.shape:
        found = f"{tuple(logits.shape)} logits, not {tuple(outputs.logits.shape)}"
        raise InputError(f"--format ultralytics: the file gives {found}; nothing was written")
    pixels, logit = float((corners - expected).abs().max()), float((logits - outputs.logits).abs().max())
    if not (pixels <= PIXELS and logit <= LOGIT):  # what is no number is unlike all
        raise InputError(
            f"--format ultralytics: the file does not compute what the detector computes: boxes are up to {pixels:.3g} "
            f"px apart, class logits {logit:.3g}, expected at most {PIXELS:g} and {LOGIT:g}. Nothing was written; "
            "`--format onnx` may do"
        )
    return {
        "against": f"ultralytics {ultralytics.__version__}",
        "images": len(images),
        "boxes": corners.shape[0] * corners.shape[1],
        "pixels": pixels,
        "logit": logit,
    }


def _raw_predictions(theirs: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Class logits (B, A, C) and boxes (B, A, 4) as left, top, right, bottom in px, of the branch that ours takes."""
    head = theirs.model[-1]
    _, raw = theirs(images)
    raw = raw.get("one2one", raw)
    boxes = head.decode_bboxes(head.dfl(raw["boxes"]), head.anchors[None]) * head.strides
    boxes = boxes.transpose(1, 2)
    if not head.end2end:  # these it gives by their centres
        centres, sides = boxes.split(2, 2)
        boxes = torch.cat((centres - sides / 2, centres + sides / 2), 2)
    return raw["scores"].transpose(1, 2), boxes
