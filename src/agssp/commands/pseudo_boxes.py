"""Cut pseudo-defect boxes from a store of anomaly maps.

agssp pseudo-boxes --maps maps --output boxes --report
agssp pseudo-boxes --maps maps --threshold-rule paper --delta 0.1 --coco --yolo --output boxes

OUTPUT/data/boxes-*.parquet (`objects` with one class, defect), OUTPUT/thresholds.json; on request coco.json, yolo/ and
report.html.
"""

import contextlib
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from agssp.boxes.extraction import RULES, CategoryStatistics, category_statistics, category_threshold, pseudo_boxes
from agssp.boxes.store import (
    THRESHOLDS,
    BoxRows,
    check_yolo_names,
    pseudo_objects,
    write_boxes,
    write_coco,
    write_yolo,
)
from agssp.command_lines import shell_command
from agssp.errors import InputError
from agssp.files import write_json
from agssp.maps.store import MapStore
from agssp.output_folder import hold_output, keeps_outputs
from agssp.terminal import on_terminal

POSITIONAL = ()
DEFAULT_DELTA = {"paper": 0.1, "relative": 0.2, "robust": 3.0}


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
@keeps_outputs
def main(arguments: PseudoBoxesArguments) -> None:
    """Write the boxes of every map in the store."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list
    from tqdm import tqdm

    from agssp.processes import on_main_process

    store = MapStore.open(arguments.maps)
    rule, delta = threshold_rule(arguments, store)
    check_flags(arguments)
    output = Path(arguments.output)
    found: list[Any] = []

    def look() -> None:
        check_output(output)
        hold_output(output, "pseudo-boxes")
        shards = store.shards()
        if not shards:
            raise InputError(f"{arguments.maps}: has no finished shard; run `agssp anomaly-maps` again to finish it")
        if arguments.yolo:
            # Before the boxes are cut, which may take hours.
            check_yolo_names((name.as_py() for name in store.table()["image_id"]), output / "yolo")
        found.append((shards, store_statistics(store), score_limits(arguments, store)))

    # Told that it needs no GPU, since accelerate takes processes without one for strangers otherwise.
    state = PartialState(cpu=True)
    # One process looks for all, since the store may still be written to; the boxes are divided.
    on_main_process(look)
    shards, statistics, scores = broadcast_object_list(found or [None])[0]
    thresholds = {name: category_threshold(entry, rule, delta) for name, entry in statistics.items()}
    if state.is_main_process:
        print_thresholds(statistics, thresholds, rule, delta)
        print_warnings(store, statistics, thresholds)
        # Boxes of another run must not be mixed with these: the old thresholds go first, the new ones come last.
        for name in (
            THRESHOLDS,
            "data/boxes-*.parquet",
            "coco.json",
            "yolo/data.yaml",
            "yolo/labels/**/*.txt",
            "report.html",
            "data/.*.partial",
            "yolo/.*.partial",
            "yolo/labels/**/.*.partial",
        ):
            for old in output.glob(name):
                old.unlink()
    state.wait_for_everyone()
    options = {
        "top_k": arguments.top_k,
        "min_area": arguments.min_area,
        "iou_threshold": arguments.iou_threshold,
        "merge_distance": arguments.merge_distance,
    }
    count = len(shards)
    files = [output.absolute() / "data" / f"boxes-{index:05d}-of-{count:05d}.parquet" for index in range(count)]
    share = range(state.process_index, count, state.num_processes)
    jobs = [(files[index], str(store.path), shards[index], thresholds, scores, options) for index in share]
    workers = min(arguments.workers or (os.cpu_count() or 1) // state.num_processes or 1, max(len(jobs), 1))
    with (
        tqdm(total=len(store), desc="pseudo boxes", unit="image", disable=not state.is_main_process) as progress,
        ProcessPoolExecutor(workers, initializer=one_thread) if workers > 1 else contextlib.nullcontext() as pool,
    ):
        counts = pool.map(write_shard, *zip(*jobs, strict=True)) if pool else (write_shard(*job) for job in jobs)
        for images in counts:
            progress.update(images * min(state.num_processes, count))
    state.wait_for_everyone()
    if not state.is_main_process:
        return

    rows = BoxRows(files)
    facts = {
        "maps": str(arguments.maps),
        "teacher": store.manifest.get("teacher"),
        "licence": store.manifest.get("licence"),
        "rule": rule,
        "delta": delta,
        **options,
        "score_threshold": arguments.score_threshold,
        "score_quantile": arguments.score_quantile,
        "categories": {
            name: {**asdict(statistics[name]), "threshold": thresholds[name], "score_limit": scores.get(name)}
            for name in statistics
        },
        **summary(rows),
    }
    if arguments.coco:
        write_coco(output / "coco.json", rows)
    if arguments.yolo:
        write_yolo(output / "yolo", rows)
    write_json(output / THRESHOLDS, facts)
    if arguments.report:
        from agssp.report.boxes import write_box_report

        write_box_report(output / "report.html", store, rows, facts, arguments.dataset)
        print(f"report: {output / 'report.html'}")
    print(f"{facts['boxes']} boxes on {facts['images_with_boxes']} of {facts['images']} images in {output}")
    if facts["normal_images"]:
        print(f"{facts['normal_images_with_boxes']} of {facts['normal_images']} normal images got boxes")
    source = dict(store.manifest.get("source") or {"dataset": "IMAGES"})
    command = shell_command("pretrain-backbone", **source, maps=arguments.maps, backbone="yolov8n", output="backbone")
    print(f"next: {command}")


def check_flags(arguments: PseudoBoxesArguments) -> None:
    """Raise for a number that makes no sense."""
    if arguments.score_threshold is not None and arguments.score_quantile is not None:
        raise InputError("give --score-threshold or --score-quantile, not both")
    if arguments.score_quantile is not None and not 0 <= arguments.score_quantile <= 1:
        raise InputError(f"--score-quantile {arguments.score_quantile}: expected 0 to 1")
    if not 0 <= arguments.iou_threshold <= 1:
        raise InputError(f"--iou-threshold {arguments.iou_threshold}: expected 0 to 1")
    if arguments.top_k < 1:
        raise InputError(f"--top-k {arguments.top_k}: expected 1 or more")
    if arguments.workers < 0:
        raise InputError(f"--workers {arguments.workers}: expected 0, for one a core, or more")


def check_output(output: Path) -> None:
    """Raise unless the folder is new, empty, or holds the boxes of an earlier run, which will be replaced."""
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: expected a folder, there is a file of that name")
    # Hidden files are what an interrupted run left behind.
    files = [file for file in output.rglob("*") if file.is_file() and not file.name.startswith(".")]
    present = {file.relative_to(output).parts[0] for file in files}
    foreign = sorted(present - {"data", THRESHOLDS, "coco.json", "yolo", "report.html"})
    ours = (output / THRESHOLDS).is_file() or any((output / "data").glob("boxes-*.parquet"))
    if foreign or (files and not ours):
        names = foreign or sorted(present)
        raise InputError(f"--output {output}: holds {', '.join(names[:4])}, which are no boxes; give a new folder")


def threshold_rule(arguments: PseudoBoxesArguments, store: MapStore) -> tuple[str, float]:
    """The rule and its delta: as asked for, or by the kind of teacher."""
    rule = arguments.threshold_rule
    if rule == "auto":
        rule = "relative" if str(store.manifest.get("teacher", "")).startswith("timm:") else "paper"
    if rule not in RULES:
        raise InputError(f"--threshold-rule {rule!r}: expected auto, {', '.join(RULES)}")
    if rule == "fixed" and arguments.delta is None:
        raise InputError("--threshold-rule fixed needs --delta, the threshold itself")
    return rule, float(arguments.delta if arguments.delta is not None else DEFAULT_DELTA[rule])


def store_statistics(store: MapStore) -> dict[str, CategoryStatistics]:
    """Statistics of each category over the whole store, shard by shard."""
    maxima: dict[int, list[np.ndarray]] = {}
    medians: dict[int, list[np.ndarray]] = {}
    for table, maps in store.iter_shards():
        categories = table["category"].to_numpy()
        flat = maps.reshape(len(maps), store.grid_size**2)
        for category in np.unique(categories):
            part = flat[categories == category]
            maxima.setdefault(int(category), []).append(part.max(1))
            medians.setdefault(int(category), []).append(np.median(part, axis=1))
    if not maxima:
        skipped = store.skipped()
        first = f", the first: {skipped[0]['image_id']}: {skipped[0]['reason']}" if skipped else ""
        raise InputError(f"{store.path}: holds no map; {len(skipped)} images were skipped{first}")
    return {
        store.categories[category]: category_statistics(
            np.concatenate(maxima[category]), np.concatenate(medians[category])
        )
        for category in sorted(maxima)
    }


def score_limits(arguments: PseudoBoxesArguments, store: MapStore) -> dict[str, float]:
    """The image score each category's images must exceed to get boxes; empty for no limit."""
    if arguments.score_threshold is not None:
        return dict.fromkeys(store.categories, arguments.score_threshold)
    if arguments.score_quantile is None:
        return {}
    table = store.table()
    categories, scores = table["category"].to_numpy(), table["anomaly_score"].to_numpy()
    return {
        store.categories[category]: float(np.quantile(scores[categories == category], arguments.score_quantile))
        for category in np.unique(categories)
    }


def one_thread() -> None:
    """Keep a worker to its one core; the threads of torch and OpenCV would fight over it."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def write_shard(
    file: Path,
    store_path: str,
    path: Path,
    thresholds: dict[str, float],
    scores: dict[str, float],
    options: dict[str, Any],
) -> int:
    """Write the boxes of one shard, which no other process needs to hold; how many images it has."""
    rows = shard_boxes(store_path, path, thresholds, scores, options)
    write_boxes(file, MapStore.open(store_path).categories, rows)
    return len(rows)


def shard_boxes(
    store_path: str, path: Path, thresholds: dict[str, float], scores: dict[str, float], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows of `box_features` for one shard."""
    store = MapStore.open(store_path)
    table, maps = store.read_shard(path)
    rows = []
    for row, anomaly_map in zip(table.to_pylist(), maps, strict=True):
        name = store.categories[row["category"]]
        gated = name in scores and not row["anomaly_score"] > scores[name]
        limit = float("inf") if gated else thresholds[name]
        found = pseudo_boxes(anomaly_map, (row["height"], row["width"]), limit, **options)
        bbox = found.boxes.copy()
        bbox[:, 2:] -= bbox[:, :2]
        objects = pseudo_objects(bbox, found.scores)
        rows.append({key: value for key, value in row.items() if key != "map_max"} | {"objects": objects})
    return rows


def print_thresholds(
    statistics: dict[str, CategoryStatistics], thresholds: dict[str, float], rule: str, delta: float
) -> None:
    """Print each category's threshold beside the paper's."""
    print(f"threshold rule: {rule}")
    width = max(len("category"), *map(len, statistics))
    print(f"{'category':<{width}}  images  mean max  median  paper's T (delta 0.1)  {rule} T (delta {delta:g})")
    for name, entry in statistics.items():
        paper = category_threshold(entry, "paper", DEFAULT_DELTA["paper"])
        print(
            f"{name:<{width}}  {entry.images:6d}  {entry.mean_max:8.4f}  {entry.median:6.4f}  {paper:21.4f}  "
            f"{thresholds[name]:.4f}"
        )


def print_warnings(store: MapStore, statistics: dict[str, CategoryStatistics], thresholds: dict[str, float]) -> None:
    """Say what makes boxes worthless without being an error."""
    low = [name for name, entry in statistics.items() if thresholds[name] < entry.median]
    if low:
        print(
            f"warning: {', '.join(low)}: the threshold is below ordinary surface, so boxes will cover most of an "
            "image; try --threshold-rule relative or a smaller --delta"
        )
    done = store.shards()
    wanted = int(done[0].stem.partition("-of-")[2] or len(done))
    if len(done) < wanted:
        print(
            f"warning: {len(done)} of {wanted} shards are finished, and thresholds and boxes are of these alone; "
            "`agssp anomaly-maps` with the store's flags finishes it"
        )


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Counts of images and boxes, and how many normal images got boxes."""
    names = ("images", "images_with_boxes", "boxes", "normal_images", "normal_images_with_boxes")
    counts = dict.fromkeys(names, 0)
    for row in rows:
        boxes, is_normal = len(row["objects"]["bbox"]), bool(row["is_normal"])
        counts["images"] += 1
        counts["images_with_boxes"] += boxes > 0
        counts["boxes"] += boxes
        counts["normal_images"] += is_normal
        counts["normal_images_with_boxes"] += is_normal and boxes > 0
    return counts
