"""The letterboxed input of a YOLO and its boxes, in transformers' form, so that its pipelines work."""

from typing import Any

from ..image_processing import LetterboxImageProcessor
from .post_processing import post_process_object_detection


class YoloImageProcessor(LetterboxImageProcessor):
    """`LetterboxImageProcessor` for dense predictions, most of which are suppressed."""

    def post_process_object_detection(
        self,
        outputs: Any,
        threshold: float = 0.25,
        target_sizes: Any = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Boxes on the original images; see `YoloForObjectDetection.post_process_object_detection`."""
        return post_process_object_detection(
            outputs["logits"],
            outputs["pred_boxes"],
            input_size=self.input_size,
            threshold=threshold,
            target_sizes=target_sizes,
            **options,
        )
