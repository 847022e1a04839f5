"""Mixed query selection: the encoder's best proposals say where to look first; what to look for is learned."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .configuration_dino import DinoConfig
from .encoder import Tokens
from .heads import PredictionHeads

# Side of a cell's anchor box in the finest scale, relative to the input; it doubles from scale to scale.
FINEST_ANCHOR = 0.05


class SelectedQueries(NamedTuple):
    """The decoder's queries, and the proposals that they come from. K is their number.

    Attributes:
        content: (B, K, d) learned, the same for every image.
        logits: (B, K, C) class logits of the proposals.
        box_logits: float32 (B, K, 4) boxes of the proposals before the sigmoid.
    """

    content: Tensor
    logits: Tensor
    box_logits: Tensor


class MixedQuerySelection(nn.Module):
    """Heads of its own on every token; the K tokens of the highest class score are proposals.

    Args:
        config: The detector's configuration.
        num_labels: Number of classes.
    """

    def __init__(self, config: DinoConfig, num_labels: int):
        super().__init__()
        width = config.d_model
        self.projection = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.heads = PredictionHeads(width, num_labels)
        self.content = nn.Embedding(config.num_queries, width)

    def forward(self, tokens: Tokens) -> SelectedQueries:
        """Choose proposals and pair them with the learned content.

        Args:
            tokens: Output of the encoder.
        """
        candidates = self.norm(self.projection(tokens.values))
        logits = self.heads.classes(candidates)
        count = min(self.content.num_embeddings, logits.shape[1])
        chosen = logits.detach().float().amax(2).topk(count, dim=1).indices
        anchors = anchor_logits(tokens.centres, tokens.levels)[chosen]
        # The box head runs on the chosen few only, a tenth of the tokens.
        changes = self.heads.boxes(candidates.gather(1, chosen[..., None].expand(-1, -1, candidates.shape[2])))
        return SelectedQueries(
            # Not `len`, which would tie an exported graph to the batch it was traced with.
            content=self.content.weight[:count].expand(logits.shape[0], -1, -1),
            logits=logits.gather(1, chosen[..., None].expand(-1, -1, logits.shape[2])),
            box_logits=anchors + changes.float(),
        )


def anchor_logits(centres: Tensor, levels: Tensor) -> Tensor:
    """A square box around each cell, before the sigmoid. Cells at the rim have theirs too: defects lie there as well.

    Args:
        centres: float32 (N, 2) x and y in 0..1.
        levels: int64 (N,) scale of each cell.

    Returns:
        float32 (N, 4), logits of centre x, centre y, width, height in 0..1.
    """
    sides = (FINEST_ANCHOR * 2.0**levels).clamp(max=0.95)
    return torch.cat((centres, sides[:, None].expand(-1, 2)), 1).logit()
