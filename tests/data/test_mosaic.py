import random

import cv2
import numpy as np
import pytest
import torch

from agssp.data.letterbox import GREY, letterbox
from agssp.data.mosaic import DetectionTransform, compose, keep_visible
from agssp.errors import InputError
from agssp.models.ultralytics import import_ultralytics

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


class Memory:
    """A data set of ultralytics' kind that gives out labels it was given."""

    cache = "ram"

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def get_image_and_label(self, index):
        from ultralytics.utils.instance import Instances

        tile = self.samples[index]
        boxes = Instances(
            tile["boxes"].copy(), np.zeros((0, 1000, 2), np.float32), bbox_format="xyxy", normalized=False
        )
        return {
            "img": tile["image"].copy(),
            "resized_shape": tile["image"].shape[:2],
            "ori_shape": tile["image"].shape[:2],
            "im_file": str(index),
            "cls": tile["class_labels"][:, None].astype(np.float32),
            "instances": boxes,
        }


def smooth_tile(generator, size, label):
    """An image whose long side is that of the input, as ultralytics has it before the mosaic, with a few boxes."""
    image = cv2.resize(generator.integers(0, 255, (5, 6, 3), dtype=np.uint8), size)
    corners = generator.uniform(0, 0.8, (4, 2)) * size
    boxes = np.concatenate([corners, np.minimum(corners + generator.uniform(4, 60, (4, 2)), size)], 1)
    return {"image": image, "boxes": boxes.astype(np.float32), "class_labels": np.arange(4) + 10 * label}


@pytest.mark.parametrize("seed", range(6))
def test_mosaic_equals_ultralytics(seed):
    import_ultralytics()
    from ultralytics.data.augment import Mosaic, RandomPerspective

    side = 160
    generator = np.random.default_rng(seed)
    sizes = [(side, side), (side, 120), (90, side), (side, 100)]
    dataset = Memory([smooth_tile(generator, size, label) for label, size in enumerate(sizes)])
    random.seed(seed)
    first, mosaic = dataset.get_image_and_label(0), Mosaic(dataset, imgsz=side, p=1.0)
    layout = mosaic.get_params(first)
    tiles = [dataset.samples[int(item["labels_patch"]["im_file"])] for item in layout["layout"]]
    centre = np.array([layout["layout"][3]["x1a"], layout["layout"][3]["y1a"]], float)
    labels = mosaic.apply_instances(mosaic.apply_image(first, layout), layout)
    perspective = RandomPerspective(translate=0.1, scale=0.5, size=(side, side))
    moves = perspective.get_params(labels)
    middle = moves["M"][:2] @ np.array([side, side, 1.0])
    expected = perspective.apply_instances(perspective.apply_image(labels, moves), moves)

    canvas, boxes, class_labels = compose(tiles, side, moves["scale"], middle, centre)
    assert np.abs(canvas.astype(float) - expected["img"]).mean() < 4
    # Where a box is just about visible enough, half a pixel of rounding decides.
    theirs = dict(zip(expected["cls"][:, 0].astype(int).tolist(), expected["instances"].bboxes, strict=True))
    ours = dict(zip(class_labels.tolist(), boxes, strict=True))
    if len({tuple(tile["class_labels"]) for tile in tiles}) == 4:
        both = ours.keys() & theirs.keys()
        assert len(both) >= len(ours.keys() | theirs.keys()) - 1
        for label in both:
            assert ours[label].tolist() == pytest.approx(theirs[label].tolist(), abs=1.5)
    assert abs(len(boxes) - len(expected["cls"])) <= 1


def test_single_image_in_the_middle_is_its_letterbox():
    tile = smooth_tile(np.random.default_rng(0), (160, 96), 0)
    canvas, boxes, _ = compose([tile], 160, 1.0, np.array([80.0, 80.0]))
    assert np.array_equal(canvas, letterbox(tile["image"], (160, 160)))
    np.testing.assert_allclose(boxes, tile["boxes"] + np.float32([0, 32, 0, 32]), rtol=1e-5)


def test_neither_one_nor_four():
    with pytest.raises(InputError, match="got 2"):
        compose([empty()] * 2, 64, 1.0, np.array([32.0, 32.0]))


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (700, 3)])
def test_odd_shapes(size):
    tile = {"image": np.zeros((*size, 3), np.uint8), "boxes": np.float32([[0, 0, *size[::-1]]])}
    tile["class_labels"] = np.array([0])
    transform = DetectionTransform(64, **PLAIN)
    for seed in range(20):
        for samples in ([tile], [tile] * 4):
            boxes = transform(samples, np.random.default_rng(seed))["labels"]["boxes"]
            assert ((boxes >= 0) & (boxes <= 1)).all()


def test_settings_out_of_range():
    with pytest.raises(InputError, match="below 1"):
        DetectionTransform(64, (0, 0, 0), (1, 1, 1), scale=1.0)


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
