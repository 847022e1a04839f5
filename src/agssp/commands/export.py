"""Write a detector for other programs: ONNX, ultralytics, or its backbone for timm.

    agssp export runs/finetuned --format onnx --output detector.onnx
    agssp export runs/finetuned --format onnx --output detector.onnx --image-size 320 --check my_images
    agssp export runs/yolo --format ultralytics --output detector.pt
    agssp export runs/backbone --format timm --output backbone-timm

Beside every export lies OUTPUT.json: classes, input size, normalisation, letterbox, licence, and how the model came
about. Each is first opened by the program that it is for, and what that computes is compared; the JSON says with what
result. A file under the name of OUTPUT is whole.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agssp.command_lines import shell_command
from agssp.errors import InputError
from agssp.output_folder import hold_output, keeps_outputs
from agssp.terminal import on_terminal

POSITIONAL = ("model",)
SUFFIXES = {"onnx": ".onnx", "timm": "-timm", "ultralytics": ".pt"}
"""Format -> how the name of what is written ends; timm's is a folder, whose name may end otherwise."""
MOST_CHECKED = 30


@dataclass
class ExportArguments:
    """What to write, in which form, and where."""

    model: str = field(metadata={"help": "detector: a folder or Hub id; for timm also a backbone"})
    format: str = field(metadata={"help": f"{', '.join(SUFFIXES)}"})
    output: str | None = field(
        default=None, metadata={"help": "file (timm: folder) to write; default: named after the model, in this folder"}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "onnx: side of the square input, fixed in the file; default: the model's own"}
    )
    opset: int | None = field(default=None, metadata={"help": "onnx: version of the operators, 18 to 23; default 18"})
    check: str | None = field(
        default=None,
        metadata={"help": f"onnx: images (the first {MOST_CHECKED}) to compare with torch on; default: drawn ones"},
    )


ARGUMENTS = (ExportArguments,)


@on_terminal
@keeps_outputs
def main(arguments: ExportArguments) -> Path:
    """Run the command.

    Returns:
        What was written.
    """
    output = _checked(arguments)
    if arguments.format == "timm":
        lines = _export_timm(arguments, output)
    elif arguments.format == "ultralytics":
        lines = _export_ultralytics(arguments, output)
    else:
        lines = _export_onnx(arguments, output)
    print(f"its classes, input and origin: {output}.json")
    print("\n  ".join(lines))
    return output


def _checked(arguments: ExportArguments) -> Path:
    """The path to write to, after all that can be said before the model is opened."""
    if arguments.format not in SUFFIXES:
        raise InputError(f"--format {arguments.format}: expected {', '.join(SUFFIXES)}")
    if arguments.format == "onnx":
        from agssp.hub.export.onnx import OPSETS, check_can_export

        check_can_export(OPSETS[0] if arguments.opset is None else arguments.opset)
    else:
        for name in ("image_size", "opset", "check"):
            if getattr(arguments, name) is not None:
                raise InputError(f"--{name.replace('_', '-')}: belongs to --format onnx, not {arguments.format}")
    suffix = SUFFIXES[arguments.format]
    name = arguments.output or Path(arguments.model.rstrip("/")).name.removesuffix(".safetensors") + suffix
    output = Path(name)
    if arguments.format != "timm" and output.suffix != suffix:
        raise InputError(f"--output {output}: expected a name that ends in {suffix}")
    if any(parent.is_file() for parent in output.parents):
        raise InputError(f"--output {output}: lies in a file; expected a folder to write to")
    hold_output(output, "export", file=True)
    _remove_unfinished(output)
    for path in (output, Path(f"{output}.json")):
        if path.exists():
            what = "a folder" if path.is_dir() else "a file"
            raise InputError(f"--output {output}: {what} of the name {path.name} exists; name another, or remove it")
    return output


def _export_onnx(arguments: ExportArguments, output: Path) -> list[str]:
    from agssp.evaluation.inference import load_detector
    from agssp.hub.export.check_images import drawn_images
    from agssp.hub.export.description import describe_detector
    from agssp.hub.export.onnx import IR_VERSION, OLDEST_RUNTIME, OPSETS, write_onnx
    from agssp.hub.export.onnx_check import check_onnx
    from agssp.hub.export.onnx_runner import OnnxDetector
    from agssp.models.detection import any_detector, catalogue

    model = load_detector(arguments.model)
    size, opset = arguments.image_size or model.config.image_size, arguments.opset or OPSETS[0]
    any_detector.image_processor(model, arguments.image_size)
    images = drawn_images(size) if arguments.check is None else _images(arguments.check)
    if licence := catalogue.licence_line(model):
        print(licence)
    partial = _partial(output)
    try:
        print(f"writing {catalogue.family_of(model).title} at {size} px as ONNX, opset {opset} ...", flush=True)
        write_onnx(model, partial, size, opset)
        print(f"comparing it with torch on {len(images)} images ...", flush=True)
        runtime = {"opset": opset, "ir_version": IR_VERSION, "onnxruntime": f">={OLDEST_RUNTIME[opset]}"}
        description = describe_detector(model, size) | runtime | {"dynamic": ["batch"]}
        found = check_onnx(model, OnnxDetector(partial, description=description), images)
        _finish(partial, output, "onnx", arguments.model, description | {"check": found})
    finally:
        partial.unlink(missing_ok=True)
    apart = f"at most {found['pixels']:.4f} px and {found['score']:.6f} in score apart"
    print(
        f"the same boxes by {found['against']}: {found['boxes']} compared, {apart}; {found['unlike']} chosen otherwise"
    )
    print(f"{output} ({output.stat().st_size / 1e6:.1f} MB): any number of images of {size} x {size} px")
    return [
        f"it runs by onnxruntime {OLDEST_RUNTIME[opset]} or later, without torch; boxes are in pixels of each image:",
        "from agssp.hub.export import OnnxDetector",
        f"detector = OnnxDetector({str(output)!r})",
        'found = detector.detect(["image.png"], threshold=0.25)',
    ]


def _export_timm(arguments: ExportArguments, output: Path) -> list[str]:
    from agssp.hub.export.description import describe_backbone
    from agssp.hub.export.timm import check_is_timm, write_timm

    backbone, licence = _backbone(arguments.model)
    check_is_timm(backbone)
    if licence:
        print(licence)
    partial = _partial(output)
    try:
        found = write_timm(backbone, partial)
        _finish(partial, output, "timm", arguments.model, describe_backbone(backbone, licence) | {"check": found})
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(
        f"the same features by {found['against']} alone: {found['features']} compared on noise, at most "
        f"{found['difference']:.1g} of their largest value apart"
    )
    print(f"{output}: {backbone.config.architecture}")
    return [
        "timm opens it without this package:",
        f'timm.create_model("local-dir:{output}", pretrained=True, features_only=True, '
        f"out_indices={tuple(backbone.config.out_indices)})",
    ]


def _export_ultralytics(arguments: ExportArguments, output: Path) -> list[str]:
    from agssp.evaluation.inference import load_detector
    from agssp.hub.export.check_images import drawn_images
    from agssp.hub.export.description import describe_detector
    from agssp.hub.export.ultralytics import export_ultralytics
    from agssp.hub.export.ultralytics_check import check_ultralytics
    from agssp.models.detection import catalogue
    from agssp.models.yolo_graphs import traits

    model = load_detector(arguments.model)
    if licence := catalogue.licence_line(model):
        print(licence)
    # Its name has to end in .pt, so the unfinished file has another folder.
    folder = _partial(output)
    folder.mkdir()
    try:
        export_ultralytics(model, folder / output.name)
        found = check_ultralytics(model, folder / output.name, drawn_images(model.config.image_size))
        description = describe_detector(model, model.config.image_size)
        # The file's first layer does what is left of it.
        description["normalisation"] |= {"mean": [0.0] * 3, "std": [1.0] * 3}
        _finish(folder / output.name, output, "ultralytics", arguments.model, description | {"check": found})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    apart = f"at most {found['pixels']:.4f} px and {found['logit']:.6f} in a class logit apart"
    print(f"the same raw outputs by {found['against']}: {found['boxes']} boxes compared, {apart}")
    print(f"{output} ({output.stat().st_size / 1e6:.1f} MB)")
    # Of YOLO26's two branches, theirs takes by default the one that ours does not.
    branch = ", nms=False" if traits(model.config.variant).end_to_end else ""
    return [
        "ultralytics trains, validates and predicts with it:",
        f"ultralytics.YOLO({str(output)!r}).predict('image.png', imgsz={model.config.image_size}, rect=False{branch})",
    ]


def _partial(output: Path) -> Path:
    """Where an export lies until it is whole."""
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.with_name(output.name + ".partial")


def _remove_unfinished(output: Path) -> None:
    """Remove what an export that was killed has left, its description too if that was as far as it came."""
    partial = _partial(output)
    if not partial.exists():
        return
    print(f"removing {partial}, which an export that did not finish has left")
    if not output.exists():
        Path(f"{output}.json").unlink(missing_ok=True)
    if partial.is_dir():
        shutil.rmtree(partial)
    else:
        partial.unlink()


def _finish(partial: Path, output: Path, kind: str, source: str, description: dict[str, Any]) -> None:
    """Write the description, then let the export appear under its name."""
    from agssp.files import put_in_place
    from agssp.hub.export.description import run_facts, write_description

    write_description(output, {"format": kind, **description, "run": run_facts(source)})
    put_in_place(partial, output)


def _backbone(source: str) -> tuple[Any, str | None]:
    """The backbone of a folder or Hub repository, and the licence line of the detector that it is a part of, if any."""
    import torch

    from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
    from agssp.models.detection import catalogue
    from agssp.models.detection.transfer import detector_backbone

    if not Path(source).is_file():
        kind = catalogue.model_type_at(source, "a backbone or a detector")
        if kind == AgsspBackbone.config_class.model_type:
            return AgsspBackbone.from_pretrained(source, dtype=torch.float32).eval(), None
        if kind in catalogue.FAMILIES:
            detector = catalogue.open_folder(source)
            return detector_backbone(detector)[1], catalogue.licence_line(detector)
    command = shell_command("export", "FOLDER", format="timm")
    raise InputError(f"{source}: neither a backbone's nor a detector's folder; expected one, as in `{command}`")


def _images(source: str) -> list[Any]:
    """The first images of a folder or data set, or one image, as uint8 arrays (H, W, 3)."""
    from itertools import islice

    import numpy as np

    from agssp.data.images import decode_image
    from agssp.data.readers import read_dataset

    if Path(source).is_file() and Path(source).suffix.lower() not in (".json", ".yaml", ".yml", ".parquet"):
        return [np.asarray(decode_image(source, source))]
    rows = islice(read_dataset(source).select_columns(["image", "image_id"]), MOST_CHECKED)
    images = [np.asarray(decode_image(row["image"], row["image_id"])) for row in rows]
    if not images:
        raise InputError(f"--check {source}: holds no image")
    return images
