"""Queries to objects, layer by layer, each refining the boxes of the one before: look forward twice."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrDecoderLayer,
    DeformableDetrMLPPredictionHead,
)

from .configuration_dino import DinoConfig
from .encoder import Tokens, sine_embedding
from .heads import PredictionHeads


class DinoDecoder(nn.Module):
    """Layers of attention among the queries and to the image, with heads for each.

    Args:
        config: The detector's configuration.
        num_labels: Number of classes.
    """

    def __init__(self, config: DinoConfig, num_labels: int):
        super().__init__()
        width, layers = config.d_model, range(config.decoder_layers)
        layer_config: Any = config  # has the fields that the layers read
        self.layers: Any = nn.ModuleList(DeformableDetrDecoderLayer(layer_config) for _ in layers)
        self.position_head = DeformableDetrMLPPredictionHead(2 * width, width, width, 2)
        self.heads: Any = nn.ModuleList(PredictionHeads(width, num_labels) for _ in layers)

    def forward(
        self, content: Tensor, box_logits: Tensor, tokens: Tokens, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode queries.

        A layer starts from the box that the layer before it gave, without its gradient, and changes it. Its own
        prediction is this change on top of the box WITH the gradient of that layer's change, so the loss of a layer
        trains two of them (equations 1 and 2 of the paper). All this happens before the sigmoid.

        Args:
            content: (B, Q, d) what each query looks for.
            box_logits: (B, Q, 4) where it starts, before the sigmoid.
            tokens: Output of the encoder.
            attention_mask: (B or 1, 1, Q, Q), added to the attention of queries (rows) to queries (columns): 0 or
                minus infinity.

        Returns:
            Class logits (layers, B, Q, C) and boxes float32 (layers, B, Q, 4), centre x, centre y, width, height in
            0..1, of every layer.
        """
        start = predecessor = box_logits.detach()
        logits, boxes = [], []
        for layer, heads in zip(self.layers, self.heads, strict=True):
            reference = start.sigmoid()
            embedding = sine_embedding(reference, content.shape[2] // 2).to(content.dtype)
            content = layer(
                content,
                self.position_head(embedding),
                reference[:, :, None].to(content.dtype),
                tokens.shapes,
                tokens.sizes,
                tokens.starts,
                tokens.values,
                None,
                attention_mask=attention_mask,
            )
            change = heads.boxes(content).float()
            logits.append(heads.classes(content))
            boxes.append((predecessor + change).sigmoid())
            predecessor = start + change
            start = predecessor.detach()
        return torch.stack(logits), torch.stack(boxes)
