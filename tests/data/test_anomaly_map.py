import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from agssp.data.anomaly_map import AnomalyMap
from agssp.errors import InputError

GEOMETRIC = [
    v2.Resize((40, 50), antialias=True),
    v2.RandomResizedCrop((32, 32), antialias=True),
    v2.RandomCrop((30, 20)),
    v2.RandomHorizontalFlip(1.0),
    v2.RandomVerticalFlip(1.0),
    v2.CenterCrop((30, 30)),
    v2.RandomAffine(20, translate=(0.1, 0.1), scale=(0.7, 1.3), interpolation=v2.InterpolationMode.BILINEAR),
    v2.RandomRotation(30, interpolation=v2.InterpolationMode.BILINEAR),
    v2.RandomPerspective(0.4, p=1.0),
    v2.ScaleJitter((60, 60), antialias=True),
    v2.RandomResize(20, 60, antialias=True),
    v2.RandomShortestSize(30, antialias=True),
    v2.Compose([v2.RandomHorizontalFlip(0.5), v2.RandomResizedCrop((24, 24)), v2.RandomVerticalFlip(0.5)]),
    v2.Pad(5),
    v2.RandomZoomOut(p=1.0),
]
PHOTOMETRIC = [
    v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
    v2.RandomPhotometricDistort(p=1.0),
    v2.GaussianBlur(3),
    v2.GaussianNoise(),
    v2.RandomErasing(1.0),
    v2.RandomInvert(1.0),
    v2.Normalize([0.5] * 3, [0.2] * 3),
]


def image_and_map():
    values = torch.rand(1, 12, 16, generator=torch.Generator().manual_seed(0))
    smooth = v2.functional.resize_image(values, [48, 64], antialias=True)
    return tv_tensors.Image(smooth.repeat(3, 1, 1)), AnomalyMap(smooth)


def test_needs_floating_point():
    with pytest.raises(InputError, match="floating point"):
        AnomalyMap(np.zeros((3, 3), np.uint8))
    assert AnomalyMap(np.zeros((3, 4), np.float32)).shape == (1, 3, 4)


@pytest.mark.parametrize("transform", GEOMETRIC, ids=lambda item: type(item).__name__)
def test_map_follows_the_image(transform):
    torch.manual_seed(0)
    image, anomaly_map = transform(*image_and_map())
    assert isinstance(anomaly_map, AnomalyMap)
    torch.testing.assert_close(image[:1].as_subclass(torch.Tensor), anomaly_map.as_subclass(torch.Tensor))


@pytest.mark.parametrize("transform", PHOTOMETRIC, ids=lambda item: type(item).__name__)
def test_colour_leaves_the_map_alone(transform):
    torch.manual_seed(0)
    before = image_and_map()
    image, anomaly_map = transform(*before)
    assert torch.equal(anomaly_map, before[1])
    assert not torch.equal(image, before[0])


def test_fill_of_the_image_does_not_reach_the_map():
    image, anomaly_map = v2.Pad(4, fill=0.7)(*image_and_map())
    assert image[0, 0, 0] == pytest.approx(0.7)
    assert anomaly_map[0, 0, 0] == 0


def test_boxes_and_map_move_together():
    image = torch.zeros(3, 60, 80)
    image[:, 20:30, 40:60] = 1
    boxes = tv_tensors.BoundingBoxes([[40.0, 20, 60, 30]], format="XYXY", canvas_size=(60, 80))
    torch.manual_seed(1)
    moved, anomaly_map, box = v2.Compose([v2.RandomHorizontalFlip(1.0), v2.RandomCrop((40, 60)), v2.Resize((80, 120))])(
        tv_tensors.Image(image), AnomalyMap(image[:1]), boxes
    )
    inside = torch.nonzero(anomaly_map[0] > 0.5)
    low, high = inside.amin(0), inside.amax(0) + 1
    assert box[0].tolist() == pytest.approx([*low.flip(0).tolist(), *high.flip(0).tolist()], abs=1)
    torch.testing.assert_close(moved[:1].as_subclass(torch.Tensor), anomaly_map.as_subclass(torch.Tensor))


@pytest.mark.parametrize("transform", [v2.ElasticTransform(), v2.FiveCrop(8), v2.TenCrop(8)])
def test_geometry_that_cannot_be_followed_is_refused(transform):
    with pytest.raises(InputError, match="cannot follow"):
        transform(*image_and_map())


def test_batches_and_arithmetic_are_plain_tensors_and_copies_keep_the_type():
    _, anomaly_map = image_and_map()
    assert type(default_collate([anomaly_map, anomaly_map])) is torch.Tensor
    assert type(anomaly_map * 2) is torch.Tensor
    for again in (pickle.loads(pickle.dumps(anomaly_map)), copy.deepcopy(anomaly_map)):
        assert type(again) is AnomalyMap
        assert torch.equal(again, anomaly_map)
