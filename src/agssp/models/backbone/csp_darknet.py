"""YOLOv8's own backbone: layers 0 to 9 of the ultralytics graph (SPPF included), with timm's feature interface."""

from collections.abc import Sequence

import torch
from torch import nn

from agssp.models.ultralytics import import_ultralytics

VARIANTS = ("yolov8n", "yolov8s")
FEATURE_LAYERS = (0, 2, 4, 6, 9)
"""Layers whose outputs are the features at strides 2, 4, 8, 16 and 32."""


class CSPDarknet(nn.Module):
    """The backbone part of a YOLOv8 detector.

    Its parameters carry the names they have in ultralytics' checkpoints (`model.0.conv.weight` to `model.9...`).

    Args:
        variant: `yolov8n` or `yolov8s`.
    """

    def __init__(self, variant: str):
        super().__init__()
        import_ultralytics()
        from ultralytics.nn.tasks import parse_model, yaml_model_load
        from ultralytics.utils.torch_utils import initialize_weights

        graph = yaml_model_load(f"{variant}.yaml")
        graph["head"] = []
        self.model, _ = parse_model(graph, ch=3, verbose=False)
        initialize_weights(self)  # sets the epsilon and momentum of the batch norms, not only weights

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: Sequence[int] | None = None,
        *,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = True,
    ) -> list[torch.Tensor]:
        """Compute the chosen features, as timm's networks do.

        Args:
            x: (B, 3, H, W) RGB in 0..1, H and W multiples of 32.
            indices: positions in `FEATURE_LAYERS`, ascending; None for all.
            stop_early: leave out the layers after the last chosen feature.
            output_fmt: features come as NCHW only.
            intermediates_only: only features are returned.

        Returns:
            One (B, C, H / stride, W / stride) tensor an index.
        """
        wanted = FEATURE_LAYERS if indices is None else [FEATURE_LAYERS[index] for index in indices]
        last = wanted[-1] if stop_early else FEATURE_LAYERS[-1]
        features = []
        for number, layer in enumerate(self.model[: last + 1]):
            x = layer(x)
            if number in wanted:
                features.append(x)
        return features
