"""Whether an exported file finds what the detector itself finds: the same boxes in the same images."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agssp.errors import InputError
from agssp.models.detection import any_detector
from agssp.telemetry import import_onnxruntime

from .onnx_runner import OnnxDetector

PIXELS, SCORE = 1.0, 1e-3
"""Boxes and scores may differ by this much."""
BATCH = 3
COMPARED, SEARCHED = 50, 300
"""As many boxes an image are compared, each with so many of the other side: at the end of a list ranks may swap."""
NOTHING = 1e-9
"""Boxes as confident as this or less are not compared: torch's sigmoid comes down to 0, the runner's does not."""
TIES = 0.01
"""Share of boxes that may be unlike: of two proposals or queries as confident the last digit chooses one."""
ALL = 1.0
"""Overlap up to which both boxes are kept. Of two equally confident ones either may be suppressed, so none is here."""


def check_onnx(model: Any, detector: OnnxDetector, images: Sequence[np.ndarray]) -> dict[str, Any]:
    """Compare what both find before suppression, image by image: the first alone, then all in threes.

    Args:
        model: The detector, in eval mode.
        detector: Its export.
        images: uint8 (H, W, 3) in RGB, one or more.

    Returns:
        `against`: what the file was run by; `images`; `boxes` that were compared, how many of them are `unlike` any of
        the other side, and the largest differences `pixels` and `score` of the rest.

    Raises:
        InputError: more than the share `TIES` of the boxes have no like in the other, or there is no box to compare.
    """
    onnxruntime = import_onnxruntime()
    batches = [images[:1], *(images[start : start + BATCH] for start in range(0, len(images), BATCH))]
    boxes, pixels, score, unlike = 0, 0.0, 0.0, []
    for number, batch in enumerate(batches):
        ours = _detect(model, detector.input_size, batch)
        theirs = detector.detect(batch, 0.0, ALL, max_detections=SEARCHED, batch_size=len(batch))
        for place, (here, there) in enumerate(zip(ours, theirs, strict=True)):
            for one, other, whose in ((here, there, "torch"), (there, here, "the file")):
                for far, apart in _nearest(one, other):
                    boxes += 1
                    if not (far <= PIXELS and apart <= SCORE):  # what is no number is unlike all
                        where = f"image {max(0, number - 1) * BATCH + place} of the check"
                        unlike.append(f"a box of {whose} in {where} has none nearer than {far:.2f} px and {apart:.5f}")
                    else:
                        pixels, score = max(pixels, far), max(score, apart)
    if not boxes:
        raise InputError(
            f"neither the detector nor the file finds anything in the {len(images)} images of the check, so nothing is "
            "known of the file and nothing was written; give images with defects, --check IMAGES"
        )
    if len(unlike) > TIES * boxes:
        raise InputError(
            f"the file does not find what torch finds: of {boxes} boxes {len(unlike)} have no like within {PIXELS:g} "
            f"px and {SCORE:g} in score; {unlike[0]}. Nothing was written. Try another --opset, or other images with "
            "--check IMAGES"
        )
    return {
        "against": f"onnxruntime {onnxruntime.__version__}",
        "images": len(images),
        "boxes": boxes,
        "unlike": len(unlike),
        "pixels": pixels,
        "score": score,
    }


@torch.inference_mode()
def _detect(model: Any, input_size: tuple[int, int], images: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
    processor = any_detector.image_processor(model, input_size[0])
    outputs = model(pixel_values=processor(list(images), return_tensors="pt")["pixel_values"])
    sizes = [image.shape[:2] for image in images]
    found = any_detector.post_process(
        model,
        outputs,
        threshold=0.0,
        target_sizes=sizes,
        input_size=input_size,
        max_detections=SEARCHED,
        iou_threshold=ALL,
    )
    return [{name: _array(value) for name, value in each.items()} for each in found]


def _array(value: Tensor) -> np.ndarray:
    return value.cpu().numpy()


def _nearest(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> Iterator[tuple[float, float]]:
    """For the most confident boxes of one side, how far the likest box of the other is: pixels, and score."""
    first = slice(min(COMPARED, int((one["scores"] > NOTHING).sum())))  # the most confident come first
    for box, score, label in zip(one["boxes"][first], one["scores"][first], one["labels"][first], strict=True):
        same = other["labels"] == label
        pixels = np.abs(other["boxes"][same] - box).max(1, initial=0)
        scores = np.abs(other["scores"][same] - score)
        if not len(scores):
            yield float("inf"), float("inf")
            continue
        likest = np.maximum(pixels / PIXELS, scores / SCORE).argmin()
        yield float(pixels[likest]), float(scores[likest])
