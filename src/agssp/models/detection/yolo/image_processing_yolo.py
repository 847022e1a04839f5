"""The letterboxed input of a YOLO and its boxes, in transformers' form, so that its pipelines work."""

from typing import Any

from ..image_processing import LetterboxImageProcessor

IOU_THRESHOLD = 0.7
"""Overlap from which on a YOLO's dense predictions of a class are taken for one object; ultralytics' own."""


class YoloImageProcessor(LetterboxImageProcessor):
    """`LetterboxImageProcessor` for dense predictions, most of which are suppressed."""

    def post_process_object_detection(
        self,
        outputs: Any,
        threshold: float = 0.25,
        target_sizes: Any = None,
        iou_threshold: float | None = IOU_THRESHOLD,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Boxes on the original images; see `post_processing.post_process_object_detection`."""
        return super().post_process_object_detection(
            outputs, threshold, target_sizes, iou_threshold=iou_threshold, **options
        )
