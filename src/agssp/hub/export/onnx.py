"""A detector as one ONNX file: `pixel_values` to `logits` and `pred_boxes`, for any number of images of one size."""

import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agssp.errors import InputError
from agssp.faults import storage_fault
from agssp.hub.machine_traces import check_no_traces
from agssp.models.detection.catalogue import is_ours
from agssp.models.detection.faster_rcnn import FasterRcnnForObjectDetection

from .description import INSTALL
from .norms import fold_norms

IR_VERSION = 10
"""Version of the file format, which each runtime knows up to one of its own."""
OLDEST_RUNTIME = {18: "1.18", 19: "1.18", 20: "1.18", 21: "1.18", 22: "1.21", 23: "1.23"}
"""Opset -> the oldest onnxruntime that opens such a file of `IR_VERSION`, tried with those from 1.17 to 1.23."""
OPSETS = tuple(OLDEST_RUNTIME)
"""Versions of ONNX' operators that torch writes. Below 16 there is no GridSample, which deformable attention needs."""
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_can_export(opset: int) -> None:
    """Refuse what no work could make good.

    Raises:
        InputError: the opset is too old or unknown, or a package is missing.
    """
    if opset not in OPSETS:
        kind = "too old" if opset < OPSETS[0] else "not known to torch"
        raise InputError(
            f"--opset {opset}: {kind}; expected {OPSETS[0]} to {OPSETS[-1]}. Leave --opset out for {OPSETS[0]}, which "
            f"onnxruntime {OLDEST_RUNTIME[OPSETS[0]]} and later open"
        )
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"--format onnx needs {', '.join(missing)}: {INSTALL}")


def write_onnx(model: Any, file: str | os.PathLike, image_size: int, opset: int = OPSETS[0]) -> None:
    """Write a detector's graph with its weights.

    The batch may have any size; height and width are fixed, because positions of cells, anchors and queries are
    constants of the graph. Nothing is suppressed in it, Faster R-CNN excepted: there the proposals' suppression is a
    part of the network, and that of the detections follows from the model's own output.

    Args:
        model: A detector of any family, in eval mode and float32 on the CPU.
        file: Written as it is; the caller renames what has been checked.
        image_size: Side of the square input in px, a multiple of 32.
        opset: One of `OPSETS`.

    Raises:
        InputError: the model cannot take the size, torch cannot trace or translate the model, or the file would name
            this machine.
    """
    pixel_values = torch.zeros(2, 3, image_size, image_size)
    with torch.no_grad():
        model(pixel_values=pixel_values)  # what it has words for, it says better than its tracing would
    batch = torch.export.Dim("batch", min=1, max=2**16)
    translations: dict[Any, Any] = {}
    if isinstance(model, FasterRcnnForObjectDetection):
        from .faster_rcnn_graph import FasterRcnnGraph
        from .suppression import TRANSLATIONS

        graph: nn.Module = FasterRcnnGraph(model, image_size)
        translations = TRANSLATIONS
    else:
        graph = _Outputs(model)
    try:
        with _quiet(), _without_checks(), _symbolic_len(model), torch.no_grad():
            program = torch.export.export(graph.eval(), (pixel_values,), dynamic_shapes=({0: batch},), strict=False)
            fold_norms(program)
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                input_names=["pixel_values"],
                output_names=["logits", "pred_boxes"],
                custom_translation_table=translations,
                verbose=False,
            )
            assert written is not None
            written.model.ir_version = IR_VERSION
            graph_file = written.model_proto
            _forget_origin(graph_file)
            Path(file).write_bytes(graph_file.SerializeToString())
    # torch.export and torch.onnx raise any kind, with pages of text.
    except Exception as error:
        Path(file).unlink(missing_ok=True)
        if storage_fault(error) is not None:
            raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"--format onnx: {type(model).__name__} on {model.config.backbone_config.architecture} at {image_size} px, "
            f"opset {opset}: torch cannot write it: {reason}"
        ) from error
    try:
        check_no_traces(file, Path(file).with_suffix(".onnx").name)
    except InputError:
        Path(file).unlink()
        raise


def _forget_origin(message: Any) -> None:
    """Take torch's notes on every node and value out, which quote the traced code with its paths on this machine.

    Args:
        message: an ONNX model, or a part of one; what it computes stays.
    """
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for each in [value] if hasattr(value, "ListFields") else value:
                _forget_origin(each)


class _Outputs(nn.Module):
    """A detector that gives its predictions alone."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model(pixel_values=pixel_values)
        return outputs.logits, outputs.pred_boxes


@contextlib.contextmanager
def _without_checks() -> Iterator[None]:
    """Switch off transformers' checks of shapes in the forward pass, which are no part of a graph."""
    name = "TRANSFORMERS_DISABLE_TORCH_CHECK"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _symbolic_len(model: Any) -> Iterator[None]:
    """Let `len` of a batch be its symbol in transformers' code, where Python's own would make a constant of it.

    torch's strict tracing, which analyses Python itself, has the symbol too, but takes three times as long.
    """
    if is_ours(model):
        yield
        return
    module: Any = sys.modules[type(model).__module__]
    module.len = lambda value: value.shape[0] if isinstance(value, Tensor) else len(value)
    try:
        yield
    finally:
        del module.len


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's advice to developers of torch off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
