"""Measure a detector: COCO mAP on labelled images, a class at a time and by size."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agssp.command_lines import shell_command
from agssp.data.source_names import source_name
from agssp.errors import InputError
from agssp.files import write_json
from agssp.output_folder import claim_output
from agssp.processes import on_main_process
from agssp.steps.given import model_name
from agssp.steps.step import Asked, StepResult, step
from agssp.version import __version__

logger = logging.getLogger(__name__)
CLASS_AGNOSTIC = "defect"
SHOWN = 8


@step
def evaluate(
    model: Any,
    dataset: Any,
    output: str | Path | None = None,
    *,
    split: str | None = None,
    crowds: str = "auto",
    threshold: float = 0.001,
    shown_threshold: float = 0.25,
    iou_threshold: float | None = None,
    max_detections: int = 300,
    class_agnostic: bool = False,
    image_size: int | None = None,
    batch_size: int = 16,
    device: str = "auto",
) -> StepResult:
    """Measure a detector on labelled images.

    Args:
        model: folder, Hub id, or safetensors file of COCO weights; or a detector itself.
        dataset: labelled images: folder, COCO, YOLO, VOC, Parquet or Hub id; or a `Dataset`.
        output: folder for metrics.json, precision_recall.png and report.html; None: nothing is written.
        split: of a data set that has several.
        crowds: what boxes with iscrowd 1 are: `objects`, `ignore` (regions), or `auto`: objects if all of a file have
            it.
        threshold: lowest score that counts, 0 to 1; average precision wants it low.
        shown_threshold: lowest score of the boxes in the page's pictures, 0 to 1.
        iou_threshold: of two boxes that overlap more than this one goes; None: 0.7 for YOLO, else as trained.
        max_detections: most boxes in one image; COCO counts the best 100.
        class_agnostic: count all classes as one, to measure detectors of one class.
        image_size: side of the square input in px; None: the model's own.
        batch_size: images in one forward pass.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        The result, whose `numbers` are what metrics.json holds; on all processes but the first one without any.

    Raises:
        InputError: the model, the data set or a keyword cannot be used, or the output holds something else.
    """
    asked = Asked(**locals())
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from agssp.data.origin import describe_source
    from agssp.data.readers.relabelling import without_unused
    from agssp.data.reading import read_labelled
    from agssp.data.schema import defect_names
    from agssp.evaluation.inference import check_detection_flags, choose_device, load_detector

    check_detection_flags(asked)
    chosen = choose_device(device)
    state = PartialState(cpu=chosen.type == "cpu")
    asked.model, asked.dataset = model_name(model), source_name(dataset)
    images, reading = read_labelled(dataset, split=split, crowds=crowds, boxes_needed=False)
    listed = defect_names(images)
    detector = load_detector(model, listed)
    id2label = {int(index): name for index, name in (detector.config.id2label or {}).items()}
    images = without_unused(images, asked.dataset, list(id2label.values()), reading)
    classes = defect_names(images)
    if unused := [name for name in listed if name not in classes]:
        logger.info(f"{asked.dataset}: left out, as they have no boxes and the model lacks them: {', '.join(unused)}")
    to_class = match_classes(id2label, classes, asked)
    if class_agnostic:
        classes = [CLASS_AGNOSTIC]
    if output is not None:
        on_main_process(lambda: claim_output(output, "evaluate", asked.settings("output", "device")))

    started = time.perf_counter()
    share = _measure_share(detector, images, to_class, classes, asked, chosen, state)
    seconds = time.perf_counter() - started
    shares = gather_object([share]) if state.num_processes > 1 else [share]
    if not state.is_main_process:
        return StepResult("evaluate")
    measured, skipped, worst = _joined(shares, classes)
    metrics = measured.compute() | {
        "skipped": skipped,
        "model": asked.model,
        "dataset": asked.dataset,
        "measured_on": describe_source(asked.dataset, split),
        "split": split,
        "image_size": image_size or detector.config.image_size,
        "threshold": threshold,
        "class_agnostic": class_agnostic,
        "images_without_labels": reading.images - len(images),
        "reading": reading.as_json(),
        "classes_without_labels": [name for index, name in id2label.items() if to_class[index] < 0],
        "seconds": round(seconds, 2),
        "agssp": __version__,
    }
    if output is not None:
        _write(Path(output), asked, metrics, _worst_sheet(worst, images, classes))
    folder = None if output is None else Path(output)
    return StepResult(
        "evaluate",
        output=folder,
        lines=tuple(_lines(metrics, folder)),
        numbers=metrics,
        report=None if folder is None else folder / "report.html",
        next=next_step(asked),
    ).tell()


def match_classes(id2label: dict[int, str], classes: Sequence[str], asked: Asked) -> np.ndarray:
    """The data set's class for each class of the model, by name.

    Args:
        id2label: the model's classes.
        classes: the data set's classes.
        asked: of the step, for the message and `class_agnostic`.

    Returns:
        int64, one entry for each class of the model: the data set's class number, or -1 where it has no such class
        (without labels it counts in no average, as in COCO's).

    Raises:
        InputError: the data set has classes that the model does not know.
    """
    names = [id2label[index] for index in sorted(id2label)]
    if asked.class_agnostic:
        return np.zeros(len(names), np.int64)
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise InputError(
            f"{asked.model} does not know the classes {', '.join(unknown)} of {asked.dataset}; the model has "
            f"[{', '.join(names)}], the data set has [{', '.join(classes)}]. Finetune the model on these classes, or "
            "give --class-agnostic to measure whether defects are found whatever their class"
        )
    return np.array([classes.index(name) if name in classes else -1 for name in names], np.int64)


@dataclass
class _Share:
    """What is kept of a process's images: counts for the averages, row and reason of those not read, the worst ones."""

    measured: Any
    skipped: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    worst: list[Any] = field(default_factory=list)


def _measure_share(
    model: Any, dataset: Any, to_class: np.ndarray, classes: list[str], asked: Asked, device: Any,
    state: Any,
) -> _Share:  # fmt: skip
    """Detect in this process's share of the images, every n-th, and compare with the labels as it goes."""
    from tqdm import tqdm

    from agssp.data.labels import crowds_of
    from agssp.evaluation.detection_metrics import DetectionMetrics
    from agssp.evaluation.inference import detect

    numbers = range(state.process_index, len(dataset), state.num_processes)
    found = detect(
        model,
        tqdm((dataset[index] for index in numbers), total=len(numbers), desc="evaluate", unit="image",
             disable=not state.is_main_process),
        threshold=asked.threshold,
        image_size=asked.image_size,
        batch_size=min(asked.batch_size, max(len(dataset), 1)),
        iou_threshold=asked.iou_threshold,
        max_detections=asked.max_detections,
        multi_label=True,
        device=device,
    )  # fmt: skip
    metrics = DetectionMetrics(classes)
    share = _Share(metrics)
    for index, result in zip(numbers, found, strict=True):
        if result.error is not None:
            share.skipped.append((index, {"image_id": result.image_id, "reason": result.error}))
            continue
        objects = result.row["objects"]
        corners = np.asarray(objects["bbox"], np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        labels = np.asarray(objects["category"], np.int64)
        labels = np.zeros_like(labels) if asked.class_agnostic else labels
        mine = to_class[result.labels]
        known = mine >= 0
        boxes = result.boxes[known], result.scores[known], mine[known]
        targets = corners, labels, crowds_of(objects)
        metrics.update(index, *boxes, *targets)
        judged = _judged(index, result.image_id, boxes, targets, asked.shown_threshold)
        if judged.badness > 0:
            share.worst = _the_worst([*share.worst, judged])
    share.measured = metrics.state()
    return share


def _judged(
    index: int, image_id: str, boxes: tuple[np.ndarray, ...], targets: tuple[np.ndarray, ...], shown_threshold: float
) -> Any:
    """An image's boxes above the threshold beside its labels."""
    from agssp.report.evaluation import Judged, match_boxes

    shown = boxes[1] > shown_threshold
    found = boxes[0][shown], boxes[1][shown], boxes[2][shown]
    correct, ignored, met = match_boxes(*found, targets[0], targets[1], targets[2])
    return Judged(index, image_id, *found, correct, ignored, targets[0], targets[1], targets[2], met)


def _the_worst(judged: list[Any]) -> list[Any]:
    """Those with most missed labels and most confident false boxes, the worst first; of equal ones the first rows."""
    return sorted(judged, key=lambda entry: (-entry.badness, entry.index))[:SHOWN]


def _joined(shares: Sequence[_Share], classes: list[str]) -> tuple[Any, list[dict[str, str]], list[Any]]:
    """The metrics of all processes, the images that could not be read in the order of rows, and the worst ones."""
    from agssp.evaluation.detection_metrics import DetectionMetrics

    metrics = DetectionMetrics(classes)
    for share in shares:
        metrics.merge(share.measured)
    skipped = sorted((entry for share in shares for entry in share.skipped), key=lambda entry: entry[0])
    return metrics, [told for _, told in skipped], _the_worst([entry for share in shares for entry in share.worst])


def _worst_sheet(worst: list[Any], dataset: Any, classes: list[str]) -> Any:
    """A figure of the worst images; None if there are none."""
    from agssp.data.images import decode_image
    from agssp.report.evaluation import worst_sheet

    if not worst:
        return None
    return worst_sheet(
        [(entry, decode_image(dataset[entry.index]["image"], entry.image_id)) for entry in worst], classes
    )


def _write(output: Path, asked: Asked, metrics: dict[str, Any], worst: Any) -> None:
    """metrics.json, the curves as a picture, and the page."""
    from agssp.report import figures
    from agssp.report.evaluation import curves_figure, sections
    from agssp.report.page import write_page

    write_json(output / "metrics.json", metrics)
    figures.save(curves_figure(metrics), output / "precision_recall.png")
    page = sections(metrics, worst, asked.model, asked.shown_threshold, next_step(asked))
    write_page(output / "report.html", "Evaluation", page)


def _lines(metrics: dict[str, Any], output: Path | None) -> Iterator[str]:
    """The table of classes, and what is to be known of it."""
    total = {"boxes": metrics["boxes"], "ap_50": metrics["map_50"], "ap_50_95": metrics["map_50_95"]}
    rows = {**metrics["per_class"], "all classes": total}
    width = max(map(len, rows))
    yield f"{'':<{width}}  boxes   AP@.5  AP@.5:.95"
    for name, row in rows.items():
        first, second = ("-" if row[key] is None else f"{row[key]:.4f}" for key in ("ap_50", "ap_50_95"))
        yield f"{name:<{width}}  {row['boxes']:>5}  {first:>6}  {second:>9}"
    if metrics["crowds"]:
        yield f"{metrics['crowds']} crowd regions: what is found in them counts neither as right nor as wrong"
    if metrics["classes_without_labels"]:
        yield f"classes of the model without labels here: {', '.join(metrics['classes_without_labels'])}"
    if metrics["skipped"]:
        names = ", ".join(entry["image_id"] for entry in metrics["skipped"][:5])
        yield f"{len(metrics['skipped'])} of {metrics['images'] + len(metrics['skipped'])} images skipped: {names}"
    if output is not None:
        yield f"look at {output / 'report.html'}; numbers: {output / 'metrics.json'}"


def next_step(asked: Asked) -> str:
    """The command that uses the detector as it was measured."""
    size = asked.image_size
    return shell_command("predict", asked.model, "IMAGES", image_size=size, output="found")
