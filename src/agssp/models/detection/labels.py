"""What detectors take as labels: names of classes in a configuration, and the boxes of a batch."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from agssp.errors import InputError


def with_class_names(fields: dict[str, Any]) -> dict[str, Any]:
    """A configuration's fields with both `id2label` and `label2id`: one class, `defect`, where they name none.

    Args:
        fields: Keyword arguments of a `PreTrainedConfig`.
    """
    names = fields.get("id2label")
    if names is None and "num_labels" not in fields:
        return fields | {"id2label": {0: "defect"}, "label2id": {"defect": 0}}
    if names is not None and fields.get("label2id") is None:
        return fields | {"label2id": {name: int(index) for index, name in names.items()}}
    return fields


def check_labels(labels: Sequence[dict[str, Tensor]], batch: int, num_labels: int) -> None:
    """Refuse labels that do not fit a batch or a model's classes.

    Args:
        labels: For each image `class_labels` (n,) and `boxes` (n, 4).
        batch: Number of images.
        num_labels: Number of classes.

    Raises:
        InputError: not one entry an image, boxes and classes that do not match, or a class beyond the list.
    """
    if len(labels) != batch:
        raise InputError(
            f"labels for {len(labels)} images, pixel_values of {batch}: give one dict an image, boxes or not"
        )
    counts = [len(image["class_labels"]) for image in labels]
    shapes = [tuple(image["boxes"].shape) for image in labels]
    if any(shape != (count, 4) for count, shape in zip(counts, shapes, strict=True)):
        raise InputError(f"class_labels of {counts} boxes with boxes of shapes {shapes}: expected (n, 4) each")
    found = [image["class_labels"].aminmax() for image in labels if len(image["class_labels"])]
    if found:
        lowest, highest = min(int(low) for low, _ in found), max(int(high) for _, high in found)
        if lowest < 0 or highest >= num_labels:
            raise InputError(f"class_labels from {lowest} to {highest}, the model has {num_labels} labels")
