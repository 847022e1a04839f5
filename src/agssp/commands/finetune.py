"""Train a detector on a few labelled images, from whatever it was pretrained on.

agssp finetune detector --dataset few/train --test few/test --val-fraction 0 --output my-detector
agssp finetune scratch:yolov8n --dataset labelled --image-size 320 --num-train-epochs 100 --output my-detector

MODEL is a detector or backbone folder (or Hub id), an ultralytics safetensors file, or scratch:VARIANT. OUTPUT is a
detector for `YoloForObjectDetection.from_pretrained`, with best/ (by the selection split), log.jsonl, transfer.txt and
run.json.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agssp.errors import InputError
from agssp.training.arguments import AgsspTrainingArguments

POSITIONAL = ("model",)


@dataclass
class FinetuneArguments:
    """Which detector, on which labelled images."""

    model: str = field(metadata={"help": "detector or backbone folder, Hub id, safetensors file, or scratch:yolov8n"})
    dataset: str = field(metadata={"help": "labelled training images: folder, COCO, YOLO, VOC, Parquet or Hub id"})
    output: str = field(metadata={"help": "folder of the finetuned detector"})
    detector: str = field(default="yolov8n", metadata={"help": "variant, where MODEL is a backbone or a file"})
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


@dataclass
class DetectorTrainingArguments(AgsspTrainingArguments):
    """Training arguments with METHOD 4's length; eval and checkpoints are rarer, since epochs are short."""

    num_train_epochs: float = field(default=100, metadata={"help": "passes over the images"})
    warmup_epochs: float = field(default=3.0, metadata={"help": "epochs over which the learning rate rises"})
    eval_every: int = field(default=5, metadata={"help": "epochs between evaluations; the last is always evaluated"})
    checkpoint_every: int = field(default=5, metadata={"help": "epochs between checkpoints"})


ARGUMENTS = (FinetuneArguments, DetectorTrainingArguments)
NOMINAL_BATCH = 64


def main(arguments: FinetuneArguments, training: AgsspTrainingArguments) -> None:
    """Finetune and save the detector."""
    import transformers

    from agssp.arguments import command_line, shell_command
    from agssp.data.fingerprint import dataset_fingerprint, label_fingerprint
    from agssp.data.mosaic import DetectionTransform
    from agssp.data.readers import read_dataset
    from agssp.data.schema import defect_names
    from agssp.data.splits import split_rows
    from agssp.data.training_sets import DetectionImages, collate_detection
    from agssp.training.evaluators import detection_evaluator
    from agssp.training.run import begin, content_fingerprint, finish, optimizer_facts, optimizer_line, train
    from agssp.training.trainer import AgsspTrainer

    transformers.set_seed(training.seed)
    dataset = read_dataset(arguments.dataset, split=arguments.split)
    names = defect_names(dataset)
    if not names:
        raise InputError(f"{arguments.dataset}: has no labelled boxes; finetuning needs them")
    others = {flag: labelled(getattr(arguments, flag), names, flag) for flag in ("validation", "test")}
    choose_detector_optimizer(training, len(dataset), len(names))
    model, report = start_detector(
        arguments.model, arguments.detector, names, arguments.image_size, arguments.frozen_stages
    )
    chosen_by = others["validation"]
    inputs = {
        "dataset": dataset_fingerprint(dataset, arguments.dataset),
        "labels": label_fingerprint(dataset),
        "validation": None if chosen_by is None else label_fingerprint(chosen_by),
        "model": content_fingerprint(arguments.model),
    }
    if begin(arguments.output, "finetune", asdict(arguments), training, inputs):
        print(f"{arguments.output}: this run is finished already")
        return
    print(report)
    print(optimizer_line(training))

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
        classes = [row["category"] for row in dataset["objects"]]
        rows, kept = split_rows(dataset["image_id"], classes, arguments.val_fraction, training.seed)
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
        loss_scale=loss_scale(training),
    )
    result = train(trainer)
    final = trainer.accelerator.unwrap_model(trainer.model)
    tested = evaluator_on(others["test"])(final) if others["test"] is not None else None
    if trainer.is_world_process_zero():
        output = Path(arguments.output)
        final.save_pretrained(output)
        (output / "transfer.txt").write_text(f"{report}\n", encoding="utf-8")
        finish(
            arguments.output,
            {
                "command": command_line("finetune", arguments, training, positional=POSITIONAL),
                "arguments": asdict(arguments),
                "epochs": training.num_train_epochs,
                "optimizer": optimizer_facts(training),
                "dataset": {"source": arguments.dataset, "fingerprint": dataset_fingerprint(dataset, arguments.dataset)}
                | {
                    "images": len(rows),
                    "selection_images": 0 if selecting is None else len(selecting),
                    "classes": names,
                },
                "start": str(report),
                "results": {**result, "test": tested},
                "skipped": images.skipped,
            },
        )
        chosen = f"best of the selection split, {result['best']}" if result["best"] else "the last epoch's average"
        print(f"detector in {output}: {chosen}")
        if tested:
            print(f"test: mAP@.5 {tested['map_50']:.4f}, mAP@.5:.95 {tested['map_50_95']:.4f}")
        print(f"next: {shell_command('evaluate', output, dataset='LABELLED', output=f'{output}-report')}")


def labelled(source: str | None, names: list[str], flag: str) -> Any:
    """A labelled data set with the classes of the training images, of which it may lack some; None for None.

    Raises:
        InputError: it has a class that the training images do not have, or no boxes at all.
    """
    from agssp.data.readers import read_dataset
    from agssp.data.schema import defect_names

    if source is None:
        return None
    try:
        dataset = read_dataset(source, defect_types=names)
    except InputError as error:
        raise InputError(f"--{flag} {error}") from error
    if not defect_names(dataset):
        raise InputError(f"--{flag} {source}: has no labelled boxes (`objects`); measuring needs them")
    return dataset


def choose_detector_optimizer(training: AgsspTrainingArguments, images: int, classes: int) -> None:
    """AdamW for short runs, SGD for 10,000 steps and more, as ultralytics chooses."""
    from agssp.training.run import choose_optimizer

    choose_optimizer(
        training,
        kind="sgd" if training.total_steps(images) >= 10_000 else "adamw",
        rates={"sgd": 0.01, "adamw": round(0.01 / (4 + classes), 6)},
        decays={"sgd": 5e-4, "adamw": 5e-4},
        # ultralytics' rule gives AdamW one rate for any batch; it is for short runs, and was measured so.
        nominal_batches={"sgd": NOMINAL_BATCH, "adamw": 0},
    )


def loss_scale(training: AgsspTrainingArguments) -> float:
    """The factor on a detector's mean loss that SGD's learning rates suppose; AdamW does not feel one.

    ultralytics sums the loss over the 64 images of its nominal batch, and the YOLO of the paper's framework (MMYOLO, on
    MMDetection) over those of a step, 14 to 256 in the paper. So rate r with nominal batch b is r on the loss summed
    over b images, with the gradient clipped as it is there: the rates of both mean here what they mean at their own
    batches. As the rate grows with the batch, an image weighs the same in any. Without a nominal batch the sum is
    ultralytics'.
    """
    return float(training.nominal_batch or NOMINAL_BATCH) if training.optimizer == "sgd" else 1.0


def start_detector(source: str, variant: str, names: list[str], image_size: int, frozen_stages: int) -> tuple[Any, Any]:
    """A detector for these classes with the weights that `source` has for it, and the report of what was taken.

    Args:
        source: detector or backbone folder or Hub id, ultralytics safetensors file, or `scratch:VARIANT`.
        variant: detector to build where `source` does not tell.
        names: classes, in label order.
        image_size: side of the input in px.
        frozen_stages: of the backbone.

    Raises:
        InputError: `source` is none of these, or its architecture does not fit.
    """
    from transformers import AutoConfig

    from agssp.models import register_auto_classes
    from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
    from agssp.models.detection import YoloConfig, YoloForObjectDetection

    register_auto_classes()
    id2label = dict(enumerate(names))

    def fresh(variant: str, backbone_config: Any = None) -> Any:
        config = YoloConfig(variant=variant, backbone_config=backbone_config, id2label=id2label, image_size=image_size)
        config.backbone_config.frozen_stages = frozen_stages
        return YoloForObjectDetection(config)

    if source.startswith("scratch:"):
        return fresh(source.removeprefix("scratch:")), "weights from scratch"
    path = Path(source)
    if path.suffix == ".safetensors":
        donor = YoloForObjectDetection.from_ultralytics(path)
    else:
        if not path.exists() and (path.is_absolute() or len(path.parts) != 2):
            raise InputError(f"{source}: no such folder or file; expected a detector, a backbone or scratch:yolov8n")
        if path.is_dir() and not (path / "config.json").is_file():
            raise InputError(f"{source}: holds no config.json; is its training finished?")
        try:
            kind = AutoConfig.from_pretrained(source).model_type
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{source}: no such folder, and not a model on the Hub whose configuration can be read; expected a "
                f"detector, a backbone or scratch:yolov8n: {error}"
            ) from error
        if kind == AgsspBackbone.config_class.model_type:
            backbone = AgsspBackbone.from_pretrained(source)
            model = fresh(variant, type(backbone.config)(**backbone.config.to_dict()))
            return model, model.load_backbone(backbone)
        if kind != YoloConfig.model_type:
            raise InputError(f"{source}: is a model of type {kind!r}; expected {YoloConfig.model_type!r} or a backbone")
        donor = YoloForObjectDetection.from_pretrained(source)
    model = fresh(donor.config.variant, type(donor.config.backbone_config)(**donor.config.backbone_config.to_dict()))
    return model, model.transfer_from(donor)
