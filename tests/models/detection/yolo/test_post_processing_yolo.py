"""Thresholding, suppression and letterbox inversion against ultralytics' own functions."""

from functools import partial

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert

from agssp.data.letterbox import letterbox_geometry
from agssp.errors import InputError
from agssp.models.detection import post_processing
from agssp.models.detection.post_processing import undo_letterbox
from agssp.models.detection.yolo.image_processing_yolo import IOU_THRESHOLD
from agssp.models.detection.yolo.modeling_yolo import YoloObjectDetectionOutput
from agssp.models.detection.yolo.neck_and_head import decode_boxes, square_input_size
from agssp.models.ultralytics import import_ultralytics

post_process_object_detection = partial(post_processing.post_process_object_detection, iou_threshold=IOU_THRESHOLD)
SIZES = [(64, 64), (61, 40), (40, 61), (37, 200), (1, 300), (128, 90), (333, 332)]


def crowded(batch=2, anchors=400, classes=4, size=64, seed=0):
    """Predictions with many overlapping boxes."""
    torch.manual_seed(seed)
    centres = torch.rand(batch, 30, 2).repeat_interleave(anchors // 30 + 1, 1)[:, :anchors]
    boxes = torch.cat((centres + 0.02 * torch.randn(batch, anchors, 2), 0.1 + 0.1 * torch.rand(batch, anchors, 2)), 2)
    return torch.randn(batch, anchors, classes) * 2, boxes


def test_nothing_above_the_threshold():
    logits, boxes = crowded()
    results = post_process_object_detection(logits - 100, boxes, input_size=(64, 64), target_sizes=[(10, 10)] * 2)
    assert [tuple(value.shape for value in result.values()) for result in results] == [((0,), (0,), (0, 4))] * 2
    assert results[0]["labels"].dtype == torch.int64


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("threshold", "iou_threshold", "max_detections"), [(0.25, 0.7, 300), (0.01, 0.45, 20)])
def test_equal_to_ultralytics_suppression(multi_label, threshold, iou_threshold, max_detections):
    import_ultralytics()
    from ultralytics.utils.nms import non_max_suppression

    logits, boxes = crowded()
    theirs = non_max_suppression(
        torch.cat((boxes * 64, logits.sigmoid()), 2).transpose(1, 2),
        conf_thres=threshold,
        iou_thres=iou_threshold,
        max_det=max_detections,
        multi_label=multi_label,
        nc=4,
    )
    ours = post_process_object_detection(
        logits,
        boxes,
        input_size=(64, 64),
        threshold=threshold,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
        multi_label=multi_label,
    )
    for result, reference in zip(ours, theirs, strict=True):
        assert len(reference) > 10
        torch.testing.assert_close(result["scores"], reference[:, 4])
        assert torch.equal(result["labels"], reference[:, 5].long())
        torch.testing.assert_close(result["boxes"] * 64, reference[:, :4], rtol=0, atol=1e-4)


def test_boxes_of_different_classes_do_not_suppress_each_other():
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.4]]])
    logits = torch.tensor([[[3.0, -9.0], [-9.0, 2.0], [1.0, -9.0]]])
    (result,) = post_process_object_detection(logits, boxes, input_size=(64, 64))
    assert result["labels"].tolist() == [0, 1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("input_size", [(64, 64), (64, 96)])
def test_letterbox_is_undone_as_ultralytics_does(size, input_size):
    import_ultralytics()
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.ops import scale_boxes

    params = LetterBox(new_shape=input_size).get_params({"img": np.zeros((*size, 3), np.uint8)})
    geometry = letterbox_geometry(size, input_size)
    assert (geometry.top, geometry.left) == (params["top"], params["left"])
    assert geometry.resized == params["new_unpad"][::-1]
    torch.manual_seed(0)
    boxes = box_convert(torch.rand(50, 4) * 64, "cxcywh", "xyxy")
    expected = scale_boxes(input_size, boxes.clone(), size)
    torch.testing.assert_close(undo_letterbox(boxes, size, input_size), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_a_box_of_the_image_comes_back_and_stays_inside(size):
    height, width = size
    geometry = letterbox_geometry(size, (64, 64))
    original = torch.tensor([[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]])
    shift = torch.tensor([geometry.left, geometry.top] * 2)
    scale = torch.tensor(geometry.scale[::-1] * 2)
    inside = box_convert(original * scale + shift, "xyxy", "cxcywh") / 64
    whole = torch.tensor([[0.5, 0.5, 1.4, 1.4]])
    logits = torch.tensor([[[2.0], [1.0]]])
    (result,) = post_process_object_detection(
        logits, torch.stack((inside, whole), 1), input_size=(64, 64), target_sizes=torch.tensor([size])
    )
    torch.testing.assert_close(result["boxes"][:1], original, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(result["boxes"][1], torch.tensor([0.0, 0.0, width, height]))


def test_a_box_in_the_grey_bars_is_dropped():
    boxes = torch.tensor([[[0.5, 0.05, 0.2, 0.06], [0.5, 0.5, 0.2, 0.2]]])
    logits = torch.tensor([[[3.0], [2.0]]])
    (result,) = post_process_object_detection(logits, boxes, input_size=(64, 64), target_sizes=[(16, 64)])
    assert len(result["boxes"]) == 1


def test_the_square_input_is_told_from_the_number_of_predictions(detector):
    assert square_input_size(8400, (8, 16, 32)) == (640, 640)
    assert square_input_size(84, (8, 16, 32)) == (64, 64)
    outputs = YoloObjectDetectionOutput(logits=torch.zeros(1, 63, 3), pred_boxes=torch.zeros(1, 63, 4))  # 32 x 96
    with pytest.raises(InputError, match="input_size"):
        detector.post_process_object_detection(outputs)
    assert detector.post_process_object_detection(outputs, input_size=(32, 96), threshold=0.9)[0]["scores"].numel() == 0


def test_one_target_size_an_image():
    logits, boxes = crowded()
    with pytest.raises(InputError, match="1 entries for 2 images"):
        post_process_object_detection(logits, boxes, input_size=(64, 64), target_sizes=[(64, 64)])


def test_decoding_by_hand():
    # One cell of 32 px; all weight on the bins 1, 2, 3, 4 for left, top, right, bottom.
    distributions = torch.full((1, 4, 16), -50.0)
    distributions[0, torch.arange(4), torch.arange(1, 5)] = 50.0
    boxes = decode_boxes(distributions.view(1, 64, 1), [(1, 1)], [32])
    expected = box_convert(torch.tensor([[[0.5 - 1, 0.5 - 2, 0.5 + 3, 0.5 + 4]]]), "xyxy", "cxcywh")
    torch.testing.assert_close(boxes, expected)


def test_decoding_without_bins():
    boxes = decode_boxes(torch.tensor([[[0.25], [0.25], [0.5], [0.5]]]), [(1, 1)], [32])
    torch.testing.assert_close(boxes, torch.tensor([[[0.625, 0.625, 0.75, 0.75]]]))
