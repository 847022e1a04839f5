"""A YOLO as the `.pt` file that ultralytics' own programs train, validate and predict with."""

import os
from pathlib import Path
from typing import Any

import torch

from agssp.errors import InputError
from agssp.files import whole_file
from agssp.hub.machine_traces import check_no_traces
from agssp.models.detection.yolo import YoloForObjectDetection
from agssp.models.ultralytics import import_ultralytics

from .ultralytics_graph import check_has_counterpart, describe, weights_of

LICENCE = "AGPL-3.0 License (https://ultralytics.com/license)"


def export_ultralytics(model: Any, file: str | os.PathLike) -> None:
    """Write a detector as a checkpoint that `ultralytics.YOLO(file)` opens.

    Its `predict` and `val` give the numbers of this package, and its `train` begins from these weights. Values that
    ultralytics' model has no place for are brought into it without a change of the outputs: input normalisation
    becomes a first layer of 1x1 convolutions, which `freeze=[0]` keeps as it is in training. The box loss is not
    exported: ultralytics trains with its own. `predict` makes the input the smallest rectangle around an image,
    this package makes it a square: `rect=False` makes both the same. Of YOLO26 it takes the branch that needs
    suppression, this package the other, which `nms=False` takes as well; there each place gives all classes above the
    threshold, here the best one unless `multi_label` is asked for.

    The file is a pickle of ultralytics' classes with their weights and needs nothing of this package. These classes
    are licensed under **AGPL-3.0**, and Ultralytics claims the same for weights trained with its code: who passes the
    file on, or lets others use a program with it over a network, must offer them the complete source of the whole under
    the AGPL, or buy a commercial licence from Ultralytics. The file says so under the key `license`. Pickles run code
    when they are opened: open only files that you have written or whose author you trust. This package opens none
    but the one that it has just written, to compare it; what ultralytics has trained comes back as safetensors, by
    `YoloForObjectDetection.from_ultralytics`.

    Args:
        model: A `YoloForObjectDetection` with its variant's own backbone or a ResNet of `ultralytics_graph.RESNETS`; it
            is left as it is.
        file: Ends in `.pt`; replaced in one step if it is there.

    Raises:
        InputError: the name does not end in `.pt`, the model is no YOLO or has modules that ultralytics cannot
            build, `ultralytics` is missing, or the file would name this machine.
    """
    file = Path(file)
    if file.suffix != ".pt":
        raise InputError(f"--output {file}: expected a name that ends in .pt, or ultralytics takes it for another kind")
    if not isinstance(model, YoloForObjectDetection):
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        raise InputError(
            f"--format ultralytics: a model of type {kind!r}, expected a YOLO; for other detectors use "
            "`agssp export MODEL --format onnx --output model.onnx`"
        )
    check_has_counterpart(model)
    version = import_ultralytics().__version__
    checkpoint = {
        "epoch": -1,  # a finished training, not one to resume
        "best_fitness": None,
        "model": _ultralytics_model(model),
        "ema": None,
        "updates": None,
        "optimizer": None,
        # Only `imgsz` is taken over by `predict`, `val` and `train`.
        "train_args": {"task": "detect", "imgsz": model.config.image_size},
        "version": version,
        "license": LICENCE,
        "docs": "https://docs.ultralytics.com",
    }
    with whole_file(file) as part:
        torch.save(checkpoint, part)
        check_no_traces(part, file.name)


def _ultralytics_model(model: YoloForObjectDetection) -> Any:
    """ultralytics' `DetectionModel` with the weights, classes and input size of ours, float32 on the CPU."""
    from ultralytics.nn.tasks import DetectionModel

    from agssp.models.detection.yolo.neck_and_head import is_end_to_end, set_classes

    names = {int(index): str(name) for index, name in (model.config.id2label or {}).items()}
    graph = describe(model)
    # ultralytics derives the width of the class branch from the number of classes; ours may have begun on more.
    theirs: Any = DetectionModel(graph | {"nc": model.config.class_channels}, ch=3, verbose=False)
    head = theirs.model[-1]
    set_classes(head, len(names))
    if is_end_to_end(head):
        head.end2end = True  # the branch that ours predicts with
    theirs.load_state_dict(weights_of(model, theirs))
    # Training builds the model anew from `yaml`, then gives its class branch the width that it finds here.
    theirs.yaml["nc"] = theirs.nc = len(names)
    theirs.names, theirs.task = names, "detect"
    theirs.args = {"task": "detect", "imgsz": model.config.image_size}
    return theirs.eval()
