"""Images to the letterboxed, normalised input of a detector, in transformers' form, so that its pipelines work."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import make_flat_list_of_images

from agssp.data.letterbox import letterboxed_input
from agssp.errors import InputError

from .post_processing import post_process_object_detection


class LetterboxImageProcessor(BaseImageProcessor):
    """Resize with the aspect ratio kept, pad to the input size with grey, scale to 0..1, normalise.

    The geometry and the interpolation are those of ultralytics' `LetterBox` in validation. Predictions are taken for
    those of detectors that need no suppression; YOLO has a child of its own.

    Args:
        size: Side of the square input, or `{"height": ..., "width": ...}`.
        image_mean: Mean of each channel on the scale 0..1, as the backbone was trained with.
        image_std: Standard deviation of each channel likewise.
        kwargs: transformers' own fields.
    """

    model_input_names = ["pixel_values"]

    def __init__(
        self,
        size: int | dict[str, int] = 640,
        image_mean: Sequence[float] = (0.0, 0.0, 0.0),
        image_std: Sequence[float] = (1.0, 1.0, 1.0),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.size = (
            {"height": size, "width": size}
            if isinstance(size, int)
            else {key: size[key] for key in ("height", "width")}
        )
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the input."""
        return self.size["height"], self.size["width"]

    def preprocess(self, images: Any, return_tensors: str | None = None) -> BatchFeature:
        """Prepare one image or a list.

        Args:
            images: PIL images of any mode, or uint8 arrays or tensors (H, W, 3) or (3, H, W) in RGB.
            return_tensors: `"pt"` for a tensor, `"np"` or None for an array.

        Returns:
            `pixel_values`: float32 (B, 3, height, width).

        Raises:
            InputError: for an array that is not an RGB image of bytes.
        """
        flat: Any = make_flat_list_of_images(images)
        arrays = [_to_rgb(image) for image in flat]
        pixel_values = letterboxed_input(arrays, self.input_size, self.image_mean, self.image_std)
        return BatchFeature({"pixel_values": pixel_values}, tensor_type=return_tensors)

    def post_process_object_detection(
        self,
        outputs: Any,
        threshold: float = 0.25,
        target_sizes: Any = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Boxes on the original images; see `post_processing.post_process_object_detection`."""
        return post_process_object_detection(
            outputs["logits"],
            outputs["pred_boxes"],
            input_size=self.input_size,
            threshold=threshold,
            target_sizes=target_sizes,
            **options,
        )


def _to_rgb(image: Any) -> np.ndarray:
    """One image as uint8 (H, W, 3)."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[-1] != 3 and array.shape[0] == 3:
        array = array.transpose(1, 2, 0)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise InputError(
            f"an image of dtype {array.dtype} and shape {array.shape}: expected uint8 (H, W, 3) or (3, H, W)"
        )
    return np.ascontiguousarray(array)
