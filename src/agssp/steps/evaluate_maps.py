"""Measure anomaly maps: AUROC, and mask IoU at adaptive and fixed thresholds (Table 4 and Fig. 7)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agssp.command_lines import shell_command
from agssp.data.source_names import source_name
from agssp.errors import InputError
from agssp.output_folder import claim_output
from agssp.steps.step import Asked, StepResult, step
from agssp.version import __version__

if TYPE_CHECKING:
    from agssp.data.mask_reading import MaskReading
    from agssp.evaluation.maps import Compared, Levels
    from agssp.maps.store import MapStore

DELTAS = {"paper": np.linspace(-0.3, 0.3, 13), "relative": np.linspace(-0.4, 1.0, 15), "robust": np.arange(-6.0, 7.0)}
FIXED_THRESHOLDS = 40
LISTED = 5


@step
def evaluate_maps(
    maps: str | Path,
    dataset: Any,
    output: str | Path | None = None,
    *,
    rule: str = "auto",
    deltas: list[float] | None = None,
    thresholds: list[float] | None = None,
    split: str | None = None,
    category: str | None = None,
    crowds: str = "auto",
) -> StepResult:
    """Measure maps on labelled images.

    Args:
        maps: folder of the store that `anomaly_maps` wrote.
        dataset: the same images with masks, boxes or `is_normal`: any labelled data set.
        output: folder for metrics.json and report.html; None: nothing is written.
        rule: adaptive threshold: `auto`, `paper`, `relative` or `robust`, as in `cut_boxes`.
        deltas: deltas of the rule; None: paper -0.3 to 0.3, relative -0.4 to 1, robust -6 to 6.
        thresholds: fixed thresholds in the maps' units; None: 40 over the maps' range.
        split: of a data set that has several.
        category: as for `anomaly_maps`; numbers are by the categories of the maps.
        crowds: what boxes with iscrowd 1 are: `objects`, `ignore` (regions), or `auto`: objects if all of a file have
            it.

    Returns:
        The result, whose `numbers` are what metrics.json holds (`agssp evaluate-maps --help` lists it); on all
        processes but the first one without any.

    Raises:
        InputError: the store or the data set cannot be used, none of its images has a map, nothing tells which are
            defective, or a keyword makes no sense.
    """
    asked = Asked(**locals())
    asked.maps, asked.dataset = str(maps), source_name(dataset)
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list, gather_object
    from tqdm import tqdm

    from agssp.boxes.cutting import threshold_rule
    from agssp.data.reading import read_told
    from agssp.evaluation.anomaly_metrics import PixelScores
    from agssp.evaluation.maps import TRUTH_COLUMNS, compare_shard, measure
    from agssp.files import write_json
    from agssp.maps.store import MapStore
    from agssp.processes import on_main_process
    from agssp.report.maps import write_map_report

    if rule not in ("auto", *DELTAS):
        raise InputError(f"--rule {rule!r}: expected auto, {', '.join(DELTAS)}")
    state = PartialState(cpu=True)
    store = MapStore.open(maps)
    chosen, delta = threshold_rule(store, rule)
    images, reading = read_told(dataset, split=split, category=category, crowds=crowds)
    index = {image_id: row for row, image_id in enumerate(images["image_id"])}
    truth = images.select_columns([name for name in TRUTH_COLUMNS if name in images.features])
    folder = None if output is None else Path(output)
    found: list[Any] = []

    def look() -> None:
        check_images(asked, store, index)
        masks = masks_of(truth)
        values = mask_reading(truth, asked.dataset) if masks == "masks" else None
        found.append((store.shards(), choose_levels(asked, store, chosen, delta), masks, values))
        if folder is not None:
            started = (folder / "metrics.json").is_file()
            claim_output(folder, "evaluate-maps", asked.settings("output"), started=started)

    # One process looks for all, since the store may still be written to; the maps are divided.
    on_main_process(look)
    shards, levels, masks, values = broadcast_object_list(found or [None])[0]
    pixels = {name: PixelScores() for name in levels.adaptive}
    parts = []
    with tqdm(total=len(index), desc="evaluate maps", unit="image", disable=not state.is_main_process) as progress:
        for number in range(state.process_index, len(shards), state.num_processes):
            entries = compare_shard(
                store, shards[number], truth, index, levels, pixels, masks=masks, reading=values,
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
        return StepResult("evaluate_maps")
    compared = [entry for _, entries in parts for entry in entries]
    check_truth(compared, asked.dataset)
    metrics = {
        "maps": asked.maps,
        "teacher": store.manifest.get("teacher"),
        "dataset": asked.dataset,
        "split": split,
        "rule": chosen,
        "delta": delta,
        "deltas": levels.deltas.tolist(),
        "thresholds": levels.thresholds.tolist(),
        "masks": masks,
        "reading": reading.as_json(),
        "mask_reading": None if values is None or values.is_plain else values.words(),
        "with_crowds": images_with_crowds(truth),
        **measure(compared, pixels, levels),
        **left_out(compared, store, index),
        "agssp": __version__,
    }
    if folder is not None:
        write_json(folder / "metrics.json", metrics)
        write_map_report(folder / "report.html", metrics, compared, store, images, levels, next_step(metrics), values)
    return StepResult(
        "evaluate_maps",
        output=folder,
        lines=tuple(_lines(metrics, folder)),
        numbers=metrics,
        report=None if folder is None else folder / "report.html",
        next=next_step(metrics),
    ).tell()


def check_images(asked: Asked, store: "MapStore", index: dict[str, int]) -> None:
    """Raise unless the data set has images that the store has maps of."""
    names = store.table()["image_id"].to_pylist()
    if not any(name in index for name in names):
        like = f", which are named like {names[0]!r}, and these like {next(iter(index))!r}" if names else ""
        raise InputError(
            f"{asked.dataset}: {asked.maps} has no map of any of its {len(index)} images{like}; give the "
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


def choose_levels(asked: Asked, store: "MapStore", rule: str, delta: float) -> "Levels":
    """The thresholds to try: asked for, or over the rule's usual deltas and over the range of the store's maps."""
    from agssp.boxes.cutting import store_statistics
    from agssp.boxes.extraction import category_threshold
    from agssp.evaluation.maps import Levels

    statistics = store_statistics(store)
    deltas = flag_numbers("--deltas", asked.deltas, DELTAS[rule])
    ranges = [(float(maps.min()), float(maps.max())) for _, maps in store.iter_shards() if len(maps)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    inside = np.linspace(low, high, FIXED_THRESHOLDS + 2)[1:-1]
    adaptive = {
        name: np.array([category_threshold(entry, rule, float(value)) for value in (delta, *deltas)])
        for name, entry in statistics.items()
    }
    return Levels(delta, deltas, flag_numbers("--thresholds", asked.thresholds, inside), adaptive)


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


def _lines(metrics: dict[str, Any], output: Path | None) -> Iterator[str]:
    """The numbers that matter, a category a line."""
    rows = (
        metrics["categories"] if len(metrics["categories"]) == 1 else {**metrics["categories"], "all images": metrics}
    )
    width = max(map(len, rows))
    adaptive = f"{metrics['rule']} {metrics['delta']:g}"
    yield f"{'':<{width}}  images  image AUROC  pixel AUROC  mean IoU: {adaptive:>12}  best fixed (at)"
    for name, row in rows.items():
        iou = row["mean_iou"]
        image, pixel, default, best, place = (
            "-" if value is None else f"{value:.4f}"
            for value in (
                row["image_auroc"], row["pixel_auroc"], iou["default"], iou["best_threshold_iou"], iou["best_threshold"]
            )
        )  # fmt: skip
        yield f"{name:<{width}}  {row['images']:6d}  {image:>11}  {pixel:>11}  {default:>22}  {best:>10} ({place})"
    if metrics["masks"] == "boxes":
        yield "boxes stand in for masks: IoU and pixel AUROC are of the boxes' whole area"
    if metrics["masks"] != "masks" and metrics["with_crowds"]:
        yield f"{metrics['with_crowds']} images have crowd regions (iscrowd 1), and no pixels that are known"
    if metrics["image_auroc"] is None:
        yield (
            f"no image AUROC: it needs normal and defective images; known are {metrics['normal']} normal and "
            f"{metrics['defective']} defective ones"
        )
    for what, entries in (("skipped", metrics["skipped"]), ("images without a map", metrics["without_map"])):
        if entries:
            yield f"{len(entries)} {what}:"
        for entry in entries[:LISTED]:
            yield f"  {entry['image_id']}: {entry['reason']}"
    if output is not None:
        yield f"look at {output / 'report.html'}; numbers: {output / 'metrics.json'}"


def next_step(metrics: dict[str, Any]) -> str:
    """The command that cuts boxes, with the delta that met the masks best where there are any."""
    # Boxes hold much sound surface, so the delta that fills them best is far too large for boxes of defects.
    best = metrics["mean_iou"]["best_delta"] if metrics["masks"] == "masks" else None
    delta = metrics["delta"] if best is None else best
    return shell_command(
        "pseudo-boxes", maps=metrics["maps"], threshold_rule=metrics["rule"], delta=f"{delta:g}", output="boxes",
        report=True,
    )  # fmt: skip
