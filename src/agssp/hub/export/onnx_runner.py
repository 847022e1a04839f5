"""Find defects with an exported ONNX file: NumPy, OpenCV, Pillow and onnxruntime, without torch.

from agssp.hub.export import OnnxDetector

detector = OnnxDetector("detector.onnx")
for found in detector.detect(["plate.png"]):
    print(found["labels"], found["scores"], found["boxes"])
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from agssp.data.images import decode_image
from agssp.data.letterbox import letterbox_geometry, letterboxed_input
from agssp.errors import InputError
from agssp.parsing import read_json
from agssp.telemetry import import_onnxruntime

from .description import INSTALL, description_file

logger = logging.getLogger(__name__)

MAX_CANDIDATES = 30_000
MOST_SIDE = 16_384


class OnnxDetector:
    """An exported detector with the description beside it.

    Args:
        file: The `.onnx` file that `agssp export` wrote; `FILE.json` lies beside it.
        providers: What onnxruntime computes with, in order, such as `["CUDAExecutionProvider"]`; default: the CPU.
        threads: Of the CPU; 0 lets onnxruntime choose.
        description: What FILE.json would say, where there is none.

    Attributes:
        description: What FILE.json says.
        names: Label -> class.
        input_size: (height, width) of the network's input.

    Raises:
        InputError: onnxruntime is missing, or the file or its description cannot be used.
    """

    def __init__(
        self,
        file: str | os.PathLike,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int = 0,
        description: dict[str, Any] | None = None,
    ):
        try:
            onnxruntime = import_onnxruntime()
        except ImportError as error:
            raise InputError(f"ONNX files are run by onnxruntime, which is missing: {INSTALL}") from error
        self.description: dict[str, Any] = _read_description(Path(file)) if description is None else description
        self.names, self.input_size = _described(self.description, description_file(Path(file)))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers=list(providers))
        # onnxruntime has an error class for each kind of trouble, in a module that is not public.
        except Exception as error:
            raise InputError(f"{file}: onnxruntime cannot open it: {error}") from error
        _check_graph(self.session, self.input_size, file)
        self.file = file

    def detect(
        self,
        images: Any,
        threshold: float = 0.25,
        iou_threshold: float | None = None,
        max_detections: int = 300,
        batch_size: int = 16,
    ) -> list[dict[str, np.ndarray]]:
        """Find defects in images.

        Args:
            images: A sequence of paths, bytes of files, PIL images, or uint8 arrays (H, W, 3) in RGB; or one of these,
                which is taken for a sequence of one.
            threshold: Scores must be above it.
            iou_threshold: Of two boxes of a class that overlap more than this, the less confident one goes; default:
                what the detector is meant for, as the description says. End-to-end models (YOLO26) find an object
                once: nothing is suppressed, whatever is given here, and a warning in the log says so.
            max_detections: As many boxes an image at most.
            batch_size: Images in one pass.

        Returns:
            A list, also for one image. For each image `scores` float32 (n,) descending, `labels` int64 (n,), keys of
            `names`, and `boxes` float32 (n, 4) left, top, right, bottom in px of the image.

        Raises:
            InputError: an image cannot be read; the message names it.
        """
        images = _as_sequence(images)
        suppression = self._suppression(iou_threshold)
        results = []
        for start in range(0, len(images), batch_size):
            arrays = [_as_array(image, start + index) for index, image in enumerate(images[start : start + batch_size])]
            for array, logits, boxes in zip(arrays, *self.predict(arrays), strict=True):
                results.append(self._choose(logits, boxes, array.shape[:2], threshold, suppression, max_detections))
        return results

    def predict(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The network's own output.

        Args:
            images: uint8 (H, W, 3) each, in RGB.

        Returns:
            `logits` float32 (B, Q, C), one sigmoid a class, and `pred_boxes` float32 (B, Q, 4), centre x, centre y,
            width, height in 0..1 of the letterboxed input.
        """
        normalisation = self.description["normalisation"]
        pixel_values = letterboxed_input(images, self.input_size, normalisation["mean"], normalisation["std"])
        logits, boxes = self.session.run(["logits", "pred_boxes"], {"pixel_values": pixel_values})
        if logits.ndim != 3 or boxes.shape != (*logits.shape[:2], 4) or logits.shape[2] < len(self.names):
            raise InputError(
                f"{self.file}: gives logits {logits.shape} and pred_boxes {boxes.shape}; expected (B, Q, C) "
                f"of {len(self.names)} classes and (B, Q, 4), as its description says: export the model again"
            )
        return [logits, boxes]

    def _suppression(self, iou_threshold: float | None) -> float | None:
        """The overlap that is suppressed when a user asks for this one."""
        described = self.description["suppression"]
        if iou_threshold is None:
            return described["iou_threshold"]
        if not described.get("end_to_end", False):
            return iou_threshold
        if iou_threshold < 1:
            logger.warning(
                "iou_threshold=%g has no effect: an end-to-end model finds an object once, and nothing is suppressed",
                iou_threshold,
            )
        return None

    def _choose(
        self,
        logits: np.ndarray,
        boxes: np.ndarray,
        image_size: tuple[int, int],
        threshold: float,
        iou_threshold: float | None,
        max_detections: int,
    ) -> dict[str, np.ndarray]:
        """The most confident boxes of one image, in its own pixels."""
        labels = logits.argmax(1)
        scores = 1 / (1 + np.exp(-np.clip(logits.max(1), -80, None)))
        places = (scores > threshold).nonzero()[0]
        places = places[np.argsort(-scores[places], kind="stable")]
        scores, labels = scores[places].astype(np.float32), labels[places]
        height, width = self.input_size
        corners = _corners(boxes[places]) * np.array([width, height, width, height], np.float32)
        if iou_threshold is not None:
            first = slice(MAX_CANDIDATES)
            keep = suppress_overlaps(corners[first], labels[first], iou_threshold, max_detections)
        else:
            keep = np.arange(len(scores))[:max_detections]
        geometry = letterbox_geometry(image_size, self.input_size)
        offset = np.array([geometry.left, geometry.top] * 2, np.float32)
        scale = np.array([geometry.scale[1], geometry.scale[0]] * 2, np.float32)
        limit = np.array([image_size[1], image_size[0]] * 2, np.float32)
        corners = np.clip((corners[keep] - offset) / scale, 0, limit)
        # What lies in the grey bars altogether has no area on the image.
        inside = (corners[:, 2:] > corners[:, :2]).all(1)
        return {"scores": scores[keep][inside], "labels": labels[keep][inside], "boxes": corners[inside]}


def suppress_overlaps(boxes: np.ndarray, labels: np.ndarray, iou_threshold: float, most: int) -> np.ndarray:
    """Of two boxes of a class that overlap too much, leave the more confident one.

    Args:
        boxes: (N, 4) as left, top, right, bottom, the most confident first.
        labels: (N,) their classes.
        iou_threshold: Overlap (IoU) above which the later one goes.
        most: As many are left at most.

    Returns:
        int64 (n,), places of those that are left, ascending.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    for place in range(len(boxes)):
        if len(kept) == most:
            break
        if not alive[place]:
            continue
        kept.append(place)
        sides = np.minimum(boxes[place, 2:], boxes[:, 2:]) - np.maximum(boxes[place, :2], boxes[:, :2])
        overlap = np.clip(sides, 0, None).prod(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = overlap / (areas[place] + areas - overlap)
        # Boxes of no or negative area, which a network may give, overlap nothing.
        alive &= ~(iou > iou_threshold) | (labels != labels[place])
    return np.array(kept, np.int64)


def _corners(boxes: np.ndarray) -> np.ndarray:
    centres, sides = boxes[:, :2], boxes[:, 2:]
    return np.concatenate((centres - sides / 2, centres + sides / 2), 1)


def _as_sequence(images: Any) -> Sequence[Any]:
    """One image as a sequence of one, several as they are."""
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    return [images] if isinstance(images, str | bytes | os.PathLike | Image.Image) else images


def _as_array(image: Any, index: int) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        return np.asarray(decode_image(image, str(image) if isinstance(image, str | Path) else f"image {index}"))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"image {index}: an array of {image.dtype} {image.shape}, expected uint8 (H, W, 3) in RGB")
    return image


def _read_description(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(f"{file}: no such file; `agssp export MODEL --format onnx` writes one")
    beside = description_file(file)
    try:
        content = read_json(beside)
    except InputError as error:
        raise InputError(f"{beside}: the description of {file.name} cannot be read: {error}") from error
    missing = {"labels", "input", "normalisation", "suppression"} - set(content)
    if missing:
        raise InputError(f"{beside}: not the description of a detector; it lacks {', '.join(sorted(missing))}")
    return content


def _described(content: dict[str, Any], file: Path) -> tuple[dict[int, str], tuple[int, int]]:
    """Label -> class, and (height, width) of the input, where all that the runner uses is of its kind."""

    def are_numbers(values: Any, count: int) -> bool:
        return isinstance(values, list) and len(values) == count and all(type(one) in (int, float) for one in values)

    try:
        names = {int(label): str(name) for label, name in content["labels"].items()}
        shape = content["input"]["shape"]
        normalisation, threshold = content["normalisation"], content["suppression"]["iou_threshold"]
        wrong = {
            "labels, numbers from 0 on with their names": not names or min(names) < 0,
            f"input.shape, [1 or null, 3, 1 to {MOST_SIDE}, 1 to {MOST_SIDE}]": len(shape) != 4
            or not all(type(side) is int and 0 < side <= MOST_SIDE for side in shape[2:]),
            "normalisation.mean and .std, 3 numbers each": not all(
                are_numbers(normalisation[name], 3) for name in ("mean", "std")
            ),
            "suppression.iou_threshold, a number or null": threshold is not None and not are_numbers([threshold], 1),
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: not the description of a detector ({error!r}); export the model again") from error
    if any(wrong.values()):
        raise InputError(f"{file}: expected {next(what for what in wrong if wrong[what])}; export the model again")
    return names, (shape[2], shape[3])


def _check_graph(session: Any, input_size: tuple[int, int], file: str | os.PathLike) -> None:
    """Refuse a network that takes or gives something else than its description says."""
    inputs = {node.name: list(node.shape) for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    if list(inputs) != ["pixel_values"] or not {"logits", "pred_boxes"} <= outputs:
        raise InputError(
            f"{file}: takes {', '.join(inputs)} and gives {', '.join(sorted(outputs))}; expected pixel_values, and "
            "logits and pred_boxes, as `agssp export` writes them"
        )
    sides = inputs["pixel_values"][2:]
    if any(isinstance(side, int) and side != asked for side, asked in zip(sides, input_size, strict=False)):
        raise InputError(f"{file}: takes images of {sides} px, its description says {[*input_size]}; export it again")
