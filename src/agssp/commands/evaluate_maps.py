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

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from agssp.command_lines import shell_command
from agssp.errors import InputError
from agssp.output_folder import claim_output, keeps_outputs
from agssp.terminal import on_terminal
from agssp.version import __version__

if TYPE_CHECKING:
    from agssp.data.mask_reading import MaskReading
    from agssp.evaluation.maps import Compared, Levels
    from agssp.maps.store import MapStore

POSITIONAL = ("maps",)
DELTAS = {"paper": np.linspace(-0.3, 0.3, 13), "relative": np.linspace(-0.4, 1.0, 15), "robust": np.arange(-6.0, 7.0)}
FIXED_THRESHOLDS = 40
LISTED = 5


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
@keeps_outputs
def main(arguments: EvaluateMapsArguments) -> dict[str, Any] | None:
    """Run the command.

    Returns:
        What metrics.json holds, on the main process; None on the others.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list, gather_object
    from tqdm import tqdm

    from agssp.commands.pseudo_boxes import PseudoBoxesArguments, threshold_rule
    from agssp.data.reading import read_told
    from agssp.evaluation.anomaly_metrics import PixelScores
    from agssp.evaluation.maps import TRUTH_COLUMNS, compare_shard, measure
    from agssp.files import write_json
    from agssp.maps.store import MapStore
    from agssp.processes import on_main_process
    from agssp.report.maps import write_map_report

    if arguments.rule not in ("auto", *DELTAS):
        raise InputError(f"--rule {arguments.rule!r}: expected auto, {', '.join(DELTAS)}")
    state = PartialState(cpu=True)
    store = MapStore.open(arguments.maps)
    rule, delta = threshold_rule(PseudoBoxesArguments(arguments.maps, "", threshold_rule=arguments.rule), store)
    dataset, report = read_told(
        arguments.dataset, split=arguments.split, category=arguments.category, crowds=arguments.crowds
    )
    index = {image_id: row for row, image_id in enumerate(dataset["image_id"])}
    truth = dataset.select_columns([name for name in TRUTH_COLUMNS if name in dataset.features])
    output = None if arguments.output is None else Path(arguments.output)
    found: list[Any] = []

    def look() -> None:
        check_images(arguments, store, index)
        masks = masks_of(truth)
        reading = mask_reading(truth, arguments.dataset) if masks == "masks" else None
        found.append((store.shards(), choose_levels(arguments, store, rule, delta), masks, reading))
        if output is None:
            return
        settings = {name: value for name, value in asdict(arguments).items() if name != "output"}
        claim_output(output, "evaluate-maps", settings, started=(output / "metrics.json").is_file())

    # One process looks for all, since the store may still be written to; the maps are divided.
    on_main_process(look)
    shards, levels, masks, reading = broadcast_object_list(found or [None])[0]
    pixels = {name: PixelScores() for name in levels.adaptive}
    parts = []
    with tqdm(total=len(index), desc="evaluate maps", unit="image", disable=not state.is_main_process) as progress:
        for number in range(state.process_index, len(shards), state.num_processes):
            entries = compare_shard(
                store, shards[number], truth, index, levels, pixels, masks=masks, reading=reading,
                done=lambda: progress.update(state.num_processes),
            )  # fmt: skip
            parts.append((number, entries))
    if state.num_processes > 1:
        parts = sorted(gather_object(parts), key=lambda part: part[0])
        shares = gather_object([{name: scores.counts for name, scores in pixels.items()}])
        pixels = {name: PixelScores() for name in levels.adaptive}
        for share in shares:
            for name, counts in share.items():
                pixels[name].merge(counts)
    if not state.is_main_process:
        return None
    compared = [entry for _, entries in parts for entry in entries]
    check_truth(compared, arguments.dataset)
    metrics = {
        "maps": arguments.maps,
        "teacher": store.manifest.get("teacher"),
        "dataset": arguments.dataset,
        "split": arguments.split,
        "rule": rule,
        "delta": delta,
        "deltas": levels.deltas.tolist(),
        "thresholds": levels.thresholds.tolist(),
        "masks": masks,
        "reading": report.as_json(),
        "mask_reading": None if reading is None or reading.is_plain else reading.words(),
        "with_crowds": images_with_crowds(truth),
        **measure(compared, pixels, levels),
        **left_out(compared, store, index),
        "agssp": __version__,
    }
    if output is not None:
        write_json(output / "metrics.json", metrics)
        write_map_report(output / "report.html", metrics, compared, store, dataset, levels, next_step(metrics), reading)
    print_metrics(metrics, output)
    return metrics


def check_images(arguments: EvaluateMapsArguments, store: "MapStore", index: dict[str, int]) -> None:
    """Raise unless the data set has images that the store has maps of."""
    names = store.table()["image_id"].to_pylist()
    if not any(name in index for name in names):
        like = f", which are named like {names[0]!r}, and these like {next(iter(index))!r}" if names else ""
        raise InputError(
            f"{arguments.dataset}: {arguments.maps} has no map of any of its {len(index)} images{like}; give the "
            "images that the maps were drawn of, read from the same folder, or draw maps of these with "
            "`agssp anomaly-maps`"
        )


def masks_of(truth: Any) -> str | None:
    """Where the pixels of defects are known from: `masks`, else `boxes` (crowd regions tell none), else None."""
    if "mask" in truth.features and any(mask is not None for mask in truth["mask"]):
        return "masks"
    if "objects" in truth.features and any(
        objects is not None and objects["bbox"] and not any(objects["iscrowd"]) for objects in truth["objects"]
    ):
        return "boxes"
    return None


def mask_reading(truth: Any, source: str) -> "MaskReading":
    """How the masks of a data set are read; a warning tells it where it had to be guessed."""
    from agssp.data.mask_reading import MaskReading
    from agssp.data.masks import named_masks

    reading = MaskReading.of(named_masks(truth.select_columns(["image_id", "mask"])), source)
    reading.tell(source)
    return reading


def images_with_crowds(truth: Any) -> int:
    """How many images have a box that is a crowd region."""
    if "objects" not in truth.features:
        return 0
    return sum(objects is not None and any(objects["iscrowd"]) for objects in truth["objects"])


def choose_levels(arguments: EvaluateMapsArguments, store: "MapStore", rule: str, delta: float) -> "Levels":
    """The thresholds to try: asked for, or over the rule's usual deltas and over the range of the store's maps."""
    from agssp.boxes.extraction import category_threshold
    from agssp.commands.pseudo_boxes import store_statistics
    from agssp.evaluation.maps import Levels

    statistics = store_statistics(store)
    deltas = flag_numbers("--deltas", arguments.deltas, DELTAS[rule])
    ranges = [(float(maps.min()), float(maps.max())) for _, maps in store.iter_shards() if len(maps)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    inside = np.linspace(low, high, FIXED_THRESHOLDS + 2)[1:-1]
    adaptive = {
        name: np.array([category_threshold(entry, rule, float(value)) for value in (delta, *deltas)])
        for name, entry in statistics.items()
    }
    return Levels(delta, deltas, flag_numbers("--thresholds", arguments.thresholds, inside), adaptive)


def flag_numbers(flag: str, asked: Sequence[float] | None, default: np.ndarray) -> np.ndarray:
    """The numbers of a flag, ascending, each once.

    Raises:
        InputError: there is none, or one is not finite.
    """
    # Steps of a tenth are meant to be just that, and zero without a sign.
    numbers = np.unique(np.asarray(default if asked is None else asked, np.float64).round(12)) + 0.0
    if not len(numbers) or not np.isfinite(numbers).all():
        raise InputError(f"{flag}: expected one or more finite numbers, got {asked}")
    return numbers


def check_truth(compared: Sequence["Compared"], source: str) -> None:
    """Raise if nothing tells of any image whether it is defective."""
    good = [entry for entry in compared if entry.error is None]
    if not good:
        raise InputError(
            f"{source}: the masks of all {len(compared)} images are unusable; the first: {compared[0].error}"
        )
    if all(entry.defective is None for entry in good):
        raise InputError(
            f"{source}: nothing tells which images are defective; expected masks (`mask_file_name` in metadata.jsonl, "
            "or folders such as `ground_truth`, `masks` and Pascal VOC's SegmentationClass), boxes (`objects`), or "
            "`is_normal` (folders `normal` and `defect`)"
        )


def left_out(compared: Sequence["Compared"], store: "MapStore", index: dict[str, int]) -> dict[str, Any]:
    """Images that count in no number, and why."""
    reasons = {entry["image_id"]: f"skipped by anomaly-maps: {entry['reason']}" for entry in store.skipped()}
    met = {entry.image_id for entry in compared}
    return {
        "skipped": [{"image_id": e.image_id, "reason": e.error} for e in compared if e.error is not None],
        "without_map": [
            {"image_id": name, "reason": reasons.get(name, "not in the map store")} for name in index if name not in met
        ],
        "maps_without_image": len(store) - len(compared),
    }


def print_metrics(metrics: dict[str, Any], output: Path | None) -> None:
    """The numbers that matter, a category a line."""
    rows = (
        metrics["categories"] if len(metrics["categories"]) == 1 else {**metrics["categories"], "all images": metrics}
    )
    width = max(map(len, rows))
    adaptive = f"{metrics['rule']} {metrics['delta']:g}"
    print(f"{'':<{width}}  images  image AUROC  pixel AUROC  mean IoU: {adaptive:>12}  best fixed (at)")
    for name, row in rows.items():
        iou = row["mean_iou"]
        image, pixel, default, best, place = (
            "-" if value is None else f"{value:.4f}"
            for value in (
                row["image_auroc"], row["pixel_auroc"], iou["default"], iou["best_threshold_iou"], iou["best_threshold"]
            )
        )  # fmt: skip
        print(f"{name:<{width}}  {row['images']:6d}  {image:>11}  {pixel:>11}  {default:>22}  {best:>10} ({place})")
    if metrics["masks"] == "boxes":
        print("boxes stand in for masks: IoU and pixel AUROC are of the boxes' whole area")
    if metrics["masks"] != "masks" and metrics["with_crowds"]:
        print(f"{metrics['with_crowds']} images have crowd regions (iscrowd 1), and no pixels that are known")
    if metrics["image_auroc"] is None:
        print(
            f"no image AUROC: it needs normal and defective images; known are {metrics['normal']} normal and "
            f"{metrics['defective']} defective ones"
        )
    for what, entries in (("skipped", metrics["skipped"]), ("images without a map", metrics["without_map"])):
        if entries:
            print(f"{len(entries)} {what}:")
        for entry in entries[:LISTED]:
            print(f"  {entry['image_id']}: {entry['reason']}")
    if output is not None:
        print(f"look at {output / 'report.html'}; numbers: {output / 'metrics.json'}")
    print(f"next: {next_step(metrics)}")


def next_step(metrics: dict[str, Any]) -> str:
    """The command that cuts boxes, with the delta that met the masks best where there are any."""
    # Boxes hold much sound surface, so the delta that fills them best is far too large for boxes of defects.
    best = metrics["mean_iou"]["best_delta"] if metrics["masks"] == "masks" else None
    delta = metrics["delta"] if best is None else best
    return shell_command(
        "pseudo-boxes", maps=metrics["maps"], threshold_rule=metrics["rule"], delta=f"{delta:g}", output="boxes",
        report=True,
    )  # fmt: skip
