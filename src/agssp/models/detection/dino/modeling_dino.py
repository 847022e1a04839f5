"""DINO as a transformers model: any backbone with strides 8, 16, 32, and Deformable DETR's attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrMultiscaleDeformableAttention,
    DeformableDetrPreTrainedModel,
)
from transformers.utils import ModelOutput

from agssp.errors import InputError
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone

from ..detector import Detector
from ..features import check_input
from ..labels import check_labels
from ..transfer import TransferReport, carry_over, class_names, require_same
from .configuration_dino import DinoConfig
from .decoder import DinoDecoder
from .denoising import DenoisingQueries, attention_mask, box_logits, denoising_queries
from .encoder import DinoEncoder
from .heads import PRIOR_LOGIT, PredictionHeads
from .loss import denoising_matches, flat_targets, match, mean_number_of_boxes, set_losses
from .query_selection import MixedQuerySelection, SelectedQueries


@dataclass
class DinoObjectDetectionOutput(ModelOutput):
    """Output of `DinoForObjectDetection`. Q is the number of queries.

    Attributes:
        loss: Scalar, the sum over the batch divided by its number of boxes; None without labels.
        loss_dict: The scalar parts that add up to it, detached and weighted; None without labels. `class`, `bbox` and
            `giou` of all decoder layers, `encoder` for all three of the proposals, `denoising` for all three of the
            denoising queries of all layers (training only, else 0).
        logits: Class logits (B, Q, C), one sigmoid a class.
        pred_boxes: float32 (B, Q, 4), centre x, centre y, width, height in 0..1 of the input.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    pred_boxes: Tensor | None = None


class DinoForObjectDetection(Detector, DeformableDetrPreTrainedModel):
    """DINO (Zhang et al., "DETR with Improved DeNoising Anchor Boxes", arXiv 2203.03605) on an `AgsspBackbone`.

    Attention and feed-forward layers are transformers' of Deformable DETR; the rest is written from the paper:
    contrastive denoising, mixed query selection, look forward twice. Where the paper leaves something open, heads
    belong to one layer each, as in Deformable DETR with refinement; cells at the rim have anchors too; and denoising
    queries that only fill up a group are seen by none, so that an image's loss does not depend on the other images.

    Args:
        config: A `DinoConfig`.

    Raises:
        InputError: the backbone does not give feature maps at strides 8, 16 and 32.
    """

    config_class = DinoConfig
    base_model_prefix = ""
    # The queries' attention needs a mask.
    _supports_flash_attn = False
    _supports_flex_attn = False
    _keys_to_ignore_on_load_unexpected: Any = None

    def __init__(self, config: DinoConfig):
        super().__init__(config)
        self.num_labels = len(config.id2label or ())
        self.backbone = AgsspBackbone(config.backbone_config)
        strides = tuple(self.backbone.strides)
        if strides != (8, 16, 32):
            raise InputError(
                f"backbone {config.backbone_config.architecture} with out_indices={config.backbone_config.out_indices} "
                f"has strides {strides}; DINO takes 8, 16 and 32, so choose the three stages that have them"
            )
        self.encoder = DinoEncoder(config, self.backbone.channels)
        self.query_selection = MixedQuerySelection(config, self.num_labels)
        self.decoder = DinoDecoder(config, self.num_labels)
        self.denoising_embed = nn.Embedding(self.num_labels, config.d_model)
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Sequence[dict[str, Tensor]] | None = None,
        return_dict: bool | None = None,
    ) -> DinoObjectDetectionOutput | tuple:
        """Predict, and compute the loss when labels are given.

        Args:
            pixel_values: (B, 3, H, W), H and W multiples of 32, normalised with the backbone's mean and deviation.
            labels: For each image `class_labels` (n,) int64 and `boxes` (n, 4) as centre x, centre y, width, height
                in 0..1 of the input; n may be 0, such images count as negatives.
            return_dict: False for a tuple without the empty entries.

        Raises:
            InputError: for an input size that 32 does not divide, or labels that do not fit the batch or the classes.
        """
        check_input(pixel_values)
        if labels is not None:
            check_labels(labels, len(pixel_values), self.num_labels)
        tokens = self.encoder(self.backbone(pixel_values).feature_maps)
        selected = self.query_selection(tokens)
        content, starts, mask, noisy = selected.content, selected.box_logits, None, None
        if labels is not None and self.training:
            noisy = denoising_queries(
                labels,
                self.num_labels,
                self.config.num_denoising,
                self.config.label_noise_ratio,
                self.config.box_noise_scale,
                pixel_values.device,
            )
        if noisy is not None:
            mask = attention_mask(noisy, content.shape[1]).to(content.dtype)
            content = torch.cat((self.denoising_embed(noisy.classes), content), 1)
            starts = torch.cat((box_logits(noisy), starts), 1)
        logits, boxes = self.decoder(content, starts, tokens, mask)
        loss = loss_dict = None
        if labels is not None:
            # Matching and the loss need more digits than bfloat16 has.
            with torch.autocast(pixel_values.device.type, enabled=False):
                loss, loss_dict = self._loss(logits.float(), boxes, selected, noisy, labels)
        found = selected.content.shape[1]
        output = DinoObjectDetectionOutput(
            loss=loss, loss_dict=loss_dict, logits=logits[-1, :, -found:], pred_boxes=boxes[-1, :, -found:]
        )
        if return_dict is None:
            return_dict = self.config.return_dict
        return output if return_dict else output.to_tuple()

    def _loss(
        self,
        logits: Tensor,
        boxes: Tensor,
        selected: SelectedQueries,
        noisy: DenoisingQueries | None,
        labels: Sequence[dict[str, Tensor]],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of all layers' predictions, of the proposals and of the denoising queries, and its parts."""
        config, device = self.config, logits.device
        targets = flat_targets(labels, device)
        weights = logits.new_tensor(
            [config.class_loss_coefficient, config.bbox_loss_coefficient, config.giou_loss_coefficient]
        ) / mean_number_of_boxes(len(targets.classes), device)
        layers, _, total, _ = logits.shape
        matching = selected.content.shape[1]
        denoising = total - matching

        # The proposals are matched and judged as one more layer.
        all_logits = torch.cat((logits[:, :, denoising:], selected.logits.float()[None]))
        all_boxes = torch.cat((boxes[:, :, denoising:], selected.box_logits.sigmoid()[None]))
        costs = (config.class_cost, config.bbox_cost, config.giou_cost)
        matches = match(all_logits, all_boxes, targets, costs, config.focal_alpha)
        losses = set_losses(all_logits, all_boxes, targets, matches, config.focal_alpha) * weights
        parts = dict(zip(("class", "bbox", "giou"), losses[:layers].sum(0), strict=True))
        parts["encoder"] = losses[layers:].sum()
        # So that it has a gradient also in steps that do not use it, which distributed training relies on.
        parts["denoising"] = 0 * self.denoising_embed.weight.sum()
        if noisy is not None:
            groups = denoising // (2 * max(targets.counts))
            matches = denoising_matches(noisy, targets.counts, layers)
            losses = set_losses(
                logits[:, :, :denoising], boxes[:, :, :denoising], targets, matches, config.focal_alpha, noisy.real
            )
            parts["denoising"] = parts["denoising"] + (losses * weights).sum() / groups
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}

    def transfer_from(self, donor: "DinoForObjectDetection") -> TransferReport:
        """Take over another DINO's weights: all but the class heads and class embedding where the classes differ.

        Equal numbers of classes with other names count as different classes.

        Args:
            donor: DINO of the same sizes on the same backbone architecture.

        Raises:
            InputError: the backbones or the sizes differ.
        """
        theirs = donor.config.backbone_config.architecture
        require_same("backbone", self.config.backbone_config.architecture, theirs)
        dropped: list[str] = []
        if class_names(self) != class_names(donor):
            nn.init.normal_(self.denoising_embed.weight)
            dropped.append("denoising_embed.weight")
            for name, module in self.named_modules():
                if isinstance(module, PredictionHeads):
                    nn.init.xavier_uniform_(module.classes.weight)
                    nn.init.constant_(module.classes.bias, PRIOR_LOGIT)
                    dropped += [f"{name}.classes.weight", f"{name}.classes.bias"]
        return carry_over(self, donor, "DINO", dropped)

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Initialise as transformers does, and then what it shows to its own models only: modules made of others."""
        super().initialize_weights()
        for module in self.modules():
            if isinstance(module, DeformableDetrMultiscaleDeformableAttention | PredictionHeads):
                self._init_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what no file of weights gave: as DETR's family does, with heads that change no box at first."""
        super()._init_weights(module)
        if isinstance(module, nn.Linear | nn.Conv2d):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, PredictionHeads):
            init.constant_(module.classes.bias, PRIOR_LOGIT)
            last: Any = module.boxes.layers[-1]
            init.zeros_(last.weight)
            init.zeros_(last.bias)
