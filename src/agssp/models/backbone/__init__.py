"""Networks that turn images into feature maps."""

from transformers import AutoBackbone, AutoConfig, AutoModel

from .configuration_agssp_backbone import AgsspBackboneConfig
from .modeling_agssp_backbone import AgsspBackbone

AutoConfig.register(AgsspBackboneConfig.model_type, AgsspBackboneConfig, exist_ok=True)
AutoModel.register(AgsspBackboneConfig, AgsspBackbone, exist_ok=True)
AutoBackbone.register(AgsspBackboneConfig, AgsspBackbone, exist_ok=True)

__all__ = ["AgsspBackbone", "AgsspBackboneConfig"]
