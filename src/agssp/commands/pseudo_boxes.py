"""Cut pseudo-defect boxes from a store of anomaly maps.

agssp pseudo-boxes --maps maps --output boxes --report
agssp pseudo-boxes --maps maps --threshold-rule paper --delta 0.1 --coco --yolo --output boxes

OUTPUT/data/boxes-*.parquet (`objects` with one class, defect), OUTPUT/thresholds.json; on request coco.json, yolo/ and
report.html.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, ClassVar

from agssp.terminal import on_terminal

if TYPE_CHECKING:
    from agssp.steps.step import StepResult

POSITIONAL = ()


@dataclass
class PseudoBoxesArguments:
    """Where the maps are, and what counts as a defect in them."""

    flag_groups: ClassVar = {
        "input": ("maps", "dataset"),
        "boxes": (
            "threshold_rule", "delta", "top_k", "min_area", "iou_threshold", "merge_distance", "score_threshold",
            "score_quantile",
        ),
        "output": ("output", "coco", "yolo", "report"),
        "machine": ("workers",),
    }  # fmt: skip

    maps: str = field(metadata={"help": "map store that `agssp anomaly-maps` wrote"})
    output: str = field(metadata={"help": "folder for the boxes"})
    threshold_rule: str = field(
        default="auto",
        metadata={
            "help": "paper (mean of the maxima - delta), relative (delta as a share of that mean less the median), "
            "robust (median of the maxima + delta MADs), fixed (delta itself); auto: paper for teachers that read "
            "text, else relative"
        },
    )
    delta: float | None = field(
        default=None, metadata={"help": "the rule's number; default: paper 0.1, relative 0.2, robust 3"}
    )
    top_k: int = field(default=10, metadata={"help": "boxes an image at most"})
    min_area: float | None = field(default=None, metadata={"help": "smaller components, in px, are dropped"})
    iou_threshold: float = field(default=0.5, metadata={"help": "overlap above which the lower box is dropped"})
    merge_distance: float = field(default=0.0, metadata={"help": "boxes closer than this, in px, become one"})
    score_threshold: float | None = field(
        default=None, metadata={"help": "only images with a higher image score get boxes (T of the paper)"}
    )
    score_quantile: float | None = field(
        default=None, metadata={"help": "the same as a quantile of the category's image scores, 0 to 1"}
    )
    coco: bool = field(default=False, metadata={"help": "write coco.json"})
    yolo: bool = field(default=False, metadata={"help": "write yolo/ (labels and data.yaml)"})
    report: bool = field(default=False, metadata={"help": "write report.html"})
    dataset: str | None = field(
        default=None, metadata={"help": "images for the report; default: what the maps were made of"}
    )
    workers: int = field(default=0, metadata={"help": "processes; 0: one a core"})


ARGUMENTS = (PseudoBoxesArguments,)


@on_terminal
def main(arguments: PseudoBoxesArguments) -> "StepResult":
    """Run the command."""
    from agssp.steps.cut_boxes import cut_boxes

    return cut_boxes(**asdict(arguments))
