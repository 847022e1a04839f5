"""Faster R-CNN for a whole batch at once: torchvision's own results, whatever the number of images."""

import pytest
import torch
from export_cases import detector
from torchvision.ops import nms

from agssp.hub.export.faster_rcnn_graph import FasterRcnnGraph
from agssp.hub.export.suppression import NEVER, suppress


def test_suppression_of_no_box():
    assert suppress(torch.zeros(2, 0, 4), torch.zeros(2, 0), 0.5, 10).shape == (2, 0)


def test_suppression_of_each_image_is_torchvisions():
    generator = torch.Generator().manual_seed(0)
    boxes = 40 * torch.rand(3, 50, 4, generator=generator)
    boxes[..., 2:] += boxes[..., :2]
    scores = torch.rand(3, 50, generator=generator)
    scores[1, 10:] = NEVER
    scores[2] = NEVER
    kept = suppress(boxes, scores, 0.4, 7)
    for image, count in enumerate((50, 10, 0)):
        expected = nms(boxes[image, :count], scores[image, :count], 0.4)[:7]
        assert kept[image].nonzero()[:, 0].tolist() == sorted(expected.tolist())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("detections", [10, 100])
@pytest.mark.slow
def test_the_same_detections_as_image_by_image(batch, detections):
    model = detector("faster_rcnn", 96)
    model.config.detections_per_image = model.roi_heads.detections_per_img = detections
    model.config.score_threshold = model.roi_heads.score_thresh = 0.2 if detections == 100 else 0.0
    pixel_values = torch.randn(batch, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(pixel_values)
        logits, boxes = FasterRcnnGraph(model, 96)(pixel_values)
    assert bool((expected.logits > -1e4).any())
    torch.testing.assert_close(logits, expected.logits)
    torch.testing.assert_close(boxes, expected.pred_boxes)


def test_regions_of_every_size_are_pooled_from_their_level():
    side = 512  # below 448 px torchvision never takes the coarsest level
    model = detector("faster_rcnn", 64)
    generator = torch.Generator().manual_seed(0)
    strides, channels = model.backbone.strides, model.config.pyramid_channels
    pyramid = [torch.randn(2, channels, side // stride, side // stride, generator=generator) for stride in strides]
    sizes = torch.tensor([8.0, 60, 111, 112, 113, 223, 224, 225, 300, 447, 448, 449, 512])
    ratios = torch.stack((1.5 * torch.ones(len(sizes)), torch.ones(len(sizes))))[:, :, None] ** torch.tensor(
        [0.5, -0.5]
    )
    boxes = (sizes[:, None] * ratios).clamp(max=side)  # (2, 13, 2), elongated and square
    corner = torch.rand(boxes.shape, generator=generator) * (side - boxes)
    proposals = torch.cat((corner, corner + boxes), 2)

    graph = FasterRcnnGraph(model, 64)
    assert graph.level_of([proposals.flatten(0, 1)]).unique().tolist() == [0, 1, 2, 3]
    pool = model.roi_heads.box_roi_pool
    named = {str(stride): each for stride, each in zip(strides, pyramid, strict=True)}
    expected = pool(named, list(proposals), [(side, side)] * 2)
    torch.testing.assert_close(graph._pool(pyramid, proposals), expected)


@pytest.mark.slow
def test_nothing_found():
    model = detector("faster_rcnn", 64)
    model.config.score_threshold = model.roi_heads.score_thresh = 1.0
    with torch.no_grad():
        logits, boxes = FasterRcnnGraph(model, 64)(torch.rand(2, 3, 64, 64))
    assert bool((logits == -1e4).all())
    assert bool((boxes == 0).all())
