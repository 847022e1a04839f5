"""Train a detector on a few labelled images, from whatever it was pretrained on.

agssp finetune detector --dataset few/train --test few/test --val-fraction 0 --output my-detector
agssp finetune scratch:yolov8n --dataset labelled --image-size 320 --num-train-epochs 100 --output my-detector
agssp finetune backbone --detector faster_rcnn --dataset labelled --output my-detector
agssp finetune agssp/yolov8s --dataset me/my-defects --output my-detector --push-to-hub me/my-detector

MODEL is a detector or backbone folder (or Hub id), a safetensors file of ultralytics or of torchvision's Faster R-CNN,
or scratch:DETECTOR. OUTPUT is a detector for `AutoModelForObjectDetection.from_pretrained`, with best/ (by the
selection split), log.jsonl, transfer.txt and run.json.

Detectors under AGPL-3.0 (they need `pip install ultralytics`): yolov8n, yolov8s, yolov8m, yolo11n, yolo11s, yolo12n,
yolo12s, yolo26n, yolo26s, slf_yolon, slf_yolos. Under permissive licences: faster_rcnn, dino, rtdetr_v2_s, rtdetr_v2_l,
dfine_s, dfine_l.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from agssp.commands.push import check_before_training, publish_result
from agssp.flag_values import LESS_THAN_ALL, NOT_NEGATIVE, SHARE, Range, check_ranges
from agssp.output_folder import keeps_outputs
from agssp.terminal import on_terminal
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.flag_checks import check_measuring

POSITIONAL = ("model",)
DETECTOR_RANGES = {
    "image_size": Range(32, step=32), "mosaic": SHARE, "closing_epochs": NOT_NEGATIVE, "scale": LESS_THAN_ALL,
    "flip": SHARE, "vertical_flip": SHARE,
}  # fmt: skip
"""What detectors of every kind are trained with."""
DETECTOR_HELP = (
    "what to build where MODEL is a backbone: yolov8n, yolov8s, yolov8m, yolo11n, yolo11s, yolo12n, yolo12s, yolo26n, "
    "yolo26s, slf_yolon, slf_yolos (these under AGPL-3.0), faster_rcnn, dino, rtdetr_v2_s, rtdetr_v2_l, dfine_s, "
    "dfine_l; default: yolov8n"
)


@dataclass
class FinetuneArguments:
    """Which detector, on which labelled images."""

    flag_groups: ClassVar = {
        "input": ("model", "dataset", "split", "crowds", "validation", "val_fraction", "test"),
        "model": ("detector", "image_size", "frozen_stages"),
        "augmentation": ("mosaic", "closing_epochs", "scale", "flip", "vertical_flip"),
        "output": ("output",),
    }
    rare_flags: ClassVar = ("closing_epochs", "scale")

    model: str = field(metadata={"help": "detector or backbone folder, Hub id, safetensors file, or scratch:DETECTOR"})
    dataset: str = field(metadata={"help": "labelled training images: folder, COCO, YOLO, VOC, Parquet or Hub id"})
    output: str = field(metadata={"help": "folder of the finetuned detector"})
    detector: str | None = field(default=None, metadata={"help": DETECTOR_HELP})
    validation: str | None = field(default=None, metadata={"help": "labelled images that select the best epoch"})
    val_fraction: float = field(
        default=0.2, metadata={"help": "share of the training images that selects instead; 0: the last epoch is final"}
    )
    test: str | None = field(default=None, metadata={"help": "labelled images measured once, at the end"})
    image_size: int = field(default=640, metadata={"help": "side of the square input in px, a multiple of 32"})
    frozen_stages: int = field(default=0, metadata={"help": "stem and first stages of the backbone kept as they are"})
    mosaic: float = field(default=1.0, metadata={"help": "probability of a mosaic of four images"})
    closing_epochs: int = field(default=10, metadata={"help": "last epochs without mosaic"})
    scale: float = field(default=0.5, metadata={"help": "largest relative change of size"})
    flip: float = field(default=0.5, metadata={"help": "probability of mirroring left and right"})
    vertical_flip: float = field(default=0.0, metadata={"help": "probability of mirroring top and bottom"})
    split: str | None = field(default=None, metadata={"help": "split of the data set"})
    crowds: str = field(
        default="auto",
        metadata={"help": "boxes with iscrowd 1: objects, ignore (regions), or auto: objects if all of a file have it"},
    )

    def __post_init__(self) -> None:
        check_ranges(self, val_fraction=LESS_THAN_ALL, frozen_stages=NOT_NEGATIVE, **DETECTOR_RANGES)


@dataclass
class DetectorTrainingArguments(AgsspTrainingArguments):
    """Training arguments with METHOD 4's length; eval and checkpoints are rarer, since epochs are short."""

    num_train_epochs: float = field(default=100, metadata={"help": "passes over the images"})
    warmup_epochs: float = field(default=3.0, metadata={"help": "epochs over which the learning rate rises"})
    eval_every: int = field(default=5, metadata={"help": "epochs between evaluations; the last is always evaluated"})
    checkpoint_every: int = field(default=5, metadata={"help": "epochs between checkpoints"})
    max_grad_norm: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "gradients are clipped to this norm; default: 10, for DINO, RT-DETR, D-FINE 0.1"},
    )


ARGUMENTS = (FinetuneArguments, DetectorTrainingArguments)


@on_terminal
@keeps_outputs
def main(arguments: FinetuneArguments, training: AgsspTrainingArguments) -> None:
    """Finetune and save the detector."""
    import transformers

    from agssp.command_lines import command_line, shell_command
    from agssp.data.fingerprint import dataset_fingerprint, label_fingerprint
    from agssp.data.labels import crowds_of, object_classes, without_crowds_alone
    from agssp.data.mosaic import DetectionTransform
    from agssp.data.origin import describe_source
    from agssp.data.reading import read_labelled
    from agssp.data.schema import defect_names
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
    check_measuring(
        training,
        measured=arguments.validation is not None or arguments.val_fraction > 0,
        tested=arguments.test is not None,
        how="--validation, or a --val-fraction above 0",
    )
    known, reading = read_labelled(
        arguments.dataset, split=arguments.split, crowds=arguments.crowds, image_size=arguments.image_size
    )
    names = defect_names(known)
    dataset = without_crowds_alone(known, arguments.dataset)
    others = {
        flag: labelled(getattr(arguments, flag), names, flag, arguments.crowds) for flag in ("validation", "test")
    }
    model, report = start_detector(
        arguments.model, arguments.detector, names, arguments.image_size, arguments.frozen_stages
    )
    kind = model.config.model_type
    choose_detector_optimizer(training, len(dataset), len(names), kind)
    chosen_by = others["validation"]
    inputs = {
        "dataset": dataset_fingerprint(dataset, arguments.dataset),
        "labels": label_fingerprint(dataset),
        "validation": None if chosen_by is None else label_fingerprint(chosen_by),
        "model": content_fingerprint(arguments.model),
    }
    if begin(arguments.output, "finetune", asdict(arguments), training, inputs):
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
    rows, selecting = list(range(len(dataset))), others["validation"]
    if selecting is None and arguments.val_fraction > 0 and len(dataset) > 1:
        rows, kept = split_rows(dataset["image_id"], object_classes(dataset), arguments.val_fraction, training.seed)
        selecting = dataset.select(kept)
    images = DetectionImages(
        dataset.select(rows),
        None,
        transform,
        training.seed,
        epochs=training.epochs_begun(len(rows)),
        closing_epochs=arguments.closing_epochs,
    )
    options = {"batch_size": training.per_device_eval_batch_size, "workers": training.dataloader_num_workers}

    def evaluator_on(part: Any) -> Any:
        held_out = DetectionImages(part, None, transform, evaluation=True)
        return detection_evaluator(held_out, names, collate_detection, **options)

    trainer = AgsspTrainer(
        model=model,
        args=training,
        train_dataset=images,
        data_collator=collate_detection,
        evaluator=evaluator_on(selecting) if selecting is not None else None,
        best_metric="map_50_95" if selecting is not None else None,
        loss_scale=loss_scale(training, kind),
        save=any_detector.save,
    )
    result = train(trainer)
    final = trainer.accelerator.unwrap_model(trainer.model)
    tested = evaluator_on(others["test"])(final) if others["test"] is not None else None
    if trainer.is_world_process_zero():
        output = Path(arguments.output)
        any_detector.save(final, output)
        write_text(output / "transfer.txt", f"{report}\n")
        finish(
            arguments.output,
            common_facts(
                trainer,
                command_line("finetune", arguments, training, positional=POSITIONAL),
                arguments,
                (arguments.model,),
            )
            | {
                "dataset": {"source": arguments.dataset, "fingerprint": dataset_fingerprint(dataset, arguments.dataset)}
                | {
                    "images": len(rows),
                    "selection_images": 0 if selecting is None else len(selecting),
                    "images_without_labels": reading.images - len(known),
                    "images_of_crowds_alone": len(known) - len(dataset),
                    "crowds": sum(int(crowds_of(objects).sum()) for objects in known["objects"]),
                    "classes": names,
                    "reading": reading.as_json(),
                }
                | describe_source(arguments.dataset, arguments.split),
                "test_dataset": None if others["test"] is None else _measured_on(arguments.test, others["test"]),
                "start": str(report),
                "results": {**result, "test": tested},
                "skipped": images.skipped,
            },
        )
        print(f"detector in {output}: {chosen_weights(result['best'])}")
        if tested:
            print(f"test: mAP@.5 {tested['map_50']:.4f}, mAP@.5:.95 {tested['map_50_95']:.4f}")
        print(f"next: {shell_command('evaluate', output, dataset='LABELLED', output=f'{output}-report')}")
        publish_result(arguments.output, training)


def chosen_weights(best: dict[str, Any] | None) -> str:
    """Which weights are final, in words.

    Args:
        best: record of the selected ones: `metric`, `value`, `epoch`; None where nothing was selected.
    """
    if best is None:
        return "the last epoch's average"
    return (
        f"the weights after epoch {best['epoch']:g}, the best on the selection images (mAP@.5:.95 {best['value']:.4f})"
    )


def _measured_on(source: Any, dataset: Any) -> dict[str, Any]:
    """What the record says about the test images."""
    from agssp.data.origin import describe_source

    return describe_source(source) | {"images": len(dataset)}


def labelled(source: str | None, names: list[str], flag: str, crowds: str = "auto") -> Any:
    """A labelled data set with the classes of the training images, of which it may lack some; None for None.

    Raises:
        InputError: it has a class that the training images do not have, nothing is known of any image, or, where the
            best epoch is to be selected, no image has a box.
    """
    from agssp.data.reading import read_labelled

    if source is None:
        return None
    needed = flag == "validation"
    return read_labelled(source, f"--{flag}", boxes_needed=needed, defect_types=names, crowds=crowds)[0]
