"""Boxes of detectors without suppression against transformers' own selection, and the letterbox undone."""

import pytest
import torch
from torchvision.ops import box_convert, box_iou
from transformers import RTDetrImageProcessor
from transformers.models.rt_detr.modeling_rt_detr import RTDetrObjectDetectionOutput

from agssp.data.letterbox import letterbox_geometry
from agssp.errors import InputError
from agssp.models.detection.image_processing import LetterboxImageProcessor
from agssp.models.detection.post_processing import post_process_object_detection


def queries(batch=2, count=50, classes=3):
    torch.manual_seed(0)
    boxes = torch.cat((0.2 + 0.6 * torch.rand(batch, count, 2), 0.02 + 0.3 * torch.rand(batch, count, 2)), 2)
    return torch.randn(batch, count, classes), boxes


def test_no_query_and_nothing_above_the_threshold():
    logits, boxes = queries()
    for none in ((logits[:, :0], boxes[:, :0]), (logits - 100, boxes)):
        for multi_label in (False, True):
            results = post_process_object_detection(
                *none, input_size=(64, 64), target_sizes=[(9, 8)] * 2, multi_label=multi_label
            )
            assert [tuple(value.shape for value in result.values()) for result in results] == [((0,), (0,), (0, 4))] * 2


def test_every_query_for_every_class_equals_transformers_selection():
    logits, boxes = queries()
    outputs = RTDetrObjectDetectionOutput(logits=logits, pred_boxes=boxes)
    theirs = RTDetrImageProcessor().post_process_object_detection(outputs, threshold=0.3, target_sizes=[(64, 64)] * 2)
    ours = post_process_object_detection(
        logits,
        boxes,
        input_size=(64, 64),
        threshold=0.3,
        target_sizes=[(64, 64)] * 2,
        max_detections=50,
        multi_label=True,
    )
    for result, reference in zip(ours, theirs, strict=True):
        assert len(reference["scores"]) == 50
        torch.testing.assert_close(result["scores"], reference["scores"])
        assert torch.equal(result["labels"], reference["labels"])
        torch.testing.assert_close(result["boxes"], reference["boxes"].clamp(0, 64))


def test_one_class_a_query():
    logits, boxes = queries()
    results = post_process_object_detection(logits, boxes, input_size=(64, 64), threshold=0.6, max_detections=7)
    for result, image_logits, image_boxes in zip(results, logits, boxes, strict=True):
        rows = sorted(((max(row.tolist()), index) for index, row in enumerate(image_logits)), reverse=True)[:7]
        assert all(1 / (1 + 2.718281828**-best) > 0.6 for best, _ in rows)
        order = [index for _, index in rows]
        torch.testing.assert_close(result["scores"], image_logits[order].max(1).values.sigmoid())
        assert torch.equal(result["labels"], image_logits[order].argmax(1))
        torch.testing.assert_close(result["boxes"], box_convert(image_boxes[order], "cxcywh", "xyxy"))


def test_suppression_on_request():
    logits, boxes = queries(count=200)
    every = post_process_object_detection(logits, boxes, input_size=(64, 64), threshold=0.5)
    fewer = post_process_object_detection(logits, boxes, input_size=(64, 64), threshold=0.5, iou_threshold=0.3)
    for result, reference in zip(fewer, every, strict=True):
        kept = []
        for box, label in zip(reference["boxes"], reference["labels"], strict=True):
            rivals = [other for other, same in kept if same == label]
            if not rivals or box_iou(box[None], torch.stack(rivals)).max() <= 0.3:
                kept.append((box, label))
        assert 0 < len(kept) < len(reference["boxes"])
        torch.testing.assert_close(result["boxes"], torch.stack([box for box, _ in kept]))


@pytest.mark.parametrize("size", [(64, 64), (61, 40), (37, 200), (128, 90)])
def test_the_letterbox_is_undone(size):
    height, width = size
    geometry = letterbox_geometry(size, (64, 64))
    original = torch.tensor([[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]])
    moved = original * torch.tensor(geometry.scale[::-1] * 2) + torch.tensor([geometry.left, geometry.top] * 2)
    logits = torch.tensor([[[2.0]]])
    outputs = {"logits": logits, "pred_boxes": box_convert(moved, "xyxy", "cxcywh")[None] / 64}
    (result,) = LetterboxImageProcessor(64).post_process_object_detection(outputs, target_sizes=[size])
    torch.testing.assert_close(result["boxes"], original, rtol=1e-4, atol=1e-3)


def test_one_target_size_an_image():
    with pytest.raises(InputError, match="1 entries for 2 images"):
        post_process_object_detection(*queries(), input_size=(64, 64), target_sizes=[(64, 64)])
