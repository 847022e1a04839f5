"""How good anomaly maps are: AUROC, and mask IoU at adaptive and fixed thresholds (Table 4 and Fig. 7).

    agssp evaluate-maps maps --dataset labelled --output evaluation
    agssp evaluate-maps maps --dataset NEU-DET --rule relative --deltas 0 0.1 0.2 0.3 --output evaluation

OUTPUT/metrics.json and OUTPUT/report.html. Without --output the numbers are only printed. On several processes
(`torchrun --nproc-per-node 2 scripts/evaluate_maps.py ...`) the numbers are the same. What metrics.json holds, null
where a number cannot be given:

- `rule` and `delta`: of the adaptive threshold, as `agssp pseudo-boxes` takes them for this teacher; `deltas` and
  `thresholds`: other deltas, and fixed thresholds in the maps' units, both ascending;
- `masks`: where the pixels come from: `masks`, or `boxes` that stand in for them; null if neither is there;
- `mask_reading`: how the masks' values were read, decided from the first 100 of them, where they are more than two;
  else null. Pixels that are to be ignored, such as VOC's void border, count in no number;
- `images`, `normal`, `defective`, `with_masks`: how many were compared, are known to be so, have known pixels;
- `with_crowds`: how many images have boxes that are crowd regions, so that boxes do not tell their pixels;
- `image_auroc`, `pixel_auroc`, `image_average_precision`, `pixel_average_precision`;
- `mean_iou` (over the images with a defect in their mask) and `pooled_iou` (of all known pixels, sound images' too),
  each {`default`: at `delta`, `by_delta`: [...], `by_threshold`: [...], `best_delta`, `best_delta_iou`,
  `best_threshold`, `best_threshold_iou`};
- `categories`: name -> the same from `images` on, and `threshold`, the adaptive one at `delta`;
- `skipped` and `without_map`: [{`image_id`, `reason`}], images that count in no number; `maps_without_image`: how many
  maps are of images that the data set does not have.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, ClassVar

from agssp.terminal import on_terminal

if TYPE_CHECKING:
    from agssp.steps.step import StepResult

POSITIONAL = ("maps",)


@dataclass
class EvaluateMapsArguments:
    """Which maps to measure, on which labelled images."""

    flag_groups: ClassVar = {
        "input": ("maps", "dataset", "split", "category", "crowds"),
        "measuring": ("rule", "deltas", "thresholds"),
        "output": ("output",),
    }

    maps: str = field(metadata={"help": "map store that `agssp anomaly-maps` wrote"})
    dataset: str = field(metadata={"help": "the same images with masks, boxes or `is_normal`: any labelled data set"})
    output: str | None = field(default=None, metadata={"help": "folder for metrics.json and the page"})
    rule: str = field(
        default="auto", metadata={"help": "adaptive threshold: auto, paper, relative or robust, as in `pseudo-boxes`"}
    )
    deltas: list[float] | None = field(
        default=None,
        metadata={"help": "deltas of the rule; default: paper -0.3 to 0.3, relative -0.4 to 1, robust -6 to 6"},
    )
    thresholds: list[float] | None = field(
        default=None, metadata={"help": "fixed thresholds in the maps' units; default: 40 over the maps' range"}
    )
    split: str | None = field(default=None, metadata={"help": "split of a data set that has several"})
    category: str | None = field(
        default=None, metadata={"help": "as for `anomaly-maps`; numbers are by the categories of the maps"}
    )
    crowds: str = field(
        default="auto",
        metadata={"help": "boxes with iscrowd 1: objects, ignore (regions), or auto: objects if all of a file have it"},
    )


ARGUMENTS = (EvaluateMapsArguments,)


@on_terminal
def main(arguments: EvaluateMapsArguments) -> "StepResult":
    """Run the command."""
    from agssp.steps.evaluate_maps import evaluate_maps

    return evaluate_maps(**asdict(arguments))
