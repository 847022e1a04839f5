"""A YOLO's own backbone: the first part of its graph, with timm's feature interface."""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import nn

from agssp.models.ultralytics import import_ultralytics
from agssp.models.yolo_graphs import VARIANTS, build_layers, feature_layers, read_graph

__all__ = ["VARIANTS", "CSPDarknet"]


class CSPDarknet(nn.Module):
    """The backbone part of a YOLO detector: for YOLOv8 layers 0 to 9, SPPF included.

    Its parameters carry the names they have in ultralytics' checkpoints (`model.0.conv.weight`, `model.1...`).

    Args:
        variant: one of `VARIANTS`.

    Attributes:
        feature_layers: numbers of the layers whose outputs are the features at strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, variant: str):
        super().__init__()
        import_ultralytics()
        from ultralytics.utils.torch_utils import initialize_weights

        graph = read_graph(variant) | {"head": []}
        self.feature_layers = feature_layers(graph)
        self.model = build_layers(graph)
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
            indices: positions in `feature_layers`, ascending; None for all.
            stop_early: leave out the layers after the last chosen feature.
            output_fmt: features come as NCHW only.
            intermediates_only: only features are returned.

        Returns:
            One (B, C, H / stride, W / stride) tensor an index.
        """
        wanted = self.feature_layers if indices is None else [self.feature_layers[index] for index in indices]
        last = wanted[-1] if stop_early else self.feature_layers[-1]
        features = []
        # A slice would be a new module each time.
        for number, layer in enumerate(islice(self.model, last + 1)):
            x = layer(x)
            if number in wanted:
                features.append(x)
        return features
