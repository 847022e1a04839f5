"""The two predictions that are made of every proposal and, after every decoder layer, of every query."""

import math

from torch import nn
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrMLPPredictionHead

# A fresh detector gives every class a score of 0.01, so that the many queries that find nothing do not drown the few
# others.
PRIOR_LOGIT = math.log(0.01 / 0.99)


class PredictionHeads(nn.Module):
    """A class head and a box head.

    Args:
        width: Width of a query.
        num_labels: Number of classes.

    Attributes:
        classes: To class logits (..., C).
        boxes: To the change (..., 4) of a box before the sigmoid.
    """

    def __init__(self, width: int, num_labels: int):
        super().__init__()
        self.classes = nn.Linear(width, num_labels)
        self.boxes = DeformableDetrMLPPredictionHead(width, width, 4, 3)
