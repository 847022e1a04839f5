"""Small DINOs on a tiny backbone, and labels for them."""

import torch
from contract_cases import NAMES

from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.detection.dino import DinoConfig, DinoForObjectDetection


def config_of(**fields):
    """Two layers of each kind, 30 queries, three classes; `frozen_stages` is the backbone's."""
    backbone = AgsspBackboneConfig(architecture="test_resnet", frozen_stages=fields.pop("frozen_stages", 0))
    tiny = {
        "image_size": 64,
        "d_model": 64,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "num_queries": 30,
        "num_denoising": 6,
        "id2label": NAMES,
    }
    return DinoConfig(backbone_config=backbone, **(tiny | fields))


def build(seed=0, **fields):
    """A detector whose heads are far from their initial values, which change no box and give all the same score."""
    torch.manual_seed(seed)
    model = DinoForObjectDetection(config_of(**fields))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "boxes.layers.2" in name:
                parameter.normal_(0, 0.1)
            elif name.endswith("classes.bias"):
                parameter.normal_(-2, 1)
    return model


def random_labels(*counts, num_labels=3, seed=0):
    """Labels with as many boxes an image as told, wholly inside the image."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "class_labels": torch.randint(num_labels, (count,), generator=generator),
            "boxes": torch.cat(
                (
                    0.4 + 0.2 * torch.rand(count, 2, generator=generator),
                    0.05 + 0.3 * torch.rand(count, 2, generator=generator),
                ),
                1,
            ),
        }
        for count in counts
    ]
