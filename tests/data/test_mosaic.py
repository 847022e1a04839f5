import numpy as np
import pytest
import torch

from agssp.data.mosaic import DetectionTransform, keep_visible
from agssp.letterbox import GREY

PLAIN = {"image_mean": (0, 0, 0), "image_std": (1, 1, 1), "hsv": (0, 0, 0)}


def sample(seed, size=(80, 120), box=(30.0, 20.0, 90.0, 60.0), value=None):
    """A dark picture with one box painted in a brightness of its own."""
    value = 100 + 30 * seed if value is None else value
    image = np.full((*size, 3), 10, np.uint8)
    x0, y0, x1, y1 = map(int, box)
    image[y0:y1, x0:x1] = value
    return {"image": image, "boxes": np.float32([box]), "class_labels": np.array([seed]), "value": value}


def empty():
    return {
        "image": np.zeros((50, 50, 3), np.uint8),
        "boxes": np.zeros((0, 4), np.float32),
        "class_labels": np.zeros(0, int),
    }


def painted(pixel_values, value):
    alike = ((pixel_values[:1] * 255 - value).abs() < 6).float()
    # Edges blend through other paints' values; of those thin lines nothing is left after an erosion.
    solid = -torch.nn.functional.max_pool2d(-alike, 3, 1, 1)
    found = torch.nonzero(solid[0])
    low, high = found.amin(0) - 1, found.amax(0) + 2
    return [low[1].item(), low[0].item(), high[1].item(), high[0].item()]


def corners(boxes, side):
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1) * side


def test_images_without_boxes():
    transform = DetectionTransform(64, **PLAIN)
    for samples in ([empty()], [empty()] * 4):
        labels = transform(samples, np.random.default_rng(0))["labels"]
        assert labels["boxes"].shape == (0, 4)
        assert labels["class_labels"].dtype == torch.int64
    assert transform.evaluation(empty())["labels"]["boxes"].shape == (0, 4)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_lie_where_the_paint_is(count, seed):
    samples = [sample(index) for index in range(count)]
    side = 160
    transform = DetectionTransform(side, vertical_flip=0.5, **PLAIN)
    item = transform(samples, np.random.default_rng(seed))
    boxes = corners(item["labels"]["boxes"], side)
    assert item["pixel_values"].shape == (3, side, side)
    for box, label in zip(boxes, item["labels"]["class_labels"], strict=True):
        assert box.tolist() == pytest.approx(painted(item["pixel_values"], samples[label]["value"]), abs=3)
    # What has no box shows (almost) no paint.
    for index in set(range(count)) - set(item["labels"]["class_labels"].tolist()):
        share = ((item["pixel_values"][0] * 255 - samples[index]["value"]).abs() < 3).float().mean()
        assert share < 0.03


def test_mosaic_shows_all_four_and_fills_with_grey():
    transform = DetectionTransform(160, scale=0, translate=0, flip=0, **PLAIN)
    seen, grey = set(), 0
    for seed in range(10):
        item = transform([sample(index) for index in range(4)], np.random.default_rng(seed))
        seen |= set(item["labels"]["class_labels"].tolist())
        grey += int(((item["pixel_values"] * 255 - GREY).abs() < 0.5).sum())
    assert seen == {0, 1, 2, 3}
    assert grey


def test_mosaic_without_scale_is_the_crop_of_the_textbook_canvas():
    """Paste the tiles on a canvas of twice the size and cut its middle: what ultralytics does before its affine."""
    side, generator = 64, np.random.default_rng(3)
    tiles = [
        {
            "image": generator.integers(0, 255, (side, side, 3), dtype=np.uint8),
            "boxes": np.float32([[8, 8, 40, 40]]),
            "class_labels": np.array([index]),
        }
        for index in range(4)
    ]
    transform = DetectionTransform(side, scale=0, translate=0, flip=0, **PLAIN)
    item = transform(tiles, np.random.default_rng(11))
    draws = np.random.default_rng(11)
    draws.uniform(1, 1)
    draws.uniform(0.5, 0.5, 2)
    cx, cy = np.rint(draws.uniform(0.5, 1.5, 2) * side).astype(int)
    canvas = np.full((2 * side, 2 * side, 3), GREY, np.uint8)
    for index, tile in enumerate(tiles):
        x, y = (cx if index % 2 else cx - side), (cy if index // 2 else cy - side)
        for row in range(side):
            for column in range(side):
                if 0 <= y + row < 2 * side and 0 <= x + column < 2 * side:
                    canvas[y + row, x + column] = tile["image"][row, column]
    expected = canvas[side // 2 : side // 2 + side, side // 2 : side // 2 + side]
    found = (item["pixel_values"].permute(1, 2, 0) * 255).round().numpy()
    # Centres fall between pixels, so compare coarsely: the four quarters and their borders agree on average.
    blocks = [block.reshape(8, 8, 8, 8, 3).mean((1, 3)) for block in (found, expected.astype(np.float32))]
    assert np.abs(blocks[0] - blocks[1]).mean() < 12


def test_visibility_rules():
    full = np.float32([[0, 0, 50, 50, 50, 50], [0, 0, 2, 50, 50, 50], [0, 0, 4, 4, 50, 50], [0, 0, 63, 3, 63, 3]])
    boxes, labels = keep_visible(full, np.arange(4), 64)
    assert labels.tolist() == [0, 3]
    assert boxes.shape == (2, 4)


def test_evaluation_is_the_detectors_own_letterbox():
    from agssp.models.detection.yolo.image_processing_yolo import YoloImageProcessor

    entry = sample(1, (77, 123))
    item = DetectionTransform(96, **PLAIN).evaluation(entry)
    expected = YoloImageProcessor(96)(entry["image"], return_tensors="pt")["pixel_values"][0]
    assert torch.equal(item["pixel_values"], expected)
    assert corners(item["labels"]["boxes"], 96)[0].tolist() == pytest.approx(
        painted(item["pixel_values"], entry["value"]), abs=1.5
    )
