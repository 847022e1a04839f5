"""Two views and hidden patches: the map follows the first view, and everything comes from the generator."""

import numpy as np
import pytest
import torch
from PIL import Image

from agssp.data.transforms import PretrainingTransform, blur, change_contrast, solarise
from agssp.data.views import HiddenPatches, augmentation, random_mask
from agssp.errors import InputError

MEAN, STD = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def two_views(size: int):
    """The views of MoCo v3; maps come at an eighth of the size."""
    options = {"scale": (0.2, 1.0), "vertical_flip": 0.0, "mask_unit": 32, "mask_ratio": 0.6}
    return augmentation("mocov3", size, MEAN, STD, **options)


def picture(size: int = 96) -> Image.Image:
    """Left half dark, right half bright, and a map that says so."""
    pixels = np.full((size, size, 3), 40, np.uint8)
    pixels[:, size // 2 :] = 220
    return Image.fromarray(pixels)


def half_map(cells: int = 12) -> np.ndarray:
    anomaly_map = np.zeros((cells, cells), np.float16)
    anomaly_map[:, cells // 2 :] = 1
    return anomaly_map


@pytest.mark.parametrize(("ratio", "hidden"), [(0.0, 0), (0.6, 22), (1.0, 36)])
def test_share_of_hidden_cells_is_rounded_up(ratio, hidden):
    mask = random_mask(6, ratio, generator())
    assert mask.dtype == torch.bool
    assert mask.shape == (6, 6)
    assert mask.sum() == hidden


def test_every_cell_is_hidden_equally_often():
    draws = generator()
    counts = sum(random_mask(4, 0.5, draws).int() for _ in range(2000))
    assert abs(counts - 1000).max() < 120  # five standard deviations


def test_views_differ_and_the_map_follows_the_first():
    views = two_views(32)
    for seed in range(12):
        item = views(picture(), half_map(), generator(seed))
        assert not torch.equal(item["pixel_values"], item["second_views"])
        brightness = item["pixel_values"].mean(0).reshape(4, 8, 4, 8).mean((1, 3))
        if brightness.std() > 0.1:  # the crop shows both halves
            both = torch.stack([brightness.flatten(), item["anomaly_maps"].flatten()])
            assert torch.corrcoef(both)[0, 1] > 0.8


def test_same_generator_gives_the_same_views():
    views = two_views(32)
    first, again, other = (views(picture(), half_map(), generator(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["second_views"], other["second_views"])


def test_held_out_images_have_one_whole_view():
    item = two_views(32).evaluation(picture(), half_map())
    assert item.keys() == {"pixel_values", "anomaly_maps"}


def test_hidden_patches_leave_the_image_as_it_is():
    plain = PretrainingTransform(64, MEAN, STD, 8)
    item = HiddenPatches(plain, 32, 0.5)(picture(), half_map(), generator())
    expected = plain(picture(), half_map(), generator())
    assert all(torch.equal(item[name], expected[name]) for name in expected)
    assert item["masks"].shape == (2, 2)
    assert item["masks"].sum() == 2
    held_out = [HiddenPatches(plain, 32, 0.5).evaluation(picture(), None)["masks"] for _ in range(2)]
    assert torch.equal(*held_out)


def test_units_and_ratios_that_do_not_fit_are_refused():
    plain = PretrainingTransform(64, MEAN, STD, 8)
    with pytest.raises(InputError, match="mask unit 48 px does not divide the image size 64"):
        HiddenPatches(plain, 48, 0.5)
    with pytest.raises(InputError, match="mask ratio 1"):
        HiddenPatches(plain, 32, 1.0)


def test_photometric_changes_equal_their_definitions():
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(solarise(image), [[[255 - v if v >= 128 else v for v in p] for p in row] for row in image])
    changed = change_contrast(image, 0.4, generator(2)).astype(float)
    factor = 1 + 0.4 * generator(2).uniform(-1, 1)
    mean = (image @ [0.299, 0.587, 0.114]).mean()
    assert np.abs(changed - np.clip(mean + factor * (image - mean), 0, 255)).max() <= 1
    # A blur keeps the mean and takes away detail.
    soft = blur(np.tile(image, (12, 8, 1)), generator(3))
    assert abs(soft.mean() - image.mean()) < 2
    assert soft.std() < image.std()
