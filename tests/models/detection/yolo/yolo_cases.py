"""Small YOLOs with random but not trivial weights, and ultralytics' own model to compare with."""

from types import SimpleNamespace

import torch
from contract_cases import NAMES

from agssp.models.detection.yolo import YoloConfig, YoloForObjectDetection
from agssp.models.detection.yolo.neck_and_head import class_convolutions
from agssp.models.ultralytics import import_ultralytics


def build(variant="yolov8n", id2label=None, seed=0, **config):
    """A detector whose batch norms and class biases are far from their initial values."""
    torch.manual_seed(seed)
    model = YoloForObjectDetection(YoloConfig(variant=variant, id2label=id2label or NAMES, image_size=64, **config))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(0, 0.1)
        for _, convolution in class_convolutions(model.head):
            convolution.weight.normal_(0, 0.3)
            convolution.bias.normal_(0, 1)
    return model


def ultralytics_model(state, variant="yolov8n", num_labels=3):
    """ultralytics' own detector with these weights, and the gains that its loss reads."""
    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel(f"{variant}.yaml", nc=num_labels, verbose=False)
    model.load_state_dict(state)
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, epochs=5)
    return model


def labels_of(*images):
    """transformers' labels from (class, box) pairs for each image."""
    return [
        {
            "class_labels": torch.tensor([label for label, _ in boxes], dtype=torch.int64),
            "boxes": torch.tensor([box for _, box in boxes], dtype=torch.float32).reshape(-1, 4),
        }
        for boxes in images
    ]
