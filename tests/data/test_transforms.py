import colorsys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from agssp.data.transforms import PretrainingTransform, jitter_hsv, normalise, resize_antialiased, sample_map

PLAIN = {"image_mean": (0, 0, 0), "image_std": (1, 1, 1)}


def smooth_map(grid=16, seed=0):
    values = np.random.default_rng(seed).random((grid, grid)).astype(np.float32)
    return cv2.GaussianBlur(values, (5, 5), 0)


def image_of(anomaly_map, size=(256, 256)):
    """A grey picture that shows the map, so that what happens to one can be compared with the other."""
    stretched = cv2.resize(anomaly_map, size[::-1], interpolation=cv2.INTER_LINEAR)
    return Image.fromarray((stretched * 255).astype(np.uint8)).convert("RGB")


def test_normalise_is_the_formula():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(
        std
    )[:, None, None]
    torch.testing.assert_close(normalise(pixels, mean, std), expected)


def test_whole_map_on_its_own_grid_is_unchanged():
    anomaly_map = smooth_map()
    torch.testing.assert_close(sample_map(anomaly_map, (0, 0, 1, 1), 16), torch.from_numpy(anomaly_map))
    torch.testing.assert_close(
        sample_map(anomaly_map, (0, 0, 1, 1), 16, flip=True), torch.from_numpy(anomaly_map[:, ::-1].copy())
    )


def test_half_of_the_map_is_its_quarter_enlarged():
    anomaly_map = smooth_map()
    expected = F.resize_image(
        torch.from_numpy(cv2.resize(anomaly_map, (512, 512)))[None, :256, 256:], [32, 32], antialias=True
    )
    found = sample_map(anomaly_map, (0.5, 0, 1, 0.5), 32)
    assert (found - expected[0]).abs().max() < 0.02


def test_shrinking_averages():
    checker = np.indices((16, 16)).sum(0) % 2
    assert (sample_map(checker.astype(np.float32), (0, 0, 1, 1), 4) - 0.5).abs().max() < 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_map_follows_image_through_crop_and_flips(seed):
    anomaly_map = smooth_map(seed=seed)
    transform = PretrainingTransform(64, map_size=64, hsv=(0, 0, 0), vertical_flip=0.5, **PLAIN)
    item = transform(image_of(anomaly_map), anomaly_map, np.random.default_rng(seed))
    assert item["pixel_values"].shape == (3, 64, 64)
    assert (item["pixel_values"][0] - item["anomaly_maps"]).abs().mean() < 0.01
    unrelated = item["anomaly_maps"].flip(1)
    assert (item["pixel_values"][0] - unrelated).abs().mean() > 0.03


def test_same_generator_same_item_and_other_generator_another():
    transform = PretrainingTransform(32, map_size=8, **PLAIN)
    image, anomaly_map = image_of(smooth_map()), smooth_map()
    first, again, other = (transform(image, anomaly_map, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["pixel_values"], other["pixel_values"])


def test_evaluation_and_images_without_a_map():
    transform = PretrainingTransform(32, map_size=8, **PLAIN)
    assert set(transform(image_of(smooth_map()), None, np.random.default_rng(0))) == {"pixel_values"}
    item = transform.evaluation(image_of(smooth_map(), (60, 90)), smooth_map())
    assert item["pixel_values"].shape == (3, 32, 32)
    assert item["anomaly_maps"].shape == (8, 8)


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3)])
def test_odd_shapes(size):
    transform = PretrainingTransform(32, map_size=8, **PLAIN)
    item = transform(Image.new("RGB", size), smooth_map(), np.random.default_rng(0))
    assert item["pixel_values"].shape == (3, 32, 32)
    assert torch.isfinite(item["anomaly_maps"]).all()


def test_grey_stays_grey_and_gains_of_zero_change_nothing():
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, 2)
    moved = jitter_hsv(grey, (0.015, 0.7, 0.4), np.random.default_rng(0))
    assert (moved == moved[..., :1]).all()
    colours = np.random.default_rng(1).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    assert (jitter_hsv(colours, (0, 0, 0), np.random.default_rng(0)) == colours).all()


@pytest.mark.parametrize("seed", range(6))
def test_equals_torchvisions_resized_crop(seed):
    """The fast path against the textbook: the map enlarged to the image's size, then both cropped and resized by v2."""
    anomaly_map = smooth_map(seed=seed)
    pixels = cv2.resize(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8), (400, 300))
    transform = PretrainingTransform(64, map_size=32, hsv=(0, 0, 0), flip=0, **PLAIN)
    item = transform(Image.fromarray(pixels), anomaly_map, np.random.default_rng(seed))

    top, left, height, width = transform._crop(300, 400, np.random.default_rng(seed))
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    expected = F.resized_crop_image(image, top, left, height, width, [64, 64], antialias=True) / 255
    assert (item["pixel_values"] - expected).abs().max() <= 1.001 / 255
    whole = F.resize_image(torch.from_numpy(anomaly_map)[None], [300, 400])
    expected_map = F.resized_crop_image(whole, top, left, height, width, [32, 32], antialias=True)[0]
    assert (item["anomaly_maps"] - expected_map).abs().max() < 0.03


def test_hsv_is_what_the_formula_gives():
    class Fixed:
        def uniform(self, low, high, count):
            return np.array([0.5, -0.4, 0.6])

    pixels = np.random.default_rng(3).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    found = jitter_hsv(pixels, (0.1, 0.5, 0.5), Fixed())
    for colour, result in zip(pixels.reshape(-1, 3) / 255, found.reshape(-1, 3) / 255, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected = colorsys.hsv_to_rgb((hue + 0.05) % 1, saturation * 0.8, min(value * 1.3, 1))
        # Hue in 256 steps, and saturation and value in bytes, round by a few of 255.
        assert result == pytest.approx(expected, abs=0.035)


@pytest.mark.parametrize("size", [(20, 30), (200, 90), (64, 64)])
def test_resize_equals_torchvision(size):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    expected = F.resize_image(torch.from_numpy(pixels).permute(2, 0, 1), list(size), antialias=True)
    assert np.abs(resize_antialiased(pixels, size) - expected.permute(1, 2, 0).numpy().astype(int)).max() <= 1
