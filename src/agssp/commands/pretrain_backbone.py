r"""Distil anomaly maps into a backbone (AGBP), beside a task: classification, MoCo v3, SimMIM or none.

agssp pretrain-backbone --dataset images --maps maps --backbone yolov8n --start scratch \
    --num-train-epochs 20 --output backbone
accelerate launch scripts/pretrain_backbone.py --dataset images --maps maps --backbone resnet50 --start timm \
    --output backbone

OUTPUT is a backbone for `AgsspBackbone.from_pretrained` and timm, the last average of the weights; OUTPUT/best/backbone
that of the epoch with the highest alignment on held-out images. OUTPUT/pretraining and OUTPUT/best are these models
with head and lambda, OUTPUT/log.jsonl the curves, OUTPUT/run.json how it came about. OUTPUT/report.html says, while it
trains too, whether the run is healthy, and shows where the backbone looks. The same command goes on after an
interruption.
"""

import math
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from agssp.command_lines import shell_command
from agssp.commands.push import check_before_training, publish_result
from agssp.errors import InputError
from agssp.flag_values import (
    COUNT,
    LESS_THAN_ALL,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Range,
    check_choices,
    check_ranges,
    flag,
)
from agssp.output_folder import keeps_outputs
from agssp.terminal import on_terminal
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.flag_checks import check_measuring, check_stream, given

POSITIONAL = ()
RANGES = {
    "val_fraction": LESS_THAN_ALL, "image_size": COUNT, "frozen_stages": NOT_NEGATIVE, "drop_path": LESS_THAN_ALL,
    "loss_weights": NOT_NEGATIVE, "encoder_momentum": SHARE, "temperature": POSITIVE, "mask_unit": COUNT,
    "mask_ratio": Range(0, 1, above=True, below=True), "min_scale": Range(0, 1, above=True), "vertical_flip": SHARE,
    "shuffle_buffer": COUNT,
}  # fmt: skip
OF_OBJECTIVE = {
    "encoder_momentum": "mocov3", "temperature": "mocov3", "mask_unit": "simmim", "mask_ratio": "simmim",
    "distill_masked": "simmim",
}  # fmt: skip
BEST_OF_TASK = {"classification": "accuracy"}
"""What selects `best/` where nothing is distilled; the other tasks leave no selection."""


@dataclass
class PretrainBackboneArguments:
    """What the backbone is and what it learns from."""

    flag_groups: ClassVar = {
        "input": ("dataset", "maps", "split", "category", "exclude", "val_fraction", "streaming", "shuffle_buffer"),
        "model": ("backbone", "start", "image_size", "frozen_stages", "drop_path"),
        "objective": (
            "objective", "distillation", "distill_loss", "distill_layers", "map_target", "loss_weights",
            "encoder_momentum", "temperature", "mask_unit", "mask_ratio", "distill_masked",
        ),
        "augmentation": ("min_scale", "vertical_flip"),
        "output": ("output",),
    }  # fmt: skip
    rare_flags: ClassVar = (
        "shuffle_buffer", "drop_path", "distill_layers", "map_target", "loss_weights", "encoder_momentum",
        "temperature", "mask_unit", "mask_ratio", "distill_masked", "min_scale",
    )  # fmt: skip

    dataset: str = field(metadata={"help": "unlabelled images: folder, Parquet, save_to_disk folder or Hub id"})
    output: str = field(metadata={"help": "folder of the pretrained backbone"})
    maps: str | None = field(
        default=None, metadata={"help": "map store of these images; default: the maps that came with them"}
    )
    backbone: str = field(default="yolov8n", metadata={"help": "yolov8n, yolov8s, resnet50, swin_base or a timm name"})
    start: str = field(
        default="scratch",
        metadata={
            "help": "scratch, timm, pypi, a safetensors file with timm's or ultralytics' names, or a folder or Hub id "
            "of a backbone or a detector"
        },
    )
    objective: str = field(
        default="auto",
        metadata={
            "help": "classification (of the categories), mocov3 (two views), simmim (hidden patches; transformers), "
            "none; auto: classification if there are categories"
        },
    )
    distillation: bool = field(default=True, metadata={"help": "learn from the task alone, not from the maps"})
    distill_loss: str = field(default="l2", metadata={"help": "l2, cosine or l2_raw (Eq. 7)"})
    distill_layers: list[int] | None = field(
        default=None, metadata={"help": "stages, -1 is the last; default the last two"}
    )
    map_target: str = field(default="raw", metadata={"help": "raw, centered or minmax"})
    loss_weights: list[float] | None = field(default=None, metadata={"help": "fixed weights of task and distillation"})
    encoder_momentum: float = field(default=0.99, metadata={"help": "mocov3: of the slow encoder; rises to 1"})
    temperature: float = field(default=1.0, metadata={"help": "mocov3: of the contrastive loss; transformers: 0.2"})
    mask_unit: int = field(default=32, metadata={"help": "simmim: side of a hidden patch in px"})
    mask_ratio: float = field(default=0.6, metadata={"help": "simmim: share of the patches that is hidden"})
    distill_masked: bool = field(
        default=False,
        metadata={"help": "simmim: distil from the image with hidden patches: one forward pass a step instead of two"},
    )
    frozen_stages: int | None = field(
        default=None, metadata={"help": "stem and first stages kept; default 2, scratch 0"}
    )
    drop_path: float | None = field(
        default=None,
        metadata={"help": "highest probability of leaving out a block; default 0.5 for swin_base, else the network's"},
    )
    image_size: int | None = field(default=None, metadata={"help": "side of the input in px; default 224, simmim 192"})
    min_scale: float = field(default=0.2, metadata={"help": "smallest share of the image in a crop"})
    vertical_flip: float = field(default=0.0, metadata={"help": "probability of mirroring top and bottom"})
    val_fraction: float = field(default=0.05, metadata={"help": "share of images held out for the health signal"})
    split: str | None = field(default=None, metadata={"help": "split of the data set"})
    category: str | None = field(default=None, metadata={"help": "object category of all images, where none is known"})
    exclude: str | None = field(
        default=None, metadata={"help": "file of image ids to leave out, a line each (`agssp dataset check-overlap`)"}
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "read rows as they come; needs --max-steps; logs every --logging-steps, saves every --save-steps"
        },
    )
    shuffle_buffer: int = field(
        default=1000,
        metadata={
            "help": "streaming: rows among which the order is shuffled; each process keeps as many in memory, images "
            "encoded (1000 images of 200 kB: 200 MB), and reads them before its first step"
        },
    )

    def __post_init__(self) -> None:
        from agssp.models.pretraining.configuration_agssp_pretraining import DISTILL_LOSSES, MAP_TARGETS, OBJECTIVES

        check_ranges(self, **RANGES)
        check_choices(self, objective=("auto", *OBJECTIVES), distill_loss=DISTILL_LOSSES, map_target=MAP_TARGETS)
        for name in given(self, OF_OBJECTIVE):
            if self.objective != OF_OBJECTIVE[name]:
                raise InputError(f"{flag(name)}: is for --objective {OF_OBJECTIVE[name]}; leave it out")
        if not self.streaming and given(self, ["shuffle_buffer"]):
            raise InputError("--shuffle-buffer: is for --streaming; leave it out")


@dataclass
class BackboneTrainingArguments(AgsspTrainingArguments):
    """Training arguments with METHOD 3's values."""

    num_train_epochs: float = field(default=200, metadata={"help": "passes over the images"})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "images a step and device"})
    schedule: str | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "cosine, linear, multistep or constant; default: cosine for adamw, multistep for sgd"},
    )
    warmup_epochs: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "epochs over which the learning rate rises; default: adamw a tenth, 20 at most; sgd 1"},
    )
    max_grad_norm: float = field(default=5.0, metadata={"help": "gradients are clipped to this norm"})


ARGUMENTS = (PretrainBackboneArguments, BackboneTrainingArguments)


@on_terminal
@keeps_outputs
def main(arguments: PretrainBackboneArguments, training: AgsspTrainingArguments) -> None:
    """Pretrain and save the backbone."""
    import transformers
    from accelerate import PartialState
    from timm.layers import convert_sync_batchnorm
    from transformers.trainer_utils import IntervalStrategy

    from agssp.command_lines import command_line
    from agssp.data.exclusion import without_excluded
    from agssp.data.fingerprint import dataset_fingerprint
    from agssp.data.origin import describe_source, recorded_about
    from agssp.data.reading import read_told
    from agssp.data.schema import category_names
    from agssp.data.training_sets import collate_pretraining
    from agssp.data.views import augmentation
    from agssp.files import remove_leftovers, whole_folder
    from agssp.maps.store import MapStore
    from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
    from agssp.models.backbone.networks import drop_path_args, full_name, name_of_weights
    from agssp.models.pretraining.modeling_agssp_pretraining import AgsspForPreTraining
    from agssp.report.pretraining import write_pretraining_page
    from agssp.training.backbone_recipe import DROP_PATHS, choose_backbone_optimizer
    from agssp.training.health_monitor import HealthMonitor
    from agssp.training.held_out import choose_maps, divide_rows, divide_stream, with_maps
    from agssp.training.run import begin, common_facts, content_fingerprint, finish, optimizer_line, train
    from agssp.training.trainer import BEST, AgsspTrainer

    transformers.set_seed(training.seed)
    check_before_training(training)
    check_measuring(training, measured=arguments.val_fraction > 0, how="a --val-fraction above 0")
    architecture = full_name(arguments.backbone)
    choose_backbone_optimizer(training, architecture)
    drop_path = DROP_PATHS.get(architecture) if arguments.drop_path is None else arguments.drop_path
    model_args = None if drop_path is None else drop_path_args(architecture, drop_path)
    if arguments.streaming:
        check_stream(training)
        # There are no epochs to count by: losses are logged, and checkpoints written, every so many steps.
        if training.logging_strategy == IntervalStrategy.EPOCH:
            training.logging_strategy = IntervalStrategy.STEPS
    dataset, reading = read_told(
        arguments.dataset, split=arguments.split, category=arguments.category, streaming=arguments.streaming
    )
    dataset = without_excluded(dataset, arguments.exclude)
    maps = choose_maps(dataset, arguments.maps, arguments.dataset) if arguments.distillation or arguments.maps else None
    store = maps if isinstance(maps, MapStore) else None
    if not arguments.streaming:
        dataset = with_maps(dataset, maps, arguments.maps, arguments.dataset)
    recorded = recorded_about(arguments.dataset)
    inputs = {
        "dataset": dataset_fingerprint(dataset, arguments.dataset),
        "maps": None if store is None else f"{content_fingerprint(arguments.maps)}, {len(store)} maps",
        "start": content_fingerprint(arguments.start),
    }
    if begin(arguments.output, "pretrain-backbone", asdict(arguments), training, inputs):
        print(f"{arguments.output}: this run is finished already")
        publish_result(arguments.output, training)
        return
    categories = category_names(dataset)
    objective = arguments.objective
    if objective == "auto":
        objective = "classification" if len(categories) > 1 else "none"
    frozen = arguments.frozen_stages
    if frozen is None:
        frozen = 0 if arguments.start == "scratch" else 2
    backbone = AgsspBackbone.from_architecture(
        arguments.backbone, arguments.start, frozen_stages=frozen, model_args=model_args
    )
    print(backbone.start_report)
    print(optimizer_line(training))
    model = AgsspForPreTraining.from_backbone(
        backbone,
        objective=objective,
        distillation=arguments.distillation,
        distill_layers=arguments.distill_layers,
        distill_loss=arguments.distill_loss,
        map_target=arguments.map_target,
        loss_weights=arguments.loss_weights,
        encoder_momentum=arguments.encoder_momentum,
        contrast_temperature=arguments.temperature,
        distill_masked=arguments.distill_masked,
        id2label=dict(enumerate(categories)),
    )
    state = PartialState()
    if objective == "mocov3" and state.num_processes > 1 and state.device.type == "cuda":
        # As its authors do: statistics of a process's own few images would tell which views came together.
        backbone.network = convert_sync_batchnorm(backbone.network)
    transform = augmentation(
        objective,
        arguments.image_size,
        backbone.config.image_mean,
        backbone.config.image_std,
        scale=(arguments.min_scale, 1.0),
        vertical_flip=arguments.vertical_flip,
        mask_unit=arguments.mask_unit,
        mask_ratio=arguments.mask_ratio,
    )
    images: Any
    if arguments.streaming:
        images, held_out = divide_stream(
            dataset,
            maps,
            transform,
            training.seed,
            source=arguments.dataset,
            share=arguments.val_fraction,
            buffer_size=arguments.shuffle_buffer,
            rank=state.process_index,
            world_size=state.num_processes,
            skipped_file=Path(arguments.output) / "skipped.jsonl",
        )
    else:
        images, held_out = divide_rows(dataset, maps, transform, training.seed, share=arguments.val_fraction)
    if objective == "mocov3":
        # An image alone in the last batch of an epoch has no others to be told from.
        training.dataloader_drop_last = True
        batch = training.per_device_train_batch_size * state.num_processes
        if not arguments.streaming and len(images) < batch:
            raise InputError(
                f"objective mocov3: {len(images)} training images do not fill one batch of {batch}; lower "
                "--per-device-train-batch-size"
            )
    monitor = HealthMonitor(
        Path(arguments.output),
        held_out,
        collate_pretraining,
        partial(write_pretraining_page, Path(arguments.output), about=about(model.config, str(backbone.start_report))),
        unit="step" if arguments.streaming else "epoch",
        batch_size=training.per_device_eval_batch_size,
        workers=training.dataloader_num_workers,
    )
    trainer = AgsspTrainer(
        model=model,
        args=training,
        train_dataset=images,
        data_collator=collate_pretraining,
        evaluator=None if held_out is None else monitor.measure,
        callbacks=[monitor],
        best_metric="alignment" if arguments.distillation else BEST_OF_TASK.get(objective),
    )
    monitor.begin(trainer.model)
    # Alignment says whether the maps are learned, not which epoch is best for a detector: the last average is final.
    result = train(trainer, final="last")

    if trainer.is_world_process_zero():
        output = Path(arguments.output)
        final = trainer.accelerator.unwrap_model(trainer.model)
        with whole_folder(output / "pretraining") as part:
            final.save_pretrained(part)
        pretrained_models = [(final, output)]
        if result["best"] is not None:
            pretrained_models.append((AgsspForPreTraining.from_pretrained(output / BEST), output / BEST / "backbone"))
        # Frozen stages and drop path are how it was trained, not what it is: whoever goes on with it decides anew.
        for pretrained, folder in pretrained_models:
            pretrained.backbone.config.frozen_stages = 0
            pretrained.backbone.config.model_args.pop("drop_path_rate", None)
            remove_leftovers(folder, alone=True)
            pretrained.backbone.save_pretrained(folder)
        weight = float(final.distillation_weight)
        finish(
            arguments.output,
            common_facts(
                trainer,
                command_line("pretrain-backbone", arguments, training),
                arguments,
                (arguments.start,),
                name_of_weights(arguments.backbone),
            )
            | {
                "dataset": {"source": arguments.dataset, "fingerprint": dataset_fingerprint(dataset, arguments.dataset)}
                | {"images": None if arguments.streaming else len(dataset), "categories": categories}
                | {"reading": reading.as_json()}
                | describe_source(arguments.dataset, arguments.split),
                "teacher": teacher_facts(recorded.get("maps") if store is None else store.manifest, arguments),
                "start": str(backbone.start_report),
                "frozen_stages": frozen,
                "drop_path": drop_path,
                "objective": objective,
                "distill_loss": arguments.distill_loss if arguments.distillation else None,
                "lambda": None if math.isnan(weight) else weight,
                "results": {**monitor.record(), **result},
                "skipped": images.skipped,
            },
        )
        print(f"backbone in {output} ({len(images.skipped)} images skipped)")
        print(monitor.closing_line())
        print(next_step(arguments, final.backbone))
        publish_result(arguments.output, training)


def about(config: Any, start: str) -> str:
    """What is trained, in a few words for the page.

    Args:
        config: an `AgsspPreTrainingConfig`.
        start: what the weights are at the beginning.
    """
    parts = [f"`{config.backbone_config.architecture}`", f"start: {start}", f"objective {config.objective}"]
    if config.distillation:
        parts.append(f"distillation {config.distill_loss} of {config.map_target} maps")
    return ", ".join(parts)


def next_step(arguments: PretrainBackboneArguments, backbone: Any) -> str:
    """What can be done with the backbone, for the last line."""
    from agssp.models.detection.catalogue import takers

    detectors = takers(backbone.config)
    if not detectors:
        return (
            f"its features have strides {backbone.strides}, for a detector of your own: none of `--detector` takes them"
        )
    command = shell_command(
        "pretrain-detector",
        dataset=arguments.dataset,
        split=arguments.split,
        category=arguments.category,
        boxes="BOXES",
        backbone=arguments.output,
        # What began from nothing has seen too little to be kept as it is.
        no_freeze_backbone=True if arguments.start == "scratch" else None,
        detector=detectors[0],
        image_size=640,
        output="detector",
    )
    return f"next: {command}"


def teacher_facts(maps: dict[str, Any] | None, arguments: PretrainBackboneArguments) -> dict[str, Any] | None:
    """What a run's record says about the teacher whose maps it used.

    Args:
        maps: what the map store, or the data set that came with maps, records about them; None where nothing is known.
        arguments: of the run, which may have used no maps.
    """
    if maps is None or not (arguments.distillation or arguments.maps):
        return None
    names = ("teacher", "pretrained", "licence", "layers", "image_size", "knowledge")
    return {name: maps.get(name) for name in names}
