"""COCO mAP of a detector on labelled images, a class at a time and by size.

    agssp evaluate runs/finetuned --dataset labelled/test
    agssp evaluate runs/finetuned --dataset NEU-DET --split test --image-size 640 --output evaluation

OUTPUT/metrics.json, OUTPUT/precision_recall.png, OUTPUT/report.html with the worst images. Without --output the numbers
are only printed. On several processes (`torchrun --nproc-per-node 2 scripts/evaluate.py ...`) the numbers are the same.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, ClassVar

from agssp.terminal import on_terminal

if TYPE_CHECKING:
    from agssp.steps.step import StepResult

POSITIONAL = ("model",)


@dataclass
class EvaluateArguments:
    """Which detector to measure, on which labelled images."""

    flag_groups: ClassVar = {
        "input": ("model", "dataset", "split", "crowds"),
        "measuring": (
            "threshold", "shown_threshold", "iou_threshold", "max_detections", "class_agnostic", "image_size",
        ),
        "output": ("output",),
        "machine": ("device", "batch_size"),
    }  # fmt: skip

    model: str = field(metadata={"help": "detector: a folder or Hub id, or a safetensors file of COCO weights"})
    dataset: str = field(metadata={"help": "labelled images: folder, COCO, YOLO, VOC, Parquet or Hub id"})
    output: str | None = field(default=None, metadata={"help": "folder for metrics.json, curves and the page"})
    split: str | None = field(default=None, metadata={"help": "split of a data set that has several"})
    crowds: str = field(
        default="auto",
        metadata={"help": "boxes with iscrowd 1: objects, ignore (regions), or auto: objects if all of a file have it"},
    )
    threshold: float = field(
        default=0.001, metadata={"help": "lowest score that counts; average precision wants it low"}
    )
    shown_threshold: float = field(default=0.25, metadata={"help": "lowest score of the boxes in the page's pictures"})
    iou_threshold: float | None = field(
        default=None,
        metadata={"help": "of two boxes overlapping more than this one goes; default: 0.7 for YOLO, else as trained"},
    )
    max_detections: int = field(default=300, metadata={"help": "most boxes in one image (COCO counts the best 100)"})
    class_agnostic: bool = field(
        default=False, metadata={"help": "count all classes as one, to measure one-class detectors"}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "side of the square input; the model's own if left out"}
    )
    batch_size: int = field(default=16, metadata={"help": "images in one forward pass"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:N"})


ARGUMENTS = (EvaluateArguments,)


@on_terminal
def main(arguments: EvaluateArguments) -> "StepResult":
    """Run the command."""
    from agssp.steps.evaluate import evaluate

    return evaluate(**asdict(arguments))
