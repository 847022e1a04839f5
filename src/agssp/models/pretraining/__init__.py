"""Backbone pretraining with anomaly maps (AGBP)."""

from transformers import AutoConfig, AutoModelForPreTraining

from .configuration_agssp_pretraining import AgsspPreTrainingConfig
from .modeling_agssp_pretraining import AgsspForPreTraining, AgsspForPreTrainingOutput

AutoConfig.register(AgsspPreTrainingConfig.model_type, AgsspPreTrainingConfig, exist_ok=True)
AutoModelForPreTraining.register(AgsspPreTrainingConfig, AgsspForPreTraining, exist_ok=True)

__all__ = ["AgsspForPreTraining", "AgsspForPreTrainingOutput", "AgsspPreTrainingConfig"]
