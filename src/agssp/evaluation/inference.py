"""Run a detector over any number of images in batches, with flat memory: the loop behind `evaluate` and `predict`."""

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agssp.data.images import ImageError, decode_image
from agssp.errors import InputError
from agssp.models.detection import any_detector, catalogue

logger = logging.getLogger(__name__)


@dataclass
class ImageDetections:
    """What a detector found in one image.

    Attributes:
        row: The image's row in the data set, so what else is in it can be read; its `image_id` names it.
        size: (height, width) of the image in pixels; (0, 0) where it could not be read.
        boxes: float32 (n, 4) left, top, right, bottom in pixels of the image, the most confident first.
        scores: float32 (n,) in 0..1.
        labels: int64 (n,), keys of the model's `id2label`.
        image: uint8 (H, W, 3) where it was asked for.
        error: Why the image could not be read; None for a good image.
    """

    row: dict[str, Any]
    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    image: np.ndarray | None = None
    error: str | None = None

    @property
    def image_id(self) -> str:
        """Unique name of the image in its data set."""
        return self.row["image_id"]


def load_detector(model: str | os.PathLike | nn.Module, class_names: list[str] | None = None) -> Any:
    """Open a trained detector for prediction.

    Args:
        model: Folder or Hub id of a detector of any family, or a safetensors file of ultralytics or of torchvision's
            Faster R-CNN; or a detector that is open already.
        class_names: Names for the classes of a file, which holds none; COCO's are told by their number.

    Returns:
        The model in evaluation mode and float32 on the CPU.

    Raises:
        InputError: there is no such folder, or what is in it is no detector.
    """
    if isinstance(model, nn.Module):
        return model.eval()
    if not Path(model).is_file():
        return catalogue.open_folder(model)
    detector = catalogue.open_file(model)
    nameless = all(name == f"class_{index}" for index, name in detector.config.id2label.items())
    if class_names is not None and nameless and detector.config.num_labels == len(class_names):
        detector.config.id2label = dict(enumerate(class_names))
        detector.config.label2id = {name: index for index, name in enumerate(class_names)}
    return detector.eval()


def check_detection_flags(arguments: Any) -> None:
    """Refuse values that no detection can be run with.

    Args:
        arguments: of a command; its `threshold`, `shown_threshold`, `iou_threshold`, `batch_size` and
            `max_detections` are looked at, where it has them.

    Raises:
        InputError: one is out of range; the message names its flag.
    """
    for name in ("threshold", "shown_threshold", "iou_threshold"):
        value = getattr(arguments, name, 0)
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: expected a number from 0 to 1")
    for name in ("batch_size", "max_detections"):
        value = getattr(arguments, name, 1)
        if value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: expected 1 or more")


def choose_device(name: str = "auto") -> torch.device:
    """The device that a flag names: `auto` is this process's CUDA device where there is one, else the CPU."""
    if name == "auto":
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name}: no CUDA device is available here; use --device cpu")
    return device


def detect(
    model: Any,
    rows: Iterable[dict[str, Any]],
    *,
    threshold: float,
    image_size: int | None = None,
    batch_size: int = 16,
    iou_threshold: float | None = None,
    max_detections: int = 300,
    multi_label: bool = False,
    keep_images: bool = False,
    device: torch.device | None = None,
) -> Iterator[ImageDetections]:
    """Find defects in images, one after another in the order of the rows.

    Every batch is filled up to `batch_size`, so what is found in an image does not depend, in the last digits of a
    score, on how many others came with it: one process and two give the same numbers.

    Args:
        model: A detector; it is moved to `device` and set to evaluation mode.
        rows: Rows of a data set with undecoded `image` and with `image_id`, read two batches ahead at most.
        threshold: Scores must be above it.
        image_size: Side of the square input; the model's own by default.
        batch_size: Images in one forward pass.
        iou_threshold: Of two boxes of a class that overlap more than this, the less confident one goes; None: what
            the detector is meant for (see `any_detector.post_process`). Without effect on YOLO26, which is logged.
        max_detections: As many boxes an image at most.
        multi_label: Let a place stand for every class above the threshold, as COCO evaluation does.
        keep_images: Give the decoded images back as well.
        device: Where to compute; the model's own device by default.

    Yields:
        One `ImageDetections` a row; an image that cannot be read has `error` and no boxes.

    Raises:
        InputError: an image size that the model cannot take.
    """
    processor = any_detector.image_processor(model, image_size)
    if iou_threshold is not None and iou_threshold < 1 and any_detector.is_end_to_end(model):
        logger.warning(
            "iou_threshold=%g has no effect: %s finds an object once, and nothing is suppressed",
            iou_threshold,
            model.config.variant,
        )
    device = device or model.device
    model = model.to(device).eval()
    options = {
        "threshold": threshold,
        "iou_threshold": iou_threshold,
        "max_detections": max_detections,
        "multi_label": multi_label,
    }
    prepared = _prepare_ahead(rows, processor, 2 * batch_size)
    while batch := list(islice(prepared, batch_size)):
        good = [(item.pixel_values, item.size) for item in batch if item.pixel_values is not None]
        results: Iterator[dict[str, Tensor]] = iter(())
        if good:
            pixel_values = torch.from_numpy(np.stack([pixels for pixels, _ in good]))
            filled = nn.functional.pad(pixel_values, (0,) * 7 + (batch_size - len(good),))
            results = iter(_forward(model, filled.to(device), [shape for _, shape in good], options))
        for item in batch:
            if item.error is not None:
                none = np.zeros((0, 4), np.float32)
                yield ImageDetections(item.row, item.size, none, none[:, 0], np.zeros(0, np.int64), error=item.error)
                continue
            found = {key: value.cpu().numpy() for key, value in next(results).items()}
            image = item.image if keep_images else None
            yield ImageDetections(item.row, item.size, found["boxes"], found["scores"], found["labels"], image)


@torch.inference_mode()
def _forward(
    model: Any, pixel_values: Tensor, sizes: list[tuple[int, int]], options: dict[str, Any]
) -> list[dict[str, Tensor]]:
    """Predict a filled batch and keep the part that is images."""
    outputs = model(pixel_values=pixel_values)
    outputs.logits, outputs.pred_boxes = outputs.logits[: len(sizes)], outputs.pred_boxes[: len(sizes)]
    return any_detector.post_process(
        model, outputs, target_sizes=sizes, input_size=tuple(pixel_values.shape[2:]), **options
    )


@dataclass
class _Prepared:
    """A row with its image decoded and letterboxed, or with the reason why it could not be."""

    row: dict[str, Any]
    size: tuple[int, int] = (0, 0)
    image: np.ndarray | None = None
    pixel_values: np.ndarray | None = None
    error: str | None = None


def _prepare_ahead(rows: Iterable[dict[str, Any]], processor: Any, count: int) -> Iterator[_Prepared]:
    """Decode `count` images ahead in threads, which PIL and OpenCV leave free to run beside the network."""

    def prepare(row: dict[str, Any]) -> _Prepared:
        try:
            image = np.asarray(decode_image(row["image"], row["image_id"]))
        except ImageError as error:
            return _Prepared(row, error=str(error))
        return _Prepared(row, image.shape[:2], image, processor.preprocess(image)["pixel_values"][0])

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting: deque[Future[_Prepared]] = deque()
        for row in rows:
            waiting.append(pool.submit(prepare, row))
            if len(waiting) >= count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
