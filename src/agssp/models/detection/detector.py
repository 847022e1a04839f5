"""What all detectors of ours are to transformers: how they are opened, saved, and given a pretrained backbone."""

import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from agssp.errors import InputError
from agssp.files import whole_files
from agssp.hub_client.pushing import PushesWithCard, pop_push, push_saved
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.loading import checked, opening, saved_model_type

from .image_processing import LetterboxImageProcessor
from .post_processing import post_process_object_detection
from .transfer import TransferReport, load_backbone, raise_for_problems


class Detector(PushesWithCard, PreTrainedModel):
    """A model with an `AgsspBackbone` as `backbone`, whose config has `backbone_config`, `image_size` and `id2label`.

    `forward(pixel_values, labels=None, return_dict=None)` gives `loss`, `loss_dict`, `logits` and `pred_boxes`.
    """

    config: Any
    backbone: AgsspBackbone
    main_input_name = "pixel_values"
    # The loss is a mean over images already; transformers' Trainer must not divide it by a number of tokens.
    accepts_loss_kwargs = False
    image_processor_class: type[LetterboxImageProcessor] = LetterboxImageProcessor

    def image_processor(self, size: int | None = None) -> Any:
        """The `image_processor_class` that prepares images as this model expects, at its own input size or another."""
        backbone = self.config.backbone_config
        return self.image_processor_class(size or self.config.image_size, backbone.image_mean, backbone.image_std)

    def load_backbone(self, backbone: AgsspBackbone) -> TransferReport:
        """Take over a pretrained backbone and its input normalisation; see `transfer.load_backbone`."""
        return load_backbone(self, backbone)

    def post_process_object_detection(
        self,
        outputs: Any,
        threshold: float = 0.25,
        target_sizes: Tensor | Sequence[Sequence[int]] | None = None,
        iou_threshold: float | None = None,
        max_detections: int = 300,
        *,
        input_size: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> list[dict[str, Tensor]]:
        """Boxes on the original images: the most confident, the letterbox undone.

        Args:
            outputs: What `forward` returned.
            threshold: Scores must be above it.
            target_sizes: (height, width) of each original image. Without it boxes stay relative to the input (0..1).
            iou_threshold: Of two boxes of a class that overlap more than this, the less confident one goes. None keeps
                what the model has kept.
            max_detections: As many boxes an image at most.
            input_size: (height, width) of `pixel_values`; a square of `config.image_size` by default.
            multi_label: Let each prediction stand for every class above the threshold, as COCO evaluation does.

        Returns:
            For each image `scores` (n,) descending, `labels` (n,) int64 and `boxes` (n, 4) left, top, right, bottom.

        Raises:
            InputError: `target_sizes` does not have one entry an image.
        """
        return post_process_object_detection(
            outputs["logits"],
            outputs["pred_boxes"],
            input_size=input_size or (self.config.image_size,) * 2,
            threshold=threshold,
            target_sizes=target_sizes,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
            multi_label=multi_label,
        )

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save as every transformers model, and the image processor beside it, without which no pipeline opens it."""
        push = pop_push(kwargs)
        if not kwargs.get("is_main_process", True):
            super().save_pretrained(save_directory, *args, **kwargs)
            return
        with whole_files(save_directory, last="config.json") as part:
            super().save_pretrained(part, *args, **kwargs)
            self.image_processor().save_pretrained(str(part))
        if push is not None:
            push_saved(save_directory, push)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # a folder or repository is needed, a state dict alone is not enough
        cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any
    ) -> Any:
        """Load a saved detector; see `open_detector`."""
        return open_detector(cls, pretrained_model_name_or_path, *args, **kwargs)


def open_detector(
    model_class: Any,
    pretrained_model_name_or_path: str | os.PathLike,
    *args: Any,
    output_loading_info: bool = False,
    **kwargs: Any,
) -> Any:
    """transformers' `from_pretrained`, which does not go on with random weights where a file lacks some.

    Args:
        model_class: The detector's class.
        pretrained_model_name_or_path: Folder or Hub id.
        args: See `PreTrainedModel.from_pretrained`.
        output_loading_info: Return what transformers has to tell about the tensors as well.
        kwargs: See `PreTrainedModel.from_pretrained`. With `ignore_mismatched_sizes=True` tensors of another shape
            start afresh.

    Raises:
        InputError: there is no such folder or repository, it holds another kind of model, its weights do not fit its
            config, or it asks for more than these (see `checked`).
    """
    name, expected = str(pretrained_model_name_or_path), model_class.config_class.model_type
    resize = kwargs.pop("ignore_mismatched_sizes", False)
    # The class itself may have put this function in the place of transformers' own.
    load: Any = PreTrainedModel.from_pretrained
    kwargs |= {"ignore_mismatched_sizes": True, "output_loading_info": True, "use_safetensors": True}
    with opening("detector", name):
        kind = saved_model_type(name, kwargs)
        if kind != expected:
            raise InputError(f"{name}: expected a detector of type {expected}, its config.json says {kind}")
        with checked("detector", model_class.config_class, name, kwargs):
            model, info = load.__func__(model_class, name, *args, **kwargs)
    problems = {"missing": sorted(info["missing_keys"]), "unexpected": sorted(info["unexpected_keys"])}
    if not resize:
        problems["of another shape"] = sorted(key for key, *_ in info["mismatched_keys"])
    raise_for_problems(problems, name)
    return (model, info) if output_loading_info else model
