"""Small Faster R-CNNs with random but not trivial weights, and torchvision's own model to compare with."""

import torch
from contract_cases import NAMES
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.detection.faster_rcnn import FasterRcnnConfig, FasterRcnnForObjectDetection


def build(id2label=None, seed=0, frozen_stages=0, **config):
    """A detector that finds something, with batch norms far from their initial values."""
    torch.manual_seed(seed)
    backbone = AgsspBackboneConfig(architecture="test_resnet", frozen_stages=frozen_stages)
    fields = {"backbone_config": backbone, "image_size": 128, "pyramid_channels": 16, "head_channels": 32}
    fields |= {"region_samples": 512} | config
    model = FasterRcnnForObjectDetection(FasterRcnnConfig(id2label=id2label or NAMES, **fields))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(0, 0.1)
        for layer in (model.rpn.head.cls_logits, model.rpn.head.bbox_pred, model.roi_heads.box_predictor.cls_score):
            layer.weight.normal_(0, 0.5)
    return model


class _Pyramid(nn.Module):
    """The backbone and pyramid that torchvision's model calls `backbone`."""

    def __init__(self, model):
        super().__init__()
        self.body, self.out_channels = model.backbone, model.config.pyramid_channels
        self.fpn = FeaturePyramidNetwork(model.backbone.channels, self.out_channels, LastLevelMaxPool())

    def forward(self, images):
        return self.fpn({str(i): level for i, level in enumerate(self.body(images).feature_maps)})


def torchvision_model(model, image_size):
    """torchvision's own detector, built by hand around the same backbone, with the same weights."""
    config = model.config
    levels = [*config.strides, 64]
    pyramid = _Pyramid(model)
    pyramid.fpn.load_state_dict(model.fpn.state_dict())
    reference = FasterRCNN(
        pyramid,
        min_size=min(image_size),
        max_size=max(image_size),
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(
            tuple((config.anchor_scale * stride,) for stride in levels), ((0.5, 1.0, 2.0),) * len(levels)
        ),
        box_roi_pool=MultiScaleRoIAlign([str(i) for i in range(len(config.strides))], 7, 2),
        box_head=TwoMLPHead(config.pyramid_channels * 49, config.head_channels),
        box_predictor=FastRCNNPredictor(config.head_channels, model.num_labels + 1),
        rpn_pre_nms_top_n_train=config.proposals[0],
        rpn_post_nms_top_n_train=config.proposals[0],
        rpn_pre_nms_top_n_test=config.proposals[1],
        rpn_post_nms_top_n_test=config.proposals[1],
        box_score_thresh=config.score_threshold,
        box_detections_per_img=config.detections_per_image,
    )
    reference.rpn.head.load_state_dict(model.rpn.head.state_dict())
    reference.roi_heads.load_state_dict(model.roi_heads.state_dict())
    return reference


def labels_of(*images):
    """transformers' labels from (class, box) pairs for each image."""
    return [
        {
            "class_labels": torch.tensor([label for label, _ in boxes], dtype=torch.int64),
            "boxes": torch.tensor([box for _, box in boxes], dtype=torch.float32).reshape(-1, 4),
        }
        for boxes in images
    ]
