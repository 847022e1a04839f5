"""COCO mAP of a detector on labelled images, a class at a time and by size.

    agssp evaluate runs/finetuned --dataset labelled/test
    agssp evaluate runs/finetuned --dataset NEU-DET --split test --image-size 640 --output evaluation

OUTPUT/metrics.json, OUTPUT/precision_recall.png, OUTPUT/report.html with the worst images. Without --output the numbers
are only printed. On several processes (`torchrun --nproc-per-node 2 scripts/evaluate.py ...`) the numbers are the same.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from agssp.command_lines import shell_command
from agssp.errors import InputError
from agssp.files import write_json
from agssp.output_folder import claim_output, keeps_outputs
from agssp.processes import on_main_process
from agssp.version import __version__

POSITIONAL = ("model",)
CLASS_AGNOSTIC = "defect"
SHOWN = 8


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


@keeps_outputs
def main(arguments: EvaluateArguments) -> dict[str, Any] | None:
    """Run the command.

    Returns:
        What metrics.json holds, on the main process; None on the others.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from agssp.data.origin import describe_source
    from agssp.data.readers.relabelling import without_unused
    from agssp.data.reading import read_labelled
    from agssp.data.schema import defect_names
    from agssp.evaluation.inference import check_detection_flags, choose_device, load_detector

    check_detection_flags(arguments)
    device = choose_device(arguments.device)
    state = PartialState(cpu=device.type == "cpu")
    dataset, reading = read_labelled(
        arguments.dataset, split=arguments.split, crowds=arguments.crowds, boxes_needed=False
    )
    listed = defect_names(dataset)
    model = load_detector(arguments.model, listed)
    id2label = {int(index): name for index, name in (model.config.id2label or {}).items()}
    dataset = without_unused(dataset, arguments.dataset, list(id2label.values()), reading)
    classes = defect_names(dataset)
    if state.is_main_process and (unused := [name for name in listed if name not in classes]):
        print(f"{arguments.dataset}: left out, as they have no boxes and the model lacks them: {', '.join(unused)}")
    to_class = match_classes(id2label, classes, arguments)
    if arguments.class_agnostic:
        classes = [CLASS_AGNOSTIC]
    if arguments.output is not None:
        output = Path(arguments.output)
        settings = {name: value for name, value in asdict(arguments).items() if name not in ("output", "device")}
        on_main_process(lambda: claim_output(output, "evaluate", settings))

    started = time.perf_counter()
    share = _measure_share(model, dataset, to_class, classes, arguments, device, state)
    seconds = time.perf_counter() - started
    shares = gather_object([share]) if state.num_processes > 1 else [share]
    if not state.is_main_process:
        return None
    measured, skipped, worst = _joined(shares, classes)
    metrics = measured.compute() | {
        "skipped": skipped,
        "model": arguments.model,
        "dataset": arguments.dataset,
        "measured_on": describe_source(arguments.dataset, arguments.split),
        "split": arguments.split,
        "image_size": arguments.image_size or model.config.image_size,
        "threshold": arguments.threshold,
        "class_agnostic": arguments.class_agnostic,
        "images_without_labels": reading.images - len(dataset),
        "reading": reading.as_json(),
        "classes_without_labels": [name for index, name in id2label.items() if to_class[index] < 0],
        "seconds": round(seconds, 2),
        "agssp": __version__,
    }
    if arguments.output is not None:
        _write(Path(arguments.output), arguments, metrics, _worst_sheet(worst, dataset, classes))
    _print(metrics, arguments)
    return metrics


def match_classes(id2label: dict[int, str], classes: Sequence[str], arguments: EvaluateArguments) -> np.ndarray:
    """The data set's class for each class of the model, by name.

    Args:
        id2label: the model's classes.
        classes: the data set's classes.
        arguments: of the command, for the message and `class_agnostic`.

    Returns:
        int64, one entry for each class of the model: the data set's class number, or -1 where it has no such class
        (without labels it counts in no average, as in COCO's).

    Raises:
        InputError: the data set has classes that the model does not know.
    """
    names = [id2label[index] for index in sorted(id2label)]
    if arguments.class_agnostic:
        return np.zeros(len(names), np.int64)
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise InputError(
            f"{arguments.model} does not know the classes {', '.join(unknown)} of {arguments.dataset}; the model has "
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
    model: Any, dataset: Any, to_class: np.ndarray, classes: list[str], arguments: EvaluateArguments, device: Any,
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
        threshold=arguments.threshold,
        image_size=arguments.image_size,
        batch_size=min(arguments.batch_size, max(len(dataset), 1)),
        iou_threshold=arguments.iou_threshold,
        max_detections=arguments.max_detections,
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
        labels = np.zeros_like(labels) if arguments.class_agnostic else labels
        mine = to_class[result.labels]
        known = mine >= 0
        boxes = result.boxes[known], result.scores[known], mine[known]
        targets = corners, labels, crowds_of(objects)
        metrics.update(index, *boxes, *targets)
        judged = _judged(index, result.image_id, boxes, targets, arguments.shown_threshold)
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


def _write(output: Path, arguments: EvaluateArguments, metrics: dict[str, Any], worst: Any) -> None:
    """metrics.json, the curves as a picture, and the page."""
    from agssp.report import figures
    from agssp.report.evaluation import curves_figure, sections
    from agssp.report.page import write_page

    write_json(output / "metrics.json", metrics)
    figures.save(curves_figure(metrics), output / "precision_recall.png")
    page = sections(metrics, worst, arguments.model, arguments.shown_threshold, next_step(arguments))
    write_page(output / "report.html", "Evaluation", page)


def _print(metrics: dict[str, Any], arguments: EvaluateArguments) -> None:
    total = {"boxes": metrics["boxes"], "ap_50": metrics["map_50"], "ap_50_95": metrics["map_50_95"]}
    rows = {**metrics["per_class"], "all classes": total}
    width = max(map(len, rows))
    print(f"{'':<{width}}  boxes   AP@.5  AP@.5:.95")
    for name, row in rows.items():
        first, second = ("-" if row[key] is None else f"{row[key]:.4f}" for key in ("ap_50", "ap_50_95"))
        print(f"{name:<{width}}  {row['boxes']:>5}  {first:>6}  {second:>9}")
    if metrics["crowds"]:
        print(f"{metrics['crowds']} crowd regions: what is found in them counts neither as right nor as wrong")
    if metrics["classes_without_labels"]:
        print(f"classes of the model without labels here: {', '.join(metrics['classes_without_labels'])}")
    if metrics["skipped"]:
        names = ", ".join(entry["image_id"] for entry in metrics["skipped"][:5])
        print(f"{len(metrics['skipped'])} of {metrics['images'] + len(metrics['skipped'])} images skipped: {names}")
    if arguments.output is not None:
        print(f"look at {Path(arguments.output) / 'report.html'}; numbers: {Path(arguments.output) / 'metrics.json'}")
    print(f"next: {next_step(arguments)}")


def next_step(arguments: EvaluateArguments) -> str:
    """The command that uses the detector as it was measured."""
    size = arguments.image_size
    return shell_command("predict", arguments.model, "IMAGES", image_size=size, output="found")
