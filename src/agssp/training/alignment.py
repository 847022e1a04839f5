"""What training measures of a backbone on held-out images: agreement with the anomaly maps, and its task beside."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from agssp.models.pretraining.distillation import distillation_loss, is_constant, map_alignment, resize_map


class AlignmentEvaluator:
    """Measures how a backbone's attention agrees with the anomaly maps of held-out images, and what it can do beside.

    The images are split over all processes; each of them gets the same numbers.

    Args:
        images: data set with `pixel_values`, `labels` and, for what concerns the maps, `anomaly_maps`.
        collate: of its items.
        batch_size: images a forward pass.
        workers: processes that load images.

    Attributes:
        levels: what attention that is the same for all images scores on these maps, from the first measurement on; see
            `fixed_attention_levels`. Empty without maps.
    """

    def __init__(self, images: Any, collate: Any, *, batch_size: int, workers: int = 0) -> None:
        self.images, self.collate, self.batch_size, self.workers = images, collate, batch_size, workers
        self.levels: dict[str, dict[str, float]] | None = None

    @torch.no_grad()
    def __call__(self, model: Any) -> dict[str, float]:
        """Measure a pretraining model in eval mode.

        Returns:
            Those that apply, means over the images that have them: `alignment` (correlation of attention and map,
            -1..1; 0 for constant attention), `alignment_elsewhere` (the same with the maps of the other images: what
            the attention owes to places where it always looks), `accuracy` of the categories, `task_loss`,
            `distillation_loss` (Eq. 7, summed over the layers, as in training); and `feature_rank` (effective rank of
            the pooled features; near 1 means collapse).
        """
        state = PartialState()
        share = range(state.process_index, len(self.images), state.num_processes)
        loader = DataLoader(
            Subset(self.images, share), batch_size=self.batch_size, num_workers=self.workers, collate_fn=self.collate
        )
        seen = _Seen()
        for batch in loader:
            inputs = {key: value.to(model.device) for key, value in batch.items()}
            seen.add(model.config, inputs, model(**inputs), keep_maps=self.levels is None)
        if state.num_processes > 1:
            parts: list[Any] = [None] * state.num_processes
            torch.distributed.all_gather_object(parts, seen)
            seen = _Seen()
            for part in parts:
                seen.merge(part)
        if self.levels is None:
            config = model.config
            grids = [(int(places.shape[0]), int(places.shape[1])) for places in seen.attention]
            self.levels = (
                fixed_attention_levels(torch.cat(seen.maps), grids, config.distill_loss, config.map_target)
                if seen.maps
                else {}
            )
        return seen.measures()


@dataclass
class _Seen:
    """What is gathered over batches and processes: sums over images, and what cannot be summed."""

    # (measure, part of it) -> sum over images, number of images.
    sums: defaultdict[tuple[str, int], tuple[float, int]] = field(default_factory=lambda: defaultdict(_nothing))
    # For each layer (H, W) float64: the standardised attention, and the standardised maps, of all images added up.
    attention: list[Tensor] = field(default_factory=list)
    heat: list[Tensor] = field(default_factory=list)
    pooled: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)

    def add(self, config: Any, inputs: dict[str, Tensor], outputs: Any, *, keep_maps: bool) -> None:
        count = len(inputs["pixel_values"])
        self.pooled.append(outputs.pooled_features.float().cpu())
        if outputs.logits is not None and "labels" in inputs:
            self._add("accuracy", 0, (outputs.logits.argmax(1) == inputs["labels"]).sum(), count)
        if outputs.loss_dict and "task" in outputs.loss_dict:
            self._add("task_loss", 0, outputs.loss_dict["task"] * count, count)
        if outputs.attention_maps is None or "anomaly_maps" not in inputs:
            return
        if keep_maps:
            self.maps.append(inputs["anomaly_maps"].float().cpu())
        self._add("alignment", 0, outputs.alignment.double().sum(), count)
        pairs = []
        for layer, attention in enumerate(outputs.attention_maps):
            maps = resize_map(inputs["anomaly_maps"], (attention.shape[1], attention.shape[2]))
            # A map may have a target on the grid of one layer and not of another.
            usable = int(has_target(maps, config.map_target).sum())
            loss = distillation_loss(attention, maps, config.distill_loss, config.map_target)
            self._add("distillation_loss", layer, loss * usable, usable)
            pairs.append([standardised(values).sum(0, dtype=torch.float64).cpu() for values in (attention, maps)])
        self._add_pairs([first for first, _ in pairs], [second for _, second in pairs])

    def merge(self, other: "_Seen") -> None:
        for (name, part), (total, count) in other.sums.items():
            self._add(name, part, total, count)
        self._add_pairs(other.attention, other.heat)
        self.pooled += other.pooled
        self.maps += other.maps

    def measures(self) -> dict[str, float]:
        measured = {"feature_rank": effective_rank(torch.cat(self.pooled))} if self.pooled else {}
        for (name, _), (total, count) in self.sums.items():
            if count:
                measured[name] = measured.get(name, 0.0) + total / count
        own, count = self.sums["alignment", 0]
        if count > 1:
            # All pairs of an attention and a map, less those of the same image.
            products = [(a * m).sum() for a, m in zip(self.attention, self.heat, strict=True)]
            pairs = float(torch.stack(products).mean())
            measured["alignment_elsewhere"] = (pairs - own) / (count * (count - 1))
        return measured

    def _add(self, name: str, part: int, total: Any, count: int) -> None:
        before = self.sums[name, part]
        self.sums[name, part] = before[0] + float(total), before[1] + count

    def _add_pairs(self, attention: list[Tensor], heat: list[Tensor]) -> None:
        if not attention:  # a process that got no image
            return
        self.attention = (
            [a + b for a, b in zip(self.attention, attention, strict=True)] if self.attention else attention
        )
        self.heat = [a + b for a, b in zip(self.heat, heat, strict=True)] if self.heat else heat


def _nothing() -> tuple[float, int]:
    return 0.0, 0


def standardised(values: Tensor) -> Tensor:
    """Maps without their mean and at unit length, so that the product of two is their correlation.

    Args:
        values: (B, H, W) float.

    Returns:
        (B, H, W) float32; 0 where a map is constant or not finite.
    """
    flat = values.float().flatten(1)
    usable = flat.isfinite().all(dim=1, keepdim=True)
    flat = torch.where(usable, flat, 0.0)
    usable = usable & ~is_constant(flat).unsqueeze(1)
    flat = F.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1)
    return torch.where(usable, flat, 0.0).view_as(values)


def has_target(anomaly_maps: Tensor, map_target: str) -> Tensor:
    """Which images `distillation_loss` counts.

    Args:
        anomaly_maps: (B, H, W) float, resized to the layer's grid.
        map_target: as there.

    Returns:
        (B,) bool.
    """
    values = anomaly_maps.flatten(1)
    finite = values.isfinite().all(dim=1)
    return finite if map_target == "raw" else finite & ~is_constant(torch.where(finite.unsqueeze(1), values, 0.0))


def fixed_attention_levels(
    anomaly_maps: Tensor, grids: Sequence[tuple[int, int]], distill_loss: str, map_target: str
) -> dict[str, dict[str, float]]:
    """What attention that is the same for all images scores against their anomaly maps.

    Args:
        anomaly_maps: (n, h, w) float; a map with NaN or infinity counts as absent.
        grids: (H, W) of each distilled layer.
        distill_loss: of Eq. 7, see `distillation_loss`.
        map_target: see `distillation_loss`.

    Returns:
        `constant_map`: `alignment`, which is 0, and `distillation_loss`, summed over the layers (not for `l2_raw`,
        where it would depend on the constant). `mean_map`: `alignment` of each map with the mean of all others, which
        is what knowing the usual places alone is worth, such as a border that is hot in every image; not for fewer than
        two maps.
    """
    levels = {"constant_map": {"alignment": 0.0}}
    if distill_loss != "l2_raw":
        flat = [torch.ones(len(anomaly_maps), *grid) for grid in grids]
        losses = [distillation_loss(attention, anomaly_maps, distill_loss, map_target) for attention in flat]
        levels["constant_map"]["distillation_loss"] = float(sum(losses))
    present = anomaly_maps.flatten(1).isfinite().all(dim=1)
    if present.sum() > 1:
        known = torch.where(present[:, None, None], anomaly_maps.float(), 0.0)
        # Its own map is left out: among few images it would make up much of the mean.
        others = (known.sum(0, dtype=torch.float64) - known) / (present.sum() - present.long())[:, None, None]
        by_layer = [map_alignment(resize_map(others, grid), anomaly_maps) for grid in grids]
        levels["mean_map"] = {"alignment": float(torch.stack(by_layer).double().mean())}
    return levels


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the normalised singular values of centred features (n, d).

    1 where all are alike; NaN where one is not finite.
    """
    if not features.isfinite().all():
        return math.nan
    values = torch.linalg.svdvals((features - features.mean(0)).double())
    total = values.sum()
    if total <= 0:
        return 1.0
    share = values / total
    return float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))
