"""FIMetal-IoU against a loop in float64, and its place in the loss."""

import math

import pytest
import torch
from contract_cases import labels_of
from torchvision.ops import complete_box_iou_loss
from yolo_cases import build

from agssp.errors import InputError
from agssp.models.detection.yolo import YoloConfig
from agssp.models.detection.yolo.fimetal_iou import FOCUS, INNER_RATIO, fimetal_iou_loss


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 10
    return torch.cat((corner, corner + 0.2 + torch.rand(count, 2, generator=generator, dtype=torch.float64) * 8), 1)


def overlap(first, second):
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return width * height / (areas - width * height)


def grown(box, ratio):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    width, height = (box[2] - box[0]) * ratio / 2, (box[3] - box[1]) * ratio / 2
    return [x - width, y - height, x + width, y + height]


def slow_loss(box, target, ratio, lowest, highest):
    focused = (overlap(grown(box, ratio), grown(target, ratio)) - lowest) / (highest - lowest)
    distance = (box[0] + box[2] - target[0] - target[2]) ** 2 + (box[1] + box[3] - target[1] - target[3]) ** 2
    width, height = max(box[2], target[2]) - min(box[0], target[0]), max(box[3], target[3]) - min(box[1], target[1])
    angles = [math.atan((sides[2] - sides[0]) / (sides[3] - sides[1])) for sides in (box, target)]
    aspect = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    trade_off = aspect / (1 - overlap(box, target) + aspect) if aspect else 0
    return 1 - min(max(focused, 0), 1) + distance / 4 / (width**2 + height**2) + trade_off * aspect


def test_no_boxes():
    boxes = torch.zeros(0, 4, requires_grad=True)
    loss = fimetal_iou_loss(boxes, torch.zeros(0, 4))
    assert loss.shape == (0,)
    loss.sum().backward()
    assert boxes.grad.shape == (0, 4)


@pytest.mark.parametrize(("ratio", "focus"), [(INNER_RATIO, FOCUS), (0.7, (0.1, 0.8)), (1.0, (0.0, 1.0))])
def test_against_a_loop(ratio, focus):
    boxes, targets = random_boxes(200, 0), random_boxes(200, 1)
    expected = [slow_loss(a, b, ratio, *focus) for a, b in zip(boxes.tolist(), targets.tolist(), strict=True)]
    loss = fimetal_iou_loss(boxes, targets, ratio, focus)
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_boxes_as_they_are_on_the_whole_interval_are_complete_iou():
    boxes, targets = random_boxes(50, 2), random_boxes(50, 3)
    expected = complete_box_iou_loss(boxes, targets)
    torch.testing.assert_close(fimetal_iou_loss(boxes, targets, 1.0, (0.0, 1.0)), expected, rtol=1e-5, atol=1e-6)


def test_a_perfect_box_costs_nothing_and_a_missing_one_is_drawn_nearer():
    target = torch.tensor([[2.0, 2.0, 4.0, 4.0]])
    assert fimetal_iou_loss(target, target).item() == pytest.approx(0, abs=1e-6)
    far = torch.tensor([[8.0, 2.0, 10.0, 4.0]], requires_grad=True)
    fimetal_iou_loss(far, target).sum().backward()
    assert far.grad[0, 0] + far.grad[0, 2] > 0


def test_it_is_slf_yolos_box_loss_and_can_be_any_others():
    assert YoloConfig(variant="slf_yolos").box_loss == "fimetal_iou"
    assert YoloConfig(variant="yolov8s").box_loss == "ciou"
    with pytest.raises(InputError, match="box_loss='giou'"):
        YoloConfig(box_loss="giou")
    images, labels = torch.rand(2, 3, 64, 64), labels_of([(1, (0.5, 0.5, 0.4, 0.3))], [])
    for variant in ("slf_yolon", "yolo26n"):
        model = build(variant, box_loss="fimetal_iou").eval()
        with torch.no_grad():
            first = model(images, labels).loss_dict
            model.config.box_loss = "ciou"
            second = model(images, labels).loss_dict
        assert first["box"] != second["box"]
        for name in set(first) - {"box"}:
            torch.testing.assert_close(first[name], second[name])
