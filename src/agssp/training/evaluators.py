"""What training measures on held-out images: COCO precision of a detector, map alignment of a backbone."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.data import DataLoader, Subset

from agssp.metrics.detection import DetectionMetrics


def detection_evaluator(
    images: Any, class_names: Sequence[str], collate: Any, *, batch_size: int, workers: int = 0
) -> Any:
    """A function that measures a detector on held-out images, split over all processes.

    Args:
        images: data set whose items have `pixel_values`, `image_index` and `orig_size`, and which gives
            `targets(index)`: boxes (n, 4) xyxy px on the original image and labels (n,).
        class_names: in label order.
        collate: of its items.
        batch_size: images a forward pass.
        workers: processes that load images.

    Returns:
        model -> `map_50`, `map_50_95` in 0..1 (0 where nothing is labelled) and `loss` is not computed.
    """

    @torch.no_grad()
    def measure(model: Any) -> dict[str, float]:
        state = PartialState()
        metrics = DetectionMetrics(class_names)
        share = range(state.process_index, len(images), state.num_processes)
        loader = DataLoader(Subset(images, share), batch_size=batch_size, num_workers=workers, collate_fn=collate)
        for batch in loader:
            outputs = model(pixel_values=batch["pixel_values"].to(model.device))
            found = model.post_process_object_detection(
                outputs, threshold=0.001, target_sizes=batch["orig_size"], multi_label=True
            )
            for index, result in zip(batch["image_index"].tolist(), found, strict=True):
                boxes, scores, labels = (result[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
                metrics.update(index, boxes, scores, labels, *images.targets(index))
        if state.num_processes > 1:
            states: list[Any] = [None] * state.num_processes
            torch.distributed.all_gather_object(states, metrics.state())
            for other in states:
                metrics.merge(other)
        result = metrics.compute()
        return {name: float(result[name] or 0.0) for name in ("map_50", "map_50_95")}

    return measure


def alignment_evaluator(images: Any, collate: Any, *, batch_size: int, workers: int = 0) -> Any:
    """A function that measures how a backbone's attention agrees with the anomaly maps of held-out images.

    Args:
        images: data set with `pixel_values`, `labels` and, for the alignment, `anomaly_maps`.
        collate: of its items.
        batch_size: images a forward pass.
        workers: processes that load images.

    Returns:
        model -> `alignment` (mean correlation, -1..1; a constant map scores 0), `accuracy` of the categories, and
        `feature_rank` (effective rank of the pooled features; near 1 means collapse), those that apply.
    """

    @torch.no_grad()
    def measure(model: Any) -> dict[str, float]:
        state = PartialState()
        share = range(state.process_index, len(images), state.num_processes)
        loader = DataLoader(Subset(images, share), batch_size=batch_size, num_workers=workers, collate_fn=collate)
        sums = torch.zeros(4, dtype=torch.float64, device=model.device)
        pooled = []
        for batch in loader:
            inputs = {key: value.to(model.device) for key, value in batch.items()}
            outputs = model(**inputs)
            if outputs.alignment is not None:
                finite = outputs.alignment[outputs.alignment.isfinite()].double()
                sums[0] += finite.sum()
                sums[1] += len(finite)
            if outputs.logits is not None:
                sums[2] += (outputs.logits.argmax(1) == inputs["labels"]).sum()
                sums[3] += len(inputs["labels"])
            pooled.append(outputs.pooled_features.float().cpu())
        if state.num_processes > 1:
            torch.distributed.all_reduce(sums)
            parts: list[Any] = [None] * state.num_processes
            torch.distributed.all_gather_object(parts, pooled)
            pooled = [feature for part in parts for feature in part]
        measured = {"feature_rank": effective_rank(torch.cat(pooled))} if pooled else {}
        if sums[1] > 0:
            measured["alignment"] = float(sums[0] / sums[1])
        if sums[3] > 0:
            measured["accuracy"] = float(sums[2] / sums[3])
        return measured

    return measure


def effective_rank(features: torch.Tensor) -> float:
    """exp of the entropy of the normalised singular values of centred features (n, d); 1 where all are alike."""
    values = torch.linalg.svdvals((features - features.mean(0)).double())
    total = values.sum()
    if total <= 0:
        return 1.0
    share = values / total
    return float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))
