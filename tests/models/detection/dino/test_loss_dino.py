"""Matching and losses against plain loops in float64, brute force, and Deformable DETR's in transformers."""

import itertools
import math

import pytest
import torch
from contract_cases import labels_of
from dino_cases import random_labels
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher, DeformableDetrImageLoss

from agssp.models.detection.dino.denoising import denoising_queries
from agssp.models.detection.dino.loss import (
    denoising_matches,
    flat_targets,
    match,
    matching_cost,
    mean_number_of_boxes,
    set_losses,
)

CPU = torch.device("cpu")
WEIGHTS = (2.0, 5.0, 2.0)


def predictions(layers=2, batch=2, queries=6, classes=3, seed=0):
    torch.manual_seed(seed)
    boxes = torch.cat((0.3 + 0.4 * torch.rand(layers, batch, queries, 2), 0.1 + 0.3 * torch.rand(layers, batch, queries, 2)), 3)  # fmt: skip  # noqa: E501
    return torch.randn(layers, batch, queries, classes) * 2, boxes


def corners(box):
    x, y, width, height = box
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def generalised_iou(first, second):
    a, b = corners(first), corners(second)
    overlap = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = first[2] * first[3] + second[2] * second[3] - overlap
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return overlap / union - (around - union) / around


def focal(logit, wanted, alpha=0.25, gamma=2):
    score = 1 / (1 + math.exp(-logit))
    if wanted:
        return -alpha * (1 - score) ** gamma * math.log(score)
    return -(1 - alpha) * score**gamma * math.log(1 - score)


def cost_of(logits, box, label, target):
    distance = sum(abs(a - b) for a, b in zip(box, target, strict=True))
    difference = focal(logits[label], True) - focal(logits[label], False)
    return 2 * difference + 5 * distance - 2 * generalised_iou(box, target)


def test_no_boxes_at_all():
    logits, boxes = predictions()
    targets = flat_targets(labels_of([], []), CPU)
    matches = match(logits, boxes, targets, WEIGHTS, 0.25)
    assert [len(part) for part in matches] == [0, 0, 0, 0]
    assert matches.layers.dtype == torch.int64
    losses = set_losses(logits, boxes.requires_grad_(True), targets, matches, 0.25)
    assert losses[:, 1:].abs().sum() == 0
    for layer in range(2):
        expected = sum(focal(value, False) for value in logits[layer].double().flatten().tolist())
        assert losses[layer, 0].item() == pytest.approx(expected, rel=1e-4)
    losses.sum().backward()
    assert torch.equal(boxes.grad, torch.zeros_like(boxes)), "a gradient of zero, not none"


def test_cost_by_hand():
    logits, boxes = predictions(1, 1)
    labels = random_labels(4)[0]
    costs = matching_cost(logits[0, 0], boxes[0, 0], labels["class_labels"], labels["boxes"], WEIGHTS, 0.25)
    assert costs.shape == (6, 4)
    for query in range(6):
        for index in range(4):
            expected = cost_of(
                logits[0, 0, query].double().tolist(),
                boxes[0, 0, query].double().tolist(),
                int(labels["class_labels"][index]),
                labels["boxes"][index].double().tolist(),
            )
            assert costs[query, index].item() == pytest.approx(expected, abs=1e-4)


def test_matching_is_the_cheapest_of_all():
    logits, boxes = predictions()
    labels = random_labels(3, 2)
    matches = match(logits, boxes, flat_targets(labels, CPU), WEIGHTS, 0.25)
    found = set(zip(*(part.tolist() for part in matches), strict=True))
    first = 0
    for image, target in enumerate(labels):
        count = len(target["class_labels"])
        for layer in range(2):
            costs = matching_cost(
                logits[layer, image], boxes[layer, image], target["class_labels"], target["boxes"], WEIGHTS, 0.25
            ).tolist()
            choices = itertools.permutations(range(6), count)
            best = min(choices, key=lambda queries: sum(costs[query][i] for i, query in enumerate(queries)))
            expected = {(layer, image, query, first + index) for index, query in enumerate(best)}
            assert {row for row in found if row[:2] == (layer, image)} == expected
        first += count


def test_matching_equals_deformable_detrs():
    logits, boxes = predictions(1, 3, 40)
    labels = random_labels(5, 0, 9)
    matcher = DeformableDetrHungarianMatcher(class_cost=2, bbox_cost=5, giou_cost=2)
    expected = matcher({"logits": logits[0], "pred_boxes": boxes[0]}, labels)
    matches = match(logits, boxes, flat_targets(labels, CPU), WEIGHTS, 0.25)
    for image, (queries, order) in enumerate(expected):
        mine = matches.images == image
        first = sum(len(target["class_labels"]) for target in labels[:image])
        pairs = set(zip(matches.queries[mine].tolist(), (matches.targets[mine] - first).tolist(), strict=True))
        assert pairs == set(zip(queries.tolist(), order.tolist(), strict=True))


def test_more_boxes_than_queries():
    logits, boxes = predictions(1, 1, 2)
    matches = match(logits, boxes, flat_targets(random_labels(5), CPU), WEIGHTS, 0.25)
    assert sorted(matches.queries.tolist()) == [0, 1]
    assert len(set(matches.targets.tolist())) == 2


def test_predictions_that_have_diverged_are_matched_last():
    logits, boxes = predictions(1, 1, 4)
    boxes[0, 0, :2] = torch.nan
    matches = match(logits, boxes, flat_targets(random_labels(2), CPU), WEIGHTS, 0.25)
    assert sorted(matches.queries.tolist()) == [2, 3]


def test_losses_by_hand():
    logits, boxes = predictions()
    labels = random_labels(2, 1)
    targets = flat_targets(labels, CPU)
    matches = match(logits, boxes, targets, WEIGHTS, 0.25)
    losses = set_losses(logits, boxes, targets, matches, 0.25)
    pairs = {
        (layer, image, query): target
        for layer, image, query, target in zip(*(part.tolist() for part in matches), strict=True)
    }
    for layer in range(2):
        expected = [0.0, 0.0, 0.0]
        for image, query in itertools.product(range(2), range(6)):
            target = pairs.get((layer, image, query))
            for label, logit in enumerate(logits[layer, image, query].double().tolist()):
                expected[0] += focal(logit, target is not None and targets.classes[target] == label)
            if target is not None:
                box, true = boxes[layer, image, query].double().tolist(), targets.boxes[target].double().tolist()
                expected[1] += sum(abs(a - b) for a, b in zip(box, true, strict=True))
                expected[2] += 1 - generalised_iou(box, true)
        assert losses[layer].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("counts", [(4, 0, 2), (0, 0, 1)])
def test_losses_equal_deformable_detrs(counts):
    logits, boxes = predictions(3, 3, 20)
    labels = random_labels(*counts)
    matcher = DeformableDetrHungarianMatcher(class_cost=2, bbox_cost=5, giou_cost=2)
    criterion = DeformableDetrImageLoss(matcher, num_classes=3, focal_alpha=0.25, losses=["labels", "boxes"])
    layers = [{"logits": logits[layer], "pred_boxes": boxes[layer]} for layer in (2, 0, 1)]
    expected = criterion(layers[0] | {"auxiliary_outputs": layers[1:]}, labels)
    targets = flat_targets(labels, CPU)
    losses = set_losses(logits, boxes, targets, match(logits, boxes, targets, WEIGHTS, 0.25), 0.25)
    losses = losses / mean_number_of_boxes(sum(counts), CPU)
    for layer, suffix in ((2, ""), (0, "_0"), (1, "_1")):
        theirs = torch.stack([expected[f"loss_{name}{suffix}"] for name in ("ce", "bbox", "giou")])
        torch.testing.assert_close(losses[layer], theirs, rtol=1e-4, atol=1e-4)


def test_denoising_queries_stand_for_the_boxes_they_were_made_of():
    labels = random_labels(2, 0, 3)
    queries = denoising_queries(labels, 3, 7, 0.0, 0.0, CPU)
    targets = flat_targets(labels, CPU)
    matches = denoising_matches(queries, targets.counts, layers=2)
    expected = set()
    for layer, image in itertools.product(range(2), range(3)):
        for group, slot in itertools.product(range(2), range(targets.counts[image])):
            expected.add((layer, image, group * 6 + slot, sum(targets.counts[:image]) + slot))
    found = list(zip(*(part.tolist() for part in matches), strict=True))
    assert set(found) == expected
    assert len(found) == len(expected)
    # Without noise in the boxes, each is that of the target.
    torch.testing.assert_close(queries.boxes[matches.images, matches.queries], targets.boxes[matches.targets])


def test_what_does_not_count_has_no_loss():
    logits, boxes = predictions(1, 2)
    targets = flat_targets(labels_of([], []), CPU)
    matches = match(logits, boxes, targets, WEIGHTS, 0.25)
    counted = torch.zeros(2, 6, dtype=torch.bool)
    counted[1, 2] = True
    losses = set_losses(logits, boxes, targets, matches, 0.25, counted)
    assert losses[0, 0].item() == pytest.approx(
        sum(focal(value, False) for value in logits[0, 1, 2].tolist()), rel=1e-4
    )


def test_losses_are_divided_by_one_box_at_least():
    assert [mean_number_of_boxes(count, CPU).item() for count in (0, 1, 7)] == [1, 1, 7]
