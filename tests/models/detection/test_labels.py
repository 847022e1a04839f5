"""Names of classes in a configuration, and labels that do not fit a batch."""

import pytest
import torch

from agssp.errors import InputError
from agssp.models.detection.labels import check_labels, with_class_names


def label(count, boxes=None, first=0):
    return {
        "class_labels": torch.arange(first, first + count),
        "boxes": torch.zeros(count if boxes is None else boxes, 4),
    }


def test_one_class_where_none_is_named():
    assert with_class_names({}) == {"id2label": {0: "defect"}, "label2id": {"defect": 0}}
    assert with_class_names({"num_labels": 7}) == {"num_labels": 7}
    fields = {"id2label": {"0": "pit", "1": "scale"}, "return_dict": True}
    assert with_class_names(fields) == fields | {"label2id": {"pit": 0, "scale": 1}}
    both = {"id2label": {0: "pit"}, "label2id": {"pit": 0}}
    assert with_class_names(both) == both


def test_labels_that_fit():
    check_labels([], 0, 3)
    check_labels([label(0), label(3), label(0)], 3, 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "labels for 0 images, pixel_values of 2"),
        ([label(1)] * 3, "labels for 3 images"),
        ([label(0), label(2, boxes=1)], r"class_labels of \[0, 2\] boxes with boxes of shapes \[\(0, 4\), \(1, 4\)\]"),
        ([label(1), label(2, first=2)], "class_labels from 0 to 3, the model has 3 labels"),
        ([label(1), label(1, first=-1)], "class_labels from -1 to 0, the model has 3 labels"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(InputError, match=message):
        check_labels(labels, 2, 3)
