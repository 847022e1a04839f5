"""Distilling anomaly maps into attention maps: Eq. 6 and 7 of the paper, and how well the two agree."""

import torch
import torch.nn.functional as F
from torch import Tensor

from agssp.errors import InputError

DISTILL_LOSSES = ("l2", "cosine", "l2_raw")
MAP_TARGETS = ("raw", "centered", "minmax")
_TINY = 1e-12


def attention_map(feature_map: Tensor) -> Tensor:
    """Eq. 6: A(i, j) = sum over channels of F(ch, i, j)^2.

    Args:
        feature_map: (B, C, H, W), any float dtype.

    Returns:
        (B, H, W) float32, not negative.
    """
    return feature_map.float().square().sum(dim=1)


def resize_map(anomaly_map: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps to a layer's grid: bilinear, averaging over the covered area when shrinking.

    Args:
        anomaly_map: (B, h, w), any float dtype.
        size: (H, W).

    Returns:
        (B, H, W) float32.
    """
    maps = anomaly_map.float().unsqueeze(1)
    if maps.shape[-2:] == torch.Size(size):
        return maps.squeeze(1)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=True).squeeze(1)


def distillation_loss(attention: Tensor, anomaly_map: Tensor, loss: str = "l2", map_target: str = "raw") -> Tensor:
    """Eq. 7 for one layer, averaged over the images that have a target.

    With a = vec(A) and m = vec(M resized to A's grid):
    `l2` is |a/|a| - m/|m||^2, `cosine` is 1 - cos(a, m) (half of `l2`), `l2_raw` is |a - m|^2.
    `map_target` prepares the map: `raw` leaves it; `centered` takes the mean off both a and m, so that only the shape
    counts; `minmax` stretches m to 0..1.

    An image has no target if its map holds NaN or infinity, or if nothing is left of a constant map (`centered`,
    `minmax`); it adds nothing to the loss and to the number of images.

    Args:
        attention: (B, H, W), as from `attention_map`.
        anomaly_map: (B, h, w), the original map on its own grid.
        loss: one of `DISTILL_LOSSES`.
        map_target: one of `MAP_TARGETS`.

    Returns:
        Scalar float32, 0 or more; 0 without any target.

    Raises:
        InputError: unknown `loss` or `map_target`.
    """
    if loss not in DISTILL_LOSSES:
        raise InputError(f"distill_loss must be one of {', '.join(DISTILL_LOSSES)}, got {loss!r}")
    if map_target not in MAP_TARGETS:
        raise InputError(f"map_target must be one of {', '.join(MAP_TARGETS)}, got {map_target!r}")
    a = attention.float().flatten(1)
    m = resize_map(anomaly_map, (attention.shape[-2], attention.shape[-1])).flatten(1)
    usable = m.isfinite().all(dim=1)
    m = torch.where(usable.unsqueeze(1), m, 0.0)
    flat = is_constant(m)
    if map_target == "centered":
        usable = usable & ~flat
        a, m = a - a.mean(dim=1, keepdim=True), m - m.mean(dim=1, keepdim=True)
    elif map_target == "minmax":
        usable = usable & ~flat
        lowest, highest = m.aminmax(dim=1, keepdim=True)
        m = (m - lowest) / (highest - lowest).clamp_min(_TINY)
    if loss == "l2_raw":
        values = (a - m).square().sum(dim=1)
    else:
        a, m = F.normalize(a, dim=1, eps=_TINY), F.normalize(m, dim=1, eps=_TINY)
        values = (a - m).square().sum(dim=1) if loss == "l2" else 1 - (a * m).sum(dim=1)
    return torch.where(usable, values, 0.0).sum() / usable.sum().clamp_min(1)


def map_alignment(attention: Tensor, anomaly_map: Tensor) -> Tensor:
    """Pearson correlation of attention and anomaly map on the layer's grid: the health signal of AGBP.

    Args:
        attention: (B, H, W), as from `attention_map`.
        anomaly_map: (B, h, w), the original map on its own grid.

    Returns:
        (B,) float32 in -1..1; 0 where either side is constant or not finite.
    """
    a = attention.float().flatten(1)
    m = resize_map(anomaly_map, (attention.shape[-2], attention.shape[-1])).flatten(1)
    usable = (a.isfinite() & m.isfinite()).all(dim=1)
    a, m = torch.where(usable.unsqueeze(1), a, 0.0), torch.where(usable.unsqueeze(1), m, 0.0)
    usable = usable & ~is_constant(a) & ~is_constant(m)
    a, m = a - a.mean(dim=1, keepdim=True), m - m.mean(dim=1, keepdim=True)
    correlation = (F.normalize(a, dim=1, eps=_TINY) * F.normalize(m, dim=1, eps=_TINY)).sum(dim=1)
    return torch.where(usable, correlation, 0.0)


def is_constant(values: Tensor) -> Tensor:
    """Which rows vary by no more than float32 rounding of their size.

    Args:
        values: (B, N) float32, finite.

    Returns:
        (B,) bool.
    """
    lowest, highest = values.aminmax(dim=1)
    return highest - lowest <= 1e-6 * torch.maximum(lowest.abs(), highest.abs())
