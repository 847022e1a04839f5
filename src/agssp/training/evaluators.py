"""What training measures of a detector on held-out images: COCO precision."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.data import DataLoader, Subset

from agssp.evaluation.detection_metrics import DetectionMetrics
from agssp.models.detection import any_detector


def detection_evaluator(
    images: Any, class_names: Sequence[str], collate: Any, *, batch_size: int, workers: int = 0
) -> Any:
    """A function that measures a detector on held-out images, split over all processes.

    Args:
        images: data set whose items have `pixel_values`, `image_index` and `orig_size`, and which gives
            `targets(index)`: boxes (n, 4) xyxy px on the original image, labels (n,), and bool (n,), which are
            crowd regions: what is found in these counts neither as right nor as wrong.
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
            found = any_detector.post_process(
                model,
                outputs,
                threshold=0.001,
                target_sizes=batch["orig_size"],
                input_size=batch["pixel_values"].shape[2:],
                multi_label=True,
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
