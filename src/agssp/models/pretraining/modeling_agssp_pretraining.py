"""Backbone pretraining (AGBP): a task and the distillation of anomaly maps, weighed by Eq. 8."""

import contextlib
from dataclasses import dataclass
from os import PathLike
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from agssp.errors import InputError
from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
from agssp.models.loading import checked, opening

from . import mocov3, simmim
from .configuration_agssp_pretraining import AgsspPreTrainingConfig
from .distillation import attention_map, distillation_loss, map_alignment

TARGETS = {"classification": "labels", "mocov3": "second_views", "simmim": "masks"}
"""What `forward` needs for the task loss of each objective."""


@dataclass
class AgsspForPreTrainingOutput(ModelOutput):
    """Output of `AgsspForPreTraining`.

    Attributes:
        loss: scalar; present when everything that it needs was given.
        loss_dict: scalars without gradient: `task`, `distillation` (both before weighing) and `distillation_weight`,
            those that apply.
        logits: (B, num_labels), with the objective `classification`.
        alignment: (B,) correlation of attention and anomaly map, mean over the layers; in eval mode with maps given.
        attention_maps: one (B, H, W) float32 tensor a distilled layer.
        pooled_features: (B, C), the coarsest feature map averaged over its positions; what the classifier reads.
        reconstruction: (B, 3, H, W) normalised pixels, with the objective `simmim` and masks given.
    """

    loss: torch.Tensor | None = None
    loss_dict: dict[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    alignment: torch.Tensor | None = None
    attention_maps: tuple[torch.Tensor, ...] | None = None
    pooled_features: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None


class AgsspForPreTraining(PreTrainedModel):
    """A backbone with the head of a task, trained to look where the anomaly maps are high.

    Args:
        config: backbone, objective and distillation.
        backbone: a ready backbone to pretrain; without it one with random weights is built.

    Attributes:
        backbone: the `AgsspBackbone`.
        distillation_weight: lambda of Eq. 8, a scalar buffer kept in checkpoints: NaN until the first training step,
            which sets it to task loss / distillation loss, both averaged over all processes.
    """

    config: Any  # an AgsspPreTrainingConfig with everything filled in
    backbone: AgsspBackbone
    classifier: nn.Linear
    distillation_weight: torch.Tensor
    config_class = AgsspPreTrainingConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    accepts_loss_kwargs = False
    # Names that begin so are averages themselves; averaging them once more would only cost.
    already_averaged = ("momentum_backbone.", "momentum_projector.")

    def __init__(self, config: AgsspPreTrainingConfig, backbone: AgsspBackbone | None = None):
        super().__init__(config)
        self.backbone = AgsspBackbone(self.config.backbone_config) if backbone is None else backbone
        self.supports_gradient_checkpointing = self.backbone.supports_gradient_checkpointing
        self._build_head()
        self.register_buffer("distillation_weight", torch.tensor(float("nan")))
        # Asking the buffer at each step would make the GPU wait.
        self._weight_is_set = False
        self.post_init()

    def _build_head(self) -> None:
        config, channels = self.config, self.backbone.channels[-1]
        if config.objective == "classification":
            if config.num_labels < 2:
                raise InputError(
                    f"objective 'classification' needs at least two categories, got {config.num_labels}; "
                    "with one category choose another objective"
                )
            self.classifier = nn.Linear(channels, config.num_labels)
        elif config.objective == "mocov3":
            self.projector = mocov3.projector(channels, config.projection_hidden, config.projection_dim)
            self.predictor = mocov3.predictor(config.projection_hidden, config.projection_dim)
            self.momentum_backbone = mocov3.MomentumEncoder(self.backbone)
            self.momentum_projector = mocov3.MomentumEncoder(self.projector)
            # All processes move them alike; DDP would send them around at each step.
            slow = [name for name, _ in self.named_buffers() if name.startswith(self.already_averaged)]
            self._ddp_params_and_buffers_to_ignore = slow
        elif config.objective == "simmim":
            backbone = config.backbone_config
            width = simmim.token_channels(backbone.architecture, backbone.model_args)
            self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=0.02))
            self.decoder = simmim.decoder(channels, self.backbone.strides[-1])

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike | None, *args: Any, **kwargs: Any) -> Any:
        """Load a saved model; see `PreTrainedModel.from_pretrained` for the arguments.

        Raises:
            InputError: there is no such folder or repository, or it asks for more than its own weights as safetensors
                (see `checked`).
        """
        name = pretrained_model_name_or_path
        with opening("model", name), contextlib.ExitStack() as stack:
            if name is not None:
                stack.enter_context(checked("model", cls.config_class, name, kwargs))
            return super().from_pretrained(name, *args, **(kwargs | {"use_safetensors": True}))

    @classmethod
    def from_backbone(cls, backbone: AgsspBackbone, **config: Any) -> Self:
        """Put a pretraining head on a backbone, which is shared, not copied.

        Args:
            backbone: what to pretrain.
            config: fields of `AgsspPreTrainingConfig` other than `backbone_config`; `id2label` or `num_labels` among
                them.
        """
        return cls(AgsspPreTrainingConfig(backbone_config=backbone.config, **config), backbone=backbone)

    def forward(
        self,
        pixel_values: torch.Tensor,
        anomaly_maps: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        second_views: torch.Tensor | None = None,
        masks: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> AgsspForPreTrainingOutput | tuple:
        """Compute the losses that the given targets allow.

        Args:
            pixel_values: (B, 3, H, W) float, normalised with the backbone's mean and standard deviation.
            anomaly_maps: (B, h, w) float, at any resolution; a map with NaN counts as absent.
            labels: (B,) int64 categories, for the objective `classification`.
            second_views: (B, 3, H, W), other views of the same images, for `mocov3`. The maps belong to the first.
            masks: (B, h, w) bool, hidden patches, for `simmim`; h divides the grid of patches.
            return_dict: False gives a tuple.

        Raises:
            InputError: in training mode, a target of the configured loss is missing.
        """
        config = self.config
        losses: dict[str, torch.Tensor] = {}
        logits = reconstruction = attention_maps = alignment = None
        features: Any = None
        if config.objective == "simmim" and masks is not None:
            features, reconstruction = self._guess(pixel_values, masks)
            losses["task"] = simmim.reconstruction_loss(reconstruction, pixel_values, masks)
        if features is None or not self.training or (config.distillation and not config.distill_masked):
            features = self.backbone(pixel_values).feature_maps
        pooled = features[-1].mean(dim=(2, 3))
        if config.objective == "classification":
            logits = self.classifier(pooled)
            if labels is not None:
                losses["task"] = F.cross_entropy(logits.float(), labels)
        elif config.objective == "mocov3" and second_views is not None:
            losses["task"] = self._contrast(pixel_values, second_views, pooled)
        if config.distillation:
            positions = [list(self.backbone.out_indices).index(layer) for layer in config.distill_layers]
            attention_maps = tuple(attention_map(features[position]) for position in positions)
            if anomaly_maps is not None:
                by_layer = [
                    distillation_loss(attention, anomaly_maps, config.distill_loss, config.map_target)
                    for attention in attention_maps
                ]
                losses["distillation"] = torch.stack(by_layer).sum()
                if not self.training:
                    by_layer = [map_alignment(attention.detach(), anomaly_maps) for attention in attention_maps]
                    alignment = torch.stack(by_layer).mean(dim=0)
        loss, loss_dict = self._weighed(losses)
        output = AgsspForPreTrainingOutput(loss, loss_dict, logits, alignment, attention_maps, pooled, reconstruction)
        return output if return_dict is not False else output.to_tuple()

    def _guess(self, pixel_values: torch.Tensor, masks: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Features of the images with hidden patches, and the pixels that are guessed from them."""
        with simmim.hidden_patches(self.backbone.network, self.mask_token, masks):
            features = self.backbone(simmim.hide(pixel_values, masks)).feature_maps
        return features, self.decoder(features[-1])

    def _contrast(self, first: torch.Tensor, second: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """The symmetric loss: each view's guess against the slow encoder's projection of the other view."""
        config = self.config
        others = self.backbone(second).feature_maps[-1].mean(dim=(2, 3))
        queries = [self.predictor(self.projector(features)) for features in (pooled, others)]
        keys = []
        for view in (second, first):
            slow = self.momentum_backbone.encode(self.backbone, view)
            keys.append(self.momentum_projector.encode(self.projector, slow.feature_maps[-1].mean(dim=(2, 3))))
        losses = [
            mocov3.contrastive_loss(q, k, config.contrast_temperature) for q, k in zip(queries, keys, strict=True)
        ]
        return torch.stack(losses).sum()

    def after_optimizer_step(self, progress: float) -> None:
        """Let the slow encoder of `mocov3` follow; whoever trains calls it once after each step of the optimizer.

        Args:
            progress: share of the training that is done, 0..1.
        """
        if self.config.objective == "mocov3":
            momentum = mocov3.momentum_at(progress, self.config.encoder_momentum)
            self.momentum_backbone.follow(self.backbone, momentum)
            self.momentum_projector.follow(self.projector, momentum)

    def _weighed(self, losses: dict[str, torch.Tensor]) -> tuple[torch.Tensor | None, dict[str, torch.Tensor] | None]:
        """Eq. 8: L = task + lambda x distillation, or the fixed weights of the config."""
        needs = {"task": self.config.objective != "none", "distillation": self.config.distillation}
        missing = [name for name, needed in needs.items() if needed and name not in losses]
        if missing:
            if self.training:
                inputs = {"task": TARGETS.get(self.config.objective), "distillation": "anomaly_maps"}
                raise InputError(
                    f"objective={self.config.objective}, distillation={self.config.distillation}: training needs "
                    f"{' and '.join(str(inputs[name]) for name in missing)}"
                )
            return None, {name: value.detach() for name, value in losses.items()} or None
        loss_dict = {name: value.detach() for name, value in losses.items()}
        if len(losses) == 1:
            return next(iter(losses.values())), loss_dict
        if self.config.loss_weights is not None:
            task_weight, distillation_weight = self.config.loss_weights
            loss_dict["distillation_weight"] = torch.full_like(loss_dict["task"], distillation_weight)
            return task_weight * losses["task"] + distillation_weight * losses["distillation"], loss_dict
        if self.training:
            self._set_distillation_weight(loss_dict["task"], loss_dict["distillation"])
        weight = self.distillation_weight.clone()
        loss_dict["distillation_weight"] = weight
        return losses["task"] + weight * losses["distillation"], loss_dict

    def _set_distillation_weight(self, task: torch.Tensor, distillation: torch.Tensor) -> None:
        if self._weight_is_set:
            return
        if self.distillation_weight.isnan():
            means = torch.stack([task, distillation])
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(means)
            if means[1] <= 0 or not means.isfinite().all():
                raise InputError(
                    f"the first training step gives no loss ratio (task {means[0]:.4g}, distillation {means[1]:.4g}): "
                    "its anomaly maps are all constant, absent or NaN; check the map store, or set loss_weights"
                )
            self.distillation_weight.copy_(means[0] / means[1])
        self._weight_is_set = True

    def reset_distillation_weight(self) -> None:
        """Forget lambda, so that the next training step sets it: for a new run that starts from a finished one."""
        self.distillation_weight.fill_(float("nan"))
        self._weight_is_set = False

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load a state dict; its lambda replaces the present one."""
        self._weight_is_set = False
        return super().load_state_dict(*args, **kwargs)

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        self.backbone._set_gradient_checkpointing(enable)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            init.constant_(self.distillation_weight, float("nan"))
        elif module is getattr(self, "classifier", None):
            init.trunc_normal_(module.weight, std=0.02)
            init.zeros_(module.bias)
