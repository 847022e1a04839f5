"""ultralytics' own model of a YOLO (AGPL-3.0) with the weights of ours, to compare with."""

from typing import Any

from torch import nn

from agssp.models.ultralytics import import_ultralytics
from agssp.models.yolo_graphs import read_graph

from .modeling_yolo import YoloForObjectDetection
from .neck_and_head import is_end_to_end, set_classes


def ultralytics_network(model: YoloForObjectDetection) -> tuple[str, nn.Module]:
    """ultralytics' version, and its `DetectionModel` in eval mode.

    An end-to-end head is left with the branch that predicts, as ultralytics leaves it for prediction: in eval mode it
    would compute the other one too, ours does not.

    Args:
        model: On the variant's own backbone, of a variant that ultralytics has.
    """
    version = import_ultralytics().__version__
    from ultralytics.nn.tasks import DetectionModel

    graph = read_graph(model.config.variant) | {"nc": model.config.class_channels}
    network: Any = DetectionModel(graph, verbose=False)
    head = network.model[-1]
    set_classes(head, model.num_labels)
    network.load_state_dict(model.to_ultralytics())
    if is_end_to_end(head):
        # Otherwise it would be left with the other branch.
        head.end2end = True
        head.fuse()
    return version, network.eval()
