"""Random weights with which what a detector gives depends on its image."""

import torch
from torch import nn

from agssp.models.detection.yolo import YoloForObjectDetection
from agssp.models.detection.yolo.neck_and_head import class_convolutions


def enliven(model, images=None, image_size=64):
    """Batch norms take the statistics of some images, and a YOLO's class branch forgets its prior; returns the model.

    A fresh YOLO's convolutions halve what they are given and its norms, whose statistics are 0 and 1, do not make up
    for it: any two images have the same boxes and scores to six digits, and so have many a wrong network and the right.
    From fewer random images others would lie so far that their values grow from layer to layer.
    """
    training, norms = model.training, []
    for module in model.eval().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            norms.append((module.train(), module.momentum))
            module.momentum = 1.0
    with torch.no_grad():
        for norm, _ in norms:
            norm.weight.uniform_(0.8, 1.2)
            norm.bias.normal_(0, 0.1)
        if isinstance(model, YoloForObjectDetection):
            for _, convolution in class_convolutions(model.head):
                convolution.weight.normal_(0, 0.3)
                convolution.bias.normal_(0, 1)
        model(torch.rand(32, 3, image_size, image_size) if images is None else images)
    for norm, momentum in norms:
        norm.momentum = momentum
    return model.train(training)
