"""Eq. 6 and 7 against numbers worked out by hand, naive loops and other libraries."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from agssp.errors import InputError
from agssp.models.pretraining.distillation import attention_map, distillation_loss, map_alignment, resize_map

# vec(a) = (3, 4, 0, 0), of length 5; vec(m) = (0, 4, 3, 0), of length 5; their cosine is 16 / 25.
ATTENTION = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
MAP = torch.tensor([[[0.0, 4.0], [3.0, 0.0]]])


def random_maps(batch: int = 5, side: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, side, side, generator=generator), torch.rand(batch, side, side, generator=generator)


def test_attention_map_by_hand():
    feature_map = torch.tensor([[[[1.0, -2.0]], [[3.0, 0.5]]]])
    assert attention_map(feature_map).tolist() == [[[10.0, 4.25]]]


def test_attention_map_equals_loops_and_is_float32():
    feature_map = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    attention = attention_map(feature_map)
    assert attention.dtype == torch.float32
    for b, i, j in np.ndindex(2, 4, 5):
        expected = sum(float(feature_map[b, channel, i, j]) ** 2 for channel in range(3))
        assert attention[b, i, j].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "map_target", "expected"),
    [
        ("l2", "raw", 2 * (1 - 16 / 25)),
        ("cosine", "raw", 1 - 16 / 25),
        ("l2_raw", "raw", 9 + 0 + 9 + 0),
        # m / 4 = (0, 1, 3/4, 0): the direction is the same, the size is not
        ("l2", "minmax", 2 * (1 - 16 / 25)),
        ("l2_raw", "minmax", 9 + 9 + 9 / 16 + 0),
        # both means are 7/4: a - 7/4 = (5, 9, -7, -7) / 4, m - 7/4 = (-7, 9, 5, -7) / 4
        ("cosine", "centered", 1 - (-35 + 81 - 35 + 49) / (25 + 81 + 49 + 49)),
        ("l2_raw", "centered", 18),
    ],
)
def test_loss_by_hand(loss, map_target, expected):
    assert distillation_loss(ATTENTION, MAP, loss, map_target).item() == pytest.approx(expected, rel=1e-6)


def test_loss_is_the_mean_over_images():
    attention, maps = random_maps()
    for loss in ("l2", "cosine", "l2_raw"):
        values = []
        for a, m in zip(attention.numpy().astype(float), maps.numpy().astype(float), strict=True):
            a, m = a.ravel(), m.ravel()
            if loss != "l2_raw":
                a, m = a / math.sqrt(sum(a * a)), m / math.sqrt(sum(m * m))
            values.append(1 - sum(a * m) if loss == "cosine" else sum((a - m) ** 2))
        assert distillation_loss(attention, maps, loss).item() == pytest.approx(np.mean(values), rel=1e-5)


def test_perfect_attention_has_no_loss():
    _, maps = random_maps()
    for loss in ("l2", "cosine"):
        for scale in (1e-3, 1.0, 1e3):
            assert distillation_loss(scale * maps, maps, loss).item() == pytest.approx(0, abs=1e-6)
        assert distillation_loss(3 * maps + 7, maps, loss, "centered").item() == pytest.approx(0, abs=1e-5)
    assert distillation_loss(maps, maps, "l2_raw").item() == 0


@pytest.mark.parametrize("side", [7, 14, 28])
def test_map_is_resized_once_with_antialiasing(side):
    """PIL's resize averages over the covered area in the same way."""
    maps = torch.rand(1, 27, 27, generator=torch.Generator().manual_seed(0))
    expected = np.asarray(Image.fromarray(maps[0].numpy()).resize((side, side), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(resize_map(maps, (side, side))[0].numpy(), expected, atol=1e-5)
    attention = torch.from_numpy(expected.copy())[None]
    assert distillation_loss(attention, maps, "l2_raw").item() == pytest.approx(0, abs=1e-6)


def test_half_precision_maps_are_taken():
    attention, maps = random_maps()
    assert distillation_loss(attention, maps.half()).item() == pytest.approx(
        distillation_loss(attention, maps.half().float()).item()
    )


@pytest.mark.parametrize("map_target", ["raw", "centered", "minmax"])
@pytest.mark.parametrize("loss", ["l2", "cosine", "l2_raw"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_images_with_broken_maps_count_for_nothing(loss, map_target, bad):
    attention, maps = random_maps(3)
    attention.requires_grad_(True)
    broken = maps.clone()
    broken[1, 0, 0] = bad
    value = distillation_loss(attention, broken, loss, map_target)
    value.backward()
    kept = [0, 2]
    torch.testing.assert_close(value, distillation_loss(attention[kept], maps[kept], loss, map_target))
    assert attention.grad.isfinite().all()
    assert attention.grad[1].abs().sum() == 0
    assert attention.grad[0].abs().sum() > 0


@pytest.mark.parametrize("map_target", ["centered", "minmax"])
def test_constant_maps_have_no_shape_to_distil(map_target):
    attention, maps = random_maps(2)
    attention.requires_grad_(True)
    maps[0] = 0.3
    value = distillation_loss(attention, maps, "l2", map_target)
    torch.testing.assert_close(value, distillation_loss(attention[1:], maps[1:], "l2", map_target))
    value.backward()
    assert attention.grad.isfinite().all()


def test_constant_raw_map_asks_for_flat_attention():
    assert distillation_loss(torch.full((1, 4, 4), 2.0), torch.full((1, 4, 4), 0.3)).item() == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("loss", ["l2", "cosine", "l2_raw"])
def test_nothing_to_distil_gives_zero_and_finite_gradients(loss):
    attention = torch.rand(2, 4, 4, requires_grad=True)
    value = distillation_loss(attention, torch.full((2, 3, 3), float("nan")), loss)
    value.backward()
    assert value.item() == 0
    assert attention.grad.abs().sum() == 0


def test_dead_features_have_finite_gradients():
    feature_map = torch.zeros(1, 3, 4, 4, requires_grad=True)
    distillation_loss(attention_map(feature_map), random_maps(1, 4)[1]).backward()
    assert feature_map.grad.isfinite().all()


def test_unknown_options_are_refused():
    attention, maps = random_maps()
    with pytest.raises(InputError, match="distill_loss must be one of l2, cosine, l2_raw, got 'l1'"):
        distillation_loss(attention, maps, "l1")
    with pytest.raises(InputError, match="map_target must be one of raw, centered, minmax"):
        distillation_loss(attention, maps, map_target="log")


def test_alignment_equals_numpy_correlation():
    attention, maps = random_maps()
    expected = [np.corrcoef(a.ravel(), m.ravel())[0, 1] for a, m in zip(attention.numpy(), maps.numpy(), strict=True)]
    np.testing.assert_allclose(map_alignment(attention, maps).numpy(), expected, atol=1e-5)
    torch.testing.assert_close(map_alignment(maps, 5 + 3 * maps), torch.ones(5))
    torch.testing.assert_close(map_alignment(maps, -maps), -torch.ones(5))


def test_alignment_of_constant_or_broken_maps_is_zero():
    attention, maps = random_maps(3)
    maps[0], maps[1, 0, 0], attention[2] = 1.3, float("nan"), 0
    assert map_alignment(attention, maps).tolist() == [0, 0, 0]
