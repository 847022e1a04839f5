"""Cut pseudo-defect boxes from a store of anomaly maps (Eq. 9 to 11)."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agssp.boxes.cutting import (
    DEFAULT_DELTA,
    one_thread,
    score_limits,
    store_statistics,
    summary,
    write_shard,
)
from agssp.boxes.cutting import (
    threshold_rule as chosen_rule,
)
from agssp.boxes.extraction import CategoryStatistics, category_threshold
from agssp.boxes.store import THRESHOLDS, BoxRows, check_yolo_names, write_coco, write_yolo
from agssp.command_lines import shell_command
from agssp.errors import InputError
from agssp.files import write_json
from agssp.maps.store import MapStore
from agssp.output_folder import hold_output
from agssp.steps.step import Asked, StepResult, step

logger = logging.getLogger(__name__)


@step
def cut_boxes(
    maps: str | Path,
    output: str | Path,
    *,
    threshold_rule: str = "auto",
    delta: float | None = None,
    top_k: int = 10,
    min_area: float | None = None,
    iou_threshold: float = 0.5,
    merge_distance: float = 0.0,
    score_threshold: float | None = None,
    score_quantile: float | None = None,
    coco: bool = False,
    yolo: bool = False,
    report: bool = False,
    dataset: str | None = None,
    workers: int = 0,
) -> StepResult:
    """Cut the boxes of every map in a store; what an earlier run has left in the output is replaced.

    Args:
        maps: folder of the store that `anomaly_maps` wrote.
        output: folder for data/boxes-*.parquet and thresholds.json, and for what else is asked for.
        threshold_rule: `paper` (mean of the maxima less delta), `relative` (delta as a share of that mean less the
            median), `robust` (median of the maxima and delta MADs), `fixed` (delta itself); `auto`: `paper` for
            teachers that read text, else `relative`.
        delta: the rule's number; None: paper 0.1, relative 0.2, robust 3.
        top_k: boxes an image at most.
        min_area: smaller components, in px, are dropped; None: see `pseudo_boxes`.
        iou_threshold: overlap, 0 to 1, above which the lower box is dropped.
        merge_distance: boxes closer than this, in px, become one.
        score_threshold: only images with a higher image score get boxes (T of the paper).
        score_quantile: the same as a quantile of the category's image scores, 0 to 1.
        coco: write coco.json.
        yolo: write yolo/ (labels and data.yaml).
        report: write report.html.
        dataset: images for the report; None: what the maps were made of.
        workers: processes; 0: one a core.

    Returns:
        The result, whose `numbers` are what thresholds.json holds; on all processes but the first one without any.

    Raises:
        InputError: there is no such store or none of its shards is finished, a keyword cannot be used, or the output
            holds something else.
    """
    asked = Asked(**locals())
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    from agssp.processes import on_main_process

    store = MapStore.open(maps)
    rule, chosen_delta = chosen_rule(store, threshold_rule, delta)
    check_flags(asked)
    folder = Path(output)
    found: list[Any] = []

    def look() -> None:
        check_output(folder)
        hold_output(folder, "pseudo-boxes")
        shards = store.shards()
        if not shards:
            raise InputError(f"{maps}: has no finished shard; run `agssp anomaly-maps` again to finish it")
        if yolo:
            # Before the boxes are cut, which may take hours.
            check_yolo_names((name.as_py() for name in store.table()["image_id"]), folder / "yolo")
        found.append((shards, store_statistics(store), score_limits(store, score_threshold, score_quantile)))

    # Told that it needs no GPU, since accelerate takes processes without one for strangers otherwise.
    state = PartialState(cpu=True)
    # One process looks for all, since the store may still be written to; the boxes are divided.
    on_main_process(look)
    shards, statistics, scores = broadcast_object_list(found or [None])[0]
    thresholds = {name: category_threshold(entry, rule, chosen_delta) for name, entry in statistics.items()}
    if state.is_main_process:
        print_thresholds(statistics, thresholds, rule, chosen_delta)
        print_warnings(store, statistics, thresholds)
        clear_output(folder)
    state.wait_for_everyone()
    options = {
        "top_k": top_k,
        "min_area": min_area,
        "iou_threshold": iou_threshold,
        "merge_distance": merge_distance,
    }
    files = write_shards(store, shards, folder, workers, state, (thresholds, scores, options))
    state.wait_for_everyone()
    if not state.is_main_process:
        return StepResult("cut_boxes")

    rows = BoxRows(files)
    facts = {
        "maps": str(maps),
        "teacher": store.manifest.get("teacher"),
        "licence": store.manifest.get("licence"),
        "rule": rule,
        "delta": chosen_delta,
        **options,
        "score_threshold": score_threshold,
        "score_quantile": score_quantile,
        "categories": {
            name: {**asdict(statistics[name]), "threshold": thresholds[name], "score_limit": scores.get(name)}
            for name in statistics
        },
        **summary(rows),
    }
    if coco:
        write_coco(folder / "coco.json", rows)
    if yolo:
        write_yolo(folder / "yolo", rows)
    write_json(folder / THRESHOLDS, facts)
    if report:
        from agssp.report.boxes import write_box_report

        write_box_report(folder / "report.html", store, rows, facts, dataset)
    return StepResult(
        "cut_boxes",
        output=folder,
        lines=tuple(_lines(facts, folder, report)),
        numbers=facts,
        report=folder / "report.html" if report else None,
        next=next_step(store, maps),
    ).tell()


def clear_output(folder: Path) -> None:
    """Take away boxes of another run, which must not be mixed with these: the new thresholds come last."""
    for name in (
        THRESHOLDS, "data/boxes-*.parquet", "coco.json", "yolo/data.yaml", "yolo/labels/**/*.txt", "report.html",
        "data/.*.partial", "yolo/.*.partial", "yolo/labels/**/.*.partial",
    ):  # fmt: skip
        for old in folder.glob(name):
            old.unlink()


def write_shards(
    store: MapStore, shards: Sequence[Path], folder: Path, workers: int, state: Any, how: tuple[Any, ...]
) -> list[Path]:
    """Write the boxes of this process's share of the shards, several at a time.

    Args:
        store: of maps.
        shards: all of its files.
        folder: of the boxes.
        workers: processes; 0: one a core.
        state: accelerate's, of all processes of the run.
        how: thresholds, score limits and options, as `write_shard` takes them.

    Returns:
        The files of all shards, those of other processes among them.
    """
    from tqdm import tqdm

    count = len(shards)
    files = [folder.absolute() / "data" / f"boxes-{index:05d}-of-{count:05d}.parquet" for index in range(count)]
    share = range(state.process_index, count, state.num_processes)
    jobs = [(files[index], str(store.path), shards[index], *how) for index in share]
    workers = min(workers or (os.cpu_count() or 1) // state.num_processes or 1, max(len(jobs), 1))
    with (
        tqdm(total=len(store), desc="pseudo boxes", unit="image", disable=not state.is_main_process) as progress,
        ProcessPoolExecutor(workers, initializer=one_thread) if workers > 1 else contextlib.nullcontext() as pool,
    ):
        counts = pool.map(write_shard, *zip(*jobs, strict=True)) if pool else (write_shard(*job) for job in jobs)
        for images in counts:
            progress.update(images * min(state.num_processes, count))
    return files


def _lines(facts: dict[str, Any], folder: Path, report: bool) -> Iterator[str]:
    """How many boxes there are on which images, and where."""
    if report:
        yield f"report: {folder / 'report.html'}"
    yield f"{facts['boxes']} boxes on {facts['images_with_boxes']} of {facts['images']} images in {folder}"
    if facts["normal_images"]:
        yield f"{facts['normal_images_with_boxes']} of {facts['normal_images']} normal images got boxes"


def next_step(store: MapStore, maps: str | Path) -> str:
    """The command that distils the maps into a backbone."""
    source = dict(store.manifest.get("source") or {"dataset": "IMAGES"})
    return shell_command("pretrain-backbone", **source, maps=maps, backbone="yolov8n", output="backbone")


def check_flags(asked: Asked) -> None:
    """Raise for a number that makes no sense."""
    if asked.score_threshold is not None and asked.score_quantile is not None:
        raise InputError("give --score-threshold or --score-quantile, not both")
    if asked.score_quantile is not None and not 0 <= asked.score_quantile <= 1:
        raise InputError(f"--score-quantile {asked.score_quantile}: expected 0 to 1")
    if not 0 <= asked.iou_threshold <= 1:
        raise InputError(f"--iou-threshold {asked.iou_threshold}: expected 0 to 1")
    if asked.top_k < 1:
        raise InputError(f"--top-k {asked.top_k}: expected 1 or more")
    if asked.workers < 0:
        raise InputError(f"--workers {asked.workers}: expected 0, for one a core, or more")


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


def print_thresholds(
    statistics: dict[str, CategoryStatistics], thresholds: dict[str, float], rule: str, delta: float
) -> None:
    """Print each category's threshold beside the paper's."""
    logger.info(f"threshold rule: {rule}")
    width = max(len("category"), *map(len, statistics))
    logger.info(f"{'category':<{width}}  images  mean max  median  paper's T (delta 0.1)  {rule} T (delta {delta:g})")
    for name, entry in statistics.items():
        paper = category_threshold(entry, "paper", DEFAULT_DELTA["paper"])
        logger.info(
            f"{name:<{width}}  {entry.images:6d}  {entry.mean_max:8.4f}  {entry.median:6.4f}  {paper:21.4f}  "
            f"{thresholds[name]:.4f}"
        )


def print_warnings(store: MapStore, statistics: dict[str, CategoryStatistics], thresholds: dict[str, float]) -> None:
    """Say what makes boxes worthless without being an error."""
    low = [name for name, entry in statistics.items() if thresholds[name] < entry.median]
    if low:
        logger.warning(
            f"warning: {', '.join(low)}: the threshold is below ordinary surface, so boxes will cover most of an "
            "image; try --threshold-rule relative or a smaller --delta"
        )
    done = store.shards()
    wanted = int(done[0].stem.partition("-of-")[2] or len(done))
    if len(done) < wanted:
        logger.warning(
            f"warning: {len(done)} of {wanted} shards are finished, and thresholds and boxes are of these alone; "
            "`agssp anomaly-maps` with the store's flags finishes it"
        )
