"""What a DINO detector is made of: its backbone, its transformer, its denoising queries and the weights of its loss."""

from typing import Any

from transformers import PreTrainedConfig

from agssp.errors import InputError
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig

from ..labels import with_class_names


class DinoConfig(PreTrainedConfig):
    """Configuration of `DinoForObjectDetection`. Fields that Deformable DETR has as well are named as there.

    The defaults are the paper's (arXiv 2203.03605) with four scales.

    Args:
        backbone_config: `AgsspBackboneConfig` (or its dict) of a backbone with feature maps at strides 8, 16 and 32.
            ResNet50 by default.
        image_size: Side in pixels of the square input that training and prediction use by default.
        d_model: Width of the transformer, a multiple of 32.
        encoder_layers: Number of encoder layers.
        decoder_layers: Number of decoder layers.
        encoder_ffn_dim: Inner width of the encoder's feed-forward networks.
        decoder_ffn_dim: Inner width of the decoder's feed-forward networks.
        encoder_attention_heads: Attention heads of an encoder layer; they divide `d_model`.
        decoder_attention_heads: Attention heads of a decoder layer; they divide `d_model`.
        encoder_n_points: Places that a head of the encoder looks at in each scale.
        decoder_n_points: Places that a head of the decoder looks at in each scale.
        num_feature_levels: Number of scales: the backbone's three, and for each further one a convolution of stride 2.
        num_queries: Objects that can be found in an image. Inputs with fewer cells in all scales have as many queries
            as cells.
        dropout: Share of values that are dropped after attention and feed-forward networks.
        attention_dropout: Share of weights that are dropped in the queries' attention to each other.
        activation_dropout: Share of values that are dropped within feed-forward networks.
        activation_function: Activation of the feed-forward networks.
        num_denoising: Pairs of a positive and a negative query that are spread over the boxes of an image in training:
            there are as many groups of queries, one group for all boxes, as this allows, but at least one. 0 trains
            without them.
        label_noise_ratio: Half of this share of the denoising queries get a random class, as in the authors' code.
        box_noise_scale: How far the corners of a positive query's box are moved at most, in halves of its width and
            height (lambda 1 of the paper). Those of a negative query are moved by this to twice this (lambda 2).
        class_cost: Weight of the class in matching.
        bbox_cost: Weight of the distance of boxes in matching.
        giou_cost: Weight of the generalised IoU in matching.
        class_loss_coefficient: Weight of the focal loss.
        bbox_loss_coefficient: Weight of the distance of boxes in the loss.
        giou_loss_coefficient: Weight of the generalised IoU in the loss.
        focal_alpha: Weight of the positive side in the focal loss.
        kwargs: Fields common to all of transformers' models, `id2label` above all. One class, `defect`, by default.

    Raises:
        InputError: for numbers that do not fit together; the message names them.
    """

    model_type = "agssp_dino"
    sub_configs = {"backbone_config": AgsspBackboneConfig}

    def __init__(
        self,
        backbone_config: AgsspBackboneConfig | dict[str, Any] | None = None,
        image_size: int = 640,
        d_model: int = 256,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        encoder_ffn_dim: int = 2048,
        decoder_ffn_dim: int = 2048,
        encoder_attention_heads: int = 8,
        decoder_attention_heads: int = 8,
        encoder_n_points: int = 4,
        decoder_n_points: int = 4,
        num_feature_levels: int = 4,
        num_queries: int = 900,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        activation_function: str = "relu",
        num_denoising: int = 100,
        label_noise_ratio: float = 0.5,
        box_noise_scale: float = 1.0,
        class_cost: float = 2.0,
        bbox_cost: float = 5.0,
        giou_cost: float = 2.0,
        class_loss_coefficient: float = 1.0,
        bbox_loss_coefficient: float = 5.0,
        giou_loss_coefficient: float = 2.0,
        focal_alpha: float = 0.25,
        **kwargs: Any,
    ):
        if image_size < 32 or image_size % 32:
            raise InputError(f"image_size={image_size}: expected a multiple of 32, the backbone's coarsest stride")
        if d_model < 32 or d_model % 32:
            raise InputError(f"d_model={d_model}: expected a multiple of 32, the number of groups of a GroupNorm")
        for name, heads in (("encoder", encoder_attention_heads), ("decoder", decoder_attention_heads)):
            if heads < 1 or d_model % heads:
                raise InputError(f"{name}_attention_heads={heads}: expected a number that divides d_model={d_model}")
        if num_feature_levels < 3:
            raise InputError(f"num_feature_levels={num_feature_levels}: expected 3 or more, the backbone gives three")
        for name, value in (("encoder_layers", encoder_layers), ("decoder_layers", decoder_layers)):
            if value < 1:
                raise InputError(f"{name}={value}: expected 1 or more")
        if num_queries < 1:
            raise InputError(f"num_queries={num_queries}: expected 1 or more")
        if num_denoising < 0 or not 0 <= label_noise_ratio <= 1 or box_noise_scale < 0:
            raise InputError(
                f"num_denoising={num_denoising}, label_noise_ratio={label_noise_ratio}, "
                f"box_noise_scale={box_noise_scale}: expected 0 or more, 0 to 1, 0 or more"
            )
        if backbone_config is None:
            backbone_config = AgsspBackboneConfig(architecture="resnet50")
        elif isinstance(backbone_config, dict):
            backbone_config = AgsspBackboneConfig(**backbone_config)
        self.backbone_config = backbone_config
        self.image_size = image_size
        self.d_model = d_model
        self.encoder_layers = encoder_layers
        self.decoder_layers = decoder_layers
        self.encoder_ffn_dim = encoder_ffn_dim
        self.decoder_ffn_dim = decoder_ffn_dim
        self.encoder_attention_heads = encoder_attention_heads
        self.decoder_attention_heads = decoder_attention_heads
        self.encoder_n_points = encoder_n_points
        self.decoder_n_points = decoder_n_points
        self.num_feature_levels = num_feature_levels
        self.num_queries = num_queries
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.activation_function = activation_function
        self.num_denoising = num_denoising
        self.label_noise_ratio = label_noise_ratio
        self.box_noise_scale = box_noise_scale
        self.class_cost = class_cost
        self.bbox_cost = bbox_cost
        self.giou_cost = giou_cost
        self.class_loss_coefficient = class_loss_coefficient
        self.bbox_loss_coefficient = bbox_loss_coefficient
        self.giou_loss_coefficient = giou_loss_coefficient
        self.focal_alpha = focal_alpha
        # Read by transformers' deformable attention; its own CUDA code is no part of transformers any more.
        self.disable_custom_kernels = True
        super().__init__(**with_class_names(kwargs))
