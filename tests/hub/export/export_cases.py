"""Detectors of every family, small, whose boxes and scores are spread enough to be told apart."""

import torch

from agssp.hub.export.check_images import drawn_images
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.detection import any_detector, catalogue, detr
from agssp.models.detection.dino import DinoConfig, DinoForObjectDetection
from agssp.models.detection.faster_rcnn import FasterRcnnConfig, FasterRcnnForObjectDetection

CLASSES = {0: "pit", 1: "scratch", 2: "inclusion"}
FEW_LAYERS = {"encoder_layers": 1, "decoder_layers": 2}
NARROW = dict.fromkeys(("d_model", "encoder_hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim"), 64)


def detector(name, image_size=64, classes=CLASSES):
    """A detector with random weights in eval mode, on `test_resnet` unless it has a backbone of its own.

    Its norms know the images of the check, or the signal would die on its way through the layers; and heads that start
    with all scores alike get others, or ranks would hang on the last digit.
    """
    torch.manual_seed(0)
    model = _build(name, image_size, classes)
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    inputs = any_detector.image_processor(model, image_size)(drawn_images(image_size), return_tensors="pt")
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if any(part in key for part in ("cv3", "rpn.head", "box_predictor", "class", "bbox", "boxes")):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for norm in norms:
            norm.momentum = None  # the mean of what comes, at once
        model.train()(**inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def _build(name, image_size, classes):
    if name in catalogue.VARIANTS:
        return catalogue.build(name, None, classes, image_size)
    backbone = catalogue.taken_features(name, AgsspBackboneConfig(architecture="test_resnet"))
    if name == "dino":
        sizes = {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "num_queries": 50, **FEW_LAYERS}
        return DinoForObjectDetection(DinoConfig(backbone, image_size, id2label=classes, **sizes))
    if name == "faster_rcnn":
        sizes = {"pyramid_channels": 64, "head_channels": 128}
        return FasterRcnnForObjectDetection(FasterRcnnConfig(backbone, image_size, id2label=classes, **sizes))
    if name in detr.KINDS:
        sizes = {"decoder_in_channels": [64] * 3, **NARROW, **FEW_LAYERS}
        return detr.build_detr(name, backbone, classes, image_size, **sizes)
    return catalogue.build(name, backbone, classes, image_size)
