r"""Pretrain a whole detector on pseudo boxes (AGDP): neck and head learn what a defect is before any label is seen.

agssp pretrain-detector --dataset images --boxes boxes --backbone backbone --detector yolov8n --output detector
accelerate launch scripts/pretrain_detector.py --dataset images --boxes boxes --backbone backbone \
    --detector yolov8s --output detector
agssp pretrain-detector --dataset images --boxes boxes --start yolov8s.safetensors --backbone backbone --output detector
agssp pretrain-detector --dataset images --boxes boxes --backbone backbone --detector faster_rcnn --output detector

The third takes neck and head from a detector trained on COCO, and a backbone that was pretrained from the same file.
`agssp finetune --help` lists the detectors.
The backbone is frozen unless --no-freeze-backbone. OUTPUT is a detector with one class, defect; the same command goes
on after an interruption.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from agssp.commands.finetune import DETECTOR_RANGES, DetectorTrainingArguments
from agssp.commands.push import check_before_training, publish_result
from agssp.errors import InputError
from agssp.flag_values import LESS_THAN_ALL, check_ranges
from agssp.output_folder import keeps_outputs
from agssp.terminal import on_terminal
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.flag_checks import check_measuring

POSITIONAL = ()
ALL_STAGES = 4


@dataclass
class PretrainDetectorArguments:
    """Images, their pseudo boxes, and what the detector starts from."""

    flag_groups: ClassVar = {
        "input": ("dataset", "boxes", "split", "category", "exclude", "min_score", "val_fraction"),
        "model": ("backbone", "start", "detector", "freeze_backbone", "image_size"),
        "augmentation": ("mosaic", "closing_epochs", "scale", "flip", "vertical_flip"),
        "output": ("output",),
    }
    rare_flags: ClassVar = ("min_score", "closing_epochs", "scale")

    dataset: str = field(metadata={"help": "unlabelled images: folder, Parquet, save_to_disk folder or Hub id"})
    output: str = field(metadata={"help": "folder of the pretrained detector"})
    boxes: str | None = field(
        default=None,
        metadata={
            "help": "pseudo boxes of these images, from `agssp pseudo-boxes`; default: those that came with them"
        },
    )
    backbone: str | None = field(default=None, metadata={"help": "pretrained backbone: folder or Hub id"})
    start: str | None = field(
        default=None,
        metadata={
            "help": "a whole detector: folder, safetensors file or scratch:DETECTOR; with --backbone too, its neck and "
            "head go on from here and its backbone from there"
        },
    )
    detector: str | None = field(
        default=None,
        metadata={
            "help": "what to build on --backbone, see `agssp finetune --help`; default: what --start is, else yolov8n"
        },
    )
    freeze_backbone: bool = field(default=True, metadata={"help": "train the backbone too, not neck and head alone"})
    image_size: int = field(default=640, metadata={"help": "side of the square input in px, a multiple of 32"})
    val_fraction: float = field(
        default=0.05, metadata={"help": "share of images whose pseudo boxes are a health signal"}
    )
    min_score: float | None = field(default=None, metadata={"help": "leave out pseudo boxes with a lower score"})
    mosaic: float = field(default=1.0, metadata={"help": "probability of a mosaic of four images"})
    closing_epochs: int = field(default=1, metadata={"help": "last epochs without mosaic"})
    scale: float = field(default=0.5, metadata={"help": "largest relative change of size"})
    flip: float = field(default=0.5, metadata={"help": "probability of mirroring left and right"})
    vertical_flip: float = field(default=0.0, metadata={"help": "probability of mirroring top and bottom"})
    split: str | None = field(default=None, metadata={"help": "split of the data set"})
    category: str | None = field(default=None, metadata={"help": "object category of all images, where none is known"})
    exclude: str | None = field(
        default=None, metadata={"help": "file of image ids to leave out, a line each (`agssp dataset check-overlap`)"}
    )

    def __post_init__(self) -> None:
        check_ranges(self, val_fraction=LESS_THAN_ALL, **DETECTOR_RANGES)


@dataclass
class PretrainDetectorTrainingArguments(DetectorTrainingArguments):
    """Training arguments with METHOD 4's length."""

    num_train_epochs: float = field(default=10, metadata={"help": "passes over the images"})
    warmup_epochs: float = field(default=0.5, metadata={"help": "epochs over which the learning rate rises"})
    eval_every: int = field(default=1, metadata={"help": "epochs between evaluations; the last is always evaluated"})
    checkpoint_every: int = field(default=1, metadata={"help": "epochs between checkpoints"})


ARGUMENTS = (PretrainDetectorArguments, PretrainDetectorTrainingArguments)


@on_terminal
@keeps_outputs
def main(arguments: PretrainDetectorArguments, training: AgsspTrainingArguments) -> None:
    """Pretrain and save the detector."""
    import transformers

    from agssp.boxes.store import box_facts, boxes_of, read_boxes
    from agssp.command_lines import command_line, shell_command
    from agssp.data.exclusion import without_excluded
    from agssp.data.fingerprint import dataset_fingerprint
    from agssp.data.labels import crowds_of
    from agssp.data.mosaic import DetectionTransform
    from agssp.data.origin import describe_source, recorded_about
    from agssp.data.reading import box_shares, read_told, tell_small_boxes
    from agssp.data.schema import PSEUDO_CLASS, defect_names
    from agssp.data.splits import split_rows
    from agssp.data.training_sets import DetectionImages, collate_detection
    from agssp.files import write_text
    from agssp.models.detection import any_detector, catalogue
    from agssp.models.detection.start import start_detector
    from agssp.training.detector_recipes import choose_detector_optimizer, loss_scale
    from agssp.training.evaluators import detection_evaluator
    from agssp.training.run import begin, common_facts, content_fingerprint, finish, optimizer_line, train
    from agssp.training.trainer import AgsspTrainer

    transformers.set_seed(training.seed)
    check_before_training(training)
    check_measuring(training, measured=arguments.val_fraction > 0, how="a --val-fraction above 0")
    if arguments.backbone is None and arguments.start is None:
        raise InputError(
            "give --backbone (a pretrained backbone), --start (a whole detector, or scratch:yolov8n), or both"
        )
    dataset, reading = read_told(arguments.dataset, split=arguments.split, category=arguments.category)
    dataset = without_excluded(dataset, arguments.exclude)
    if arguments.boxes is None and defect_names(dataset) != [PSEUDO_CLASS]:
        labels = ", ".join(defect_names(dataset))
        raise InputError(
            f"--boxes: {arguments.dataset} brings no pseudo boxes along"
            + (f", but labels ({labels}): those are for `agssp finetune`" if labels else "")
            + "; cut boxes from its maps with `agssp pseudo-boxes`"
        )
    if arguments.boxes is None and any(crowds_of(row).any() for row in dataset["objects"] if row is not None):
        raise InputError(
            f"--boxes: {arguments.dataset} brings no pseudo boxes along, but labels, for some are crowd regions "
            "(iscrowd 1): those are for `agssp finetune`; cut boxes from its maps with `agssp pseudo-boxes`"
        )
    boxes = boxes_of(dataset) if arguments.boxes is None else read_boxes(arguments.boxes)
    boxes_name = f"--boxes {arguments.boxes}" if arguments.boxes else f"column `objects` of {arguments.dataset}"
    pseudo = None if arguments.boxes else pseudo_facts(recorded_about(arguments.dataset), boxes)
    if arguments.min_score is not None:
        kept_boxes = {key: score >= arguments.min_score for key, (_, score) in boxes.items()}
        boxes = {key: (box[kept_boxes[key]], score[kept_boxes[key]]) for key, (box, score) in boxes.items()}
    known = [row for row, image_id in enumerate(dataset["image_id"]) if image_id in boxes]
    if not known:
        raise InputError(
            f"{boxes_name}: none of its {len(boxes)} images is among the {len(dataset)} of "
            f"{arguments.dataset}; ids there look like {next(iter(boxes), 'none')!r}, "
            f"here like {dataset[0]['image_id']!r}"
        )
    if len(known) < len(dataset):
        print(f"{len(dataset) - len(known)} of {len(dataset)} images have no entry among the boxes and are left out")
    dataset = dataset.select(known)
    if not any(len(boxes[image_id][0]) for image_id in dataset["image_id"]):
        raise InputError(f"{boxes_name}: no image has a box; lower the threshold of `agssp pseudo-boxes`")
    tell_small_boxes({PSEUDO_CLASS: box_shares(dataset, boxes)}, arguments.image_size, boxes_name)

    model, report = start_detector(
        arguments.start or str(arguments.backbone),
        arguments.detector,
        [PSEUDO_CLASS],
        arguments.image_size,
        frozen_stages=ALL_STAGES if arguments.freeze_backbone else 0,
        backbone=arguments.backbone if arguments.start else None,
    )
    kind = model.config.model_type
    choose_detector_optimizer(training, len(dataset), 1, kind)
    inputs = {
        "dataset": dataset_fingerprint(dataset, arguments.dataset),
        "boxes": content_fingerprint(arguments.boxes),
        "start": content_fingerprint(arguments.start),
        "backbone": content_fingerprint(arguments.backbone),
    }
    if begin(arguments.output, "pretrain-detector", asdict(arguments), training, inputs):
        print(f"{arguments.output}: this run is finished already")
        publish_result(arguments.output, training)
        return
    print(report)
    print(optimizer_line(training))
    if licence := catalogue.licence_line(model):
        print(licence)

    backbone = model.config.backbone_config
    transform = DetectionTransform(
        arguments.image_size,
        backbone.image_mean,
        backbone.image_std,
        mosaic=arguments.mosaic,
        scale=arguments.scale,
        flip=arguments.flip,
        vertical_flip=arguments.vertical_flip,
    )
    rows = list(range(len(dataset)))
    kept: list[int] = []
    if arguments.val_fraction > 0 and len(dataset) > 1:
        ids = dataset["image_id"]
        classes = [[0] if len(boxes[image_id][0]) else [] for image_id in ids]
        rows, kept = split_rows(ids, classes, arguments.val_fraction, training.seed)
    images = DetectionImages(
        dataset.select(rows),
        boxes,
        transform,
        training.seed,
        epochs=training.epochs_begun(len(rows)),
        closing_epochs=arguments.closing_epochs,
    )
    evaluator: Any = None
    if kept:
        held_out = DetectionImages(dataset.select(kept), boxes, transform, evaluation=True)
        options = {"batch_size": training.per_device_eval_batch_size, "workers": training.dataloader_num_workers}
        evaluator = detection_evaluator(held_out, [PSEUDO_CLASS], collate_detection, **options)
    trainer = AgsspTrainer(
        model=model,
        args=training,
        train_dataset=images,
        data_collator=collate_detection,
        evaluator=evaluator,
        loss_scale=loss_scale(training, kind),
        save=any_detector.save,
    )
    result = train(trainer)
    if trainer.is_world_process_zero():
        output = Path(arguments.output)
        final = trainer.accelerator.unwrap_model(trainer.model)
        # Frozen was how it was trained, not what it is: finetuning decides anew.
        final.config.backbone_config.frozen_stages = 0
        any_detector.save(final, output)
        write_text(output / "transfer.txt", f"{report}\n")
        finish(
            arguments.output,
            common_facts(
                trainer,
                command_line("pretrain-detector", arguments, training),
                arguments,
                (arguments.backbone, arguments.start),
            )
            | {
                "boxes": box_facts(arguments.boxes) if arguments.boxes else pseudo,
                "dataset": {"source": arguments.dataset, "fingerprint": dataset_fingerprint(dataset, arguments.dataset)}
                | {"images": len(rows), "boxes": sum(len(boxes[image_id][0]) for image_id in dataset["image_id"])}
                | {"reading": reading.as_json()}
                | describe_source(arguments.dataset, arguments.split),
                "start": str(report),
                "results": result,
                "skipped": images.skipped,
            },
        )
        print(f"detector in {output} ({len(images.skipped)} images skipped)")
        size = arguments.image_size
        print(f"next: {shell_command('finetune', output, dataset='LABELLED', image_size=size, output='my-detector')}")
        publish_result(arguments.output, training)


def pseudo_facts(recorded: dict[str, Any], boxes: dict[str, Any]) -> dict[str, Any] | None:
    """What the record says about the boxes that came with the data set, if they were cut from anomaly maps.

    Args:
        recorded: dataset.json of the data set, which tells how pseudo boxes were cut.
        boxes: image id -> boxes and scores.

    Returns:
        As `box_facts`; None for boxes of which nothing says that they are pseudo boxes.
    """
    if "boxes" not in recorded:
        return None
    maps = recorded.get("maps") or {}
    known = {"teacher": maps.get("teacher") or recorded.get("map_teacher"), "licence": maps.get("licence")}
    counts = {"images": len(boxes), "boxes": sum(len(found) for found, _ in boxes.values())}
    return {name: value for name, value in known.items() if value} | recorded["boxes"] | counts
