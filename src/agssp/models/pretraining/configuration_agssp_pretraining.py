"""Configuration of backbone pretraining (AGBP): the objective, and how anomaly maps are distilled."""

from typing import Any

from transformers import PreTrainedConfig

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig

from .distillation import DISTILL_LOSSES, MAP_TARGETS

OBJECTIVES = ("classification", "mocov3", "simmim", "none")


class AgsspPreTrainingConfig(PreTrainedConfig):
    """Configuration of `AgsspForPreTraining`.

    Args:
        backbone_config: the backbone, as a config or as its dictionary.
        objective: the task beside distillation: `classification` of the object categories, `mocov3` (two views of an
            image find each other), `simmim` (guess hidden patches; transformers only), or `none`.
        distillation: whether anomaly maps are distilled (Eq. 6 to 8).
        distill_layers: stages whose attention maps are distilled, as positions in the backbone's `stage_names`
            (negative ones count from the end); they must be among its `out_indices`. The last two of these without it.
        distill_loss: `l2`, `cosine` or `l2_raw` (Eq. 7; see `distillation_loss`).
        map_target: `raw`, `centered` or `minmax` (see `distillation_loss`).
        loss_weights: fixed weights of task and distillation, in place of the lambda of Eq. 8 that the first training
            step sets. The authors' code uses 0.1 and 2.
        encoder_momentum: `mocov3`: of the slow encoder at the start; it rises to 1 along a cosine.
        contrast_temperature: `mocov3`: tau of the contrastive loss; 1 is its authors' for ResNet50, 0.2 for
            transformers. (transformers takes a plain `temperature` for one of text generation.)
        projection_hidden: `mocov3`: hidden width of projector and predictor.
        projection_dim: `mocov3`: width of what is compared.
        distill_masked: `simmim`: distil from the features of the image with hidden patches, one forward pass a step,
            in place of a second pass over the whole image.

    Raises:
        InputError: values outside these, or nothing to train on.
    """

    model_type = "agssp_pretraining"
    has_no_defaults_at_init = True
    # What the Trainer does not gather over the evaluation set.
    keys_to_ignore_at_inference = ["loss_dict", "attention_maps", "pooled_features", "reconstruction"]

    backbone_config: Any = None
    objective: str = "classification"
    distillation: bool = True
    distill_layers: list[int] | None = None
    distill_loss: str = "l2"
    map_target: str = "raw"
    loss_weights: list[float] | None = None
    encoder_momentum: float = 0.99
    contrast_temperature: float = 1.0
    projection_hidden: int = 4096
    projection_dim: int = 256
    distill_masked: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.backbone_config is None:
            self.backbone_config = AgsspBackboneConfig()
        elif isinstance(self.backbone_config, dict):
            self.backbone_config = AgsspBackboneConfig.from_dict(self.backbone_config)
        for name, value, known in (
            ("objective", self.objective, OBJECTIVES),
            ("distill_loss", self.distill_loss, DISTILL_LOSSES),
            ("map_target", self.map_target, MAP_TARGETS),
        ):
            if value not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if self.objective == "none" and not self.distillation:
            raise InputError("objective 'none' without distillation leaves nothing to train on; switch one of them on")
        if self.loss_weights is not None and len(self.loss_weights) != 2:
            raise InputError(f"loss_weights takes two numbers, task and distillation, got {self.loss_weights}")
        if not 0 <= self.encoder_momentum <= 1 or self.contrast_temperature <= 0:
            raise InputError(
                "encoder_momentum must be in 0..1 and contrast_temperature (--temperature) above 0, got "
                f"{self.encoder_momentum} and {self.contrast_temperature}"
            )
        if self.distill_masked and self.objective != "simmim":
            raise InputError(f"distill_masked belongs to the objective 'simmim', got {self.objective!r}")
        self._set_distill_layers()
        super().__post_init__(**kwargs)

    def _set_distill_layers(self) -> None:
        available = list(self.backbone_config.out_indices)
        count = len(self.backbone_config.stage_names)
        asked = available[-2:] if self.distill_layers is None else list(self.distill_layers)
        layers = sorted({index + count if index < 0 else index for index in asked})
        if len(layers) != len(asked) or not layers or set(layers) - set(available):
            raise InputError(
                f"distill_layers {asked}: expected different ones of {available}, the out_indices of "
                f"{self.backbone_config.architecture}"
            )
        if self.objective == "none" and layers[-1] != available[-1]:
            raise InputError(
                f"objective 'none' with distill_layers {layers} leaves later stages of out_indices {available} without "
                "training; let out_indices of the backbone end with the last distilled layer"
            )
        self.distill_layers = layers
