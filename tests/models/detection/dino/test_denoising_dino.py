"""Contrastive denoising against the paper's definition in plain loops, and against RT-DETR's in transformers."""

import math

import pytest
import torch
from contract_cases import labels_of
from dino_cases import random_labels
from torchvision.ops import box_convert, box_iou
from transformers.models.rt_detr.modeling_rt_detr import get_contrastive_denoising_training_group

from agssp.models.detection.dino.denoising import (
    attention_mask,
    box_logits,
    denoising_queries,
    disturb_boxes,
    disturb_classes,
)

CPU = torch.device("cpu")


def queries_of(labels, num_denoising=7, label_noise_ratio=0.0, box_noise_scale=1.0):
    return denoising_queries(labels, 3, num_denoising, label_noise_ratio, box_noise_scale, CPU)


def test_no_queries_without_boxes_or_when_none_are_asked_for():
    assert queries_of(labels_of()) is None
    assert queries_of(labels_of([], [])) is None
    assert queries_of(random_labels(2), num_denoising=0) is None


@pytest.mark.parametrize(("num_denoising", "groups"), [(7, 2), (3, 1), (1, 1), (100, 33)])
def test_groups_of_positive_and_negative_queries(num_denoising, groups):
    labels = random_labels(3, 0, 1)
    queries = queries_of(labels, num_denoising, box_noise_scale=0.0)
    place = 0
    for group in range(groups):
        for positive in (True, False):
            for slot in range(3):
                assert queries.groups[place] == group
                assert queries.positive[place] == positive
                assert queries.slots[place] == slot
                for image, count in enumerate((3, 0, 1)):
                    assert queries.real[image, place] == (slot < count)
                    if slot < count:
                        assert queries.classes[image, place] == labels[image]["class_labels"][slot]
                        torch.testing.assert_close(queries.boxes[image, place], labels[image]["boxes"][slot])
                place += 1
    assert queries.boxes.shape == (3, place, 4)


def test_the_noise_is_that_of_a_plain_loop():
    boxes = torch.stack([image["boxes"] for image in random_labels(6, 6)])
    positive = torch.tensor([True, True, True, False, False, False])
    torch.manual_seed(3)
    disturbed = disturb_boxes(boxes, positive, 0.4)
    torch.manual_seed(3)
    signs, amounts = torch.randint_like(boxes, 2), torch.rand_like(boxes)
    for image in range(2):
        for query in range(6):
            x, y, width, height = boxes[image, query].tolist()
            sides = []
            for side, value in enumerate((x - width / 2, y - height / 2, x + width / 2, y + height / 2)):
                amount = amounts[image, query, side].item() + (0 if positive[query] else 1)
                half = (width, height)[side % 2] / 2
                sides.append(value + (1 if signs[image, query, side] else -1) * amount * half * 0.4)
            left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in sides)
            expected = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
            assert disturbed[image, query].tolist() == pytest.approx(expected, abs=1e-6)


def test_positive_queries_stay_nearer_than_negative_ones():
    torch.manual_seed(0)
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.1]).expand(1, 2000, 4)
    positive = torch.arange(2000) % 2 == 0
    disturbed = disturb_boxes(boxes, positive, 0.4)[0]
    for sign in (-1, 1):  # left and top, right and bottom
        shifts = (disturbed[:, :2] + sign * disturbed[:, 2:] / 2) - (boxes[0, :, :2] + sign * boxes[0, :, 2:] / 2)
        relative = shifts.abs() / (boxes[0, :, 2:] / 2)
        assert 0.35 < relative[positive].max() <= 0.4 + 1e-4
        assert relative[positive].min() < 0.02
        assert relative[~positive].min() >= 0.4 - 1e-4
        assert 0.75 < relative[~positive].max() <= 0.8 + 1e-4
        assert (shifts > 0).float().mean() == pytest.approx(0.5, abs=0.05)


def test_no_negative_query_is_near_the_box():
    torch.manual_seed(0)
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.1]).expand(1, 4000, 4)
    disturbed = disturb_boxes(boxes, torch.zeros(4000, dtype=torch.bool), 1.0)[0]
    assert (disturbed >= 0).all()
    # Both sides inwards have passed each other. Turned round, the box would be the original for the largest shifts.
    assert (disturbed[:, 2] == 0).float().mean() == pytest.approx(0.25, abs=0.03)
    overlap = box_iou(box_convert(disturbed, "cxcywh", "xyxy"), box_convert(boxes[0, :1], "cxcywh", "xyxy"))
    assert overlap.max() < 1 / 3 + 1e-4


def test_boxes_at_the_rim_stay_in_the_image_with_finite_logits():
    torch.manual_seed(0)
    labels = labels_of([(0, (0.01, 0.99, 0.02, 0.02)), (1, (0.5, 0.5, 1.0, 1.0)), (2, (0.5, 0.5, 0.0, 0.0))])
    queries = queries_of(labels, 600)
    left_top, right_bottom = (queries.boxes[..., :2] + sign * queries.boxes[..., 2:] / 2 for sign in (-1, 1))
    assert left_top.min() >= -1e-6
    assert right_bottom.max() <= 1 + 1e-6
    assert torch.isfinite(box_logits(queries)).all()
    assert box_logits(queries).abs().max() <= -math.log(1e-5) + 0.1


def test_half_of_the_share_of_classes_is_random():
    torch.manual_seed(0)
    classes = torch.ones(200, 1000, dtype=torch.int64)
    assert torch.equal(disturb_classes(classes, 4, 0.0), classes)
    assert torch.equal(disturb_classes(torch.zeros_like(classes), 1, 1.0), torch.zeros_like(classes))
    disturbed = disturb_classes(classes, 4, 0.25)
    assert (disturbed != 1).float().mean() == pytest.approx(0.25 * 3 / 4, abs=0.005)
    for other in (0, 2, 3):
        assert (disturbed == other).float().mean() == pytest.approx(0.25 / 4, abs=0.005)
    torch.manual_seed(0)
    queries = queries_of(labels_of([(1, (0.5, 0.5, 0.2, 0.2))]), 50_000, label_noise_ratio=0.5)
    assert (queries.classes != 1).float().mean() == pytest.approx(0.25 * 2 / 3, abs=0.01)


def test_the_same_random_state_gives_the_same_queries():
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(queries_of(random_labels(2, 3), label_noise_ratio=0.5))
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


def test_who_may_look_at_whom():
    queries = queries_of(random_labels(2, 1, 0), 4)
    mask = attention_mask(queries, matching=3)
    count = len(queries.groups)
    assert count == 8
    assert mask.shape == (3, 1, 11, 11)
    for image in range(3):
        for row in range(11):
            for column in range(11):
                if row == column or column >= count:  # everybody may look at the matching queries
                    allowed = True
                elif row >= count:  # matching queries at no denoising query
                    allowed = False
                else:
                    same = queries.groups[row] == queries.groups[column]
                    allowed = bool(same and queries.real[image, column])
                assert (mask[image, 0, row, column] == 0) == allowed
    assert mask.max() == 0
    assert torch.isinf(mask.min())


def test_equal_to_rt_detrs_queries():
    labels = random_labels(3, 2)
    torch.manual_seed(1)
    classes, logits, mask, meta = get_contrastive_denoising_training_group(
        labels, 3, 5, torch.nn.Identity(), num_denoising_queries=7, label_noise_ratio=0.0, box_noise_scale=0.7
    )
    torch.manual_seed(1)
    queries = queries_of(labels, 7)
    repeated = torch.stack([torch.nn.functional.pad(x["boxes"], (0, 0, 0, 3 - len(x["boxes"]))) for x in labels])
    torch.manual_seed(1)
    boxes = disturb_boxes(repeated.repeat(1, 4, 1), queries.positive, 0.7)
    assert meta["dn_num_group"] == int(queries.groups[-1]) + 1 == 2
    assert torch.equal(classes.long()[queries.real], queries.classes[queries.real])
    torch.testing.assert_close(box_logits(queries._replace(boxes=boxes))[queries.real], logits[queries.real])
    for image, places in enumerate(meta["dn_positive_idx"]):
        assert torch.equal(places, (queries.real[image] & queries.positive).nonzero()[:, 0])
    # Its mask does not leave out what only fills up a group, of which the first image has none.
    assert torch.equal(attention_mask(queries, 5)[0, 0], mask)
