"""transformers' TrainingArguments with this field's defaults, and the few fields it lacks."""

import logging
import math
import os
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
import transformers
from transformers import TrainingArguments

from agssp.errors import InputError
from agssp.hub_client.names import is_hub_id
from agssp.training import flag_checks
from agssp.training.flag_help import GROUPS, HELP, RARE
from agssp.training.trainer_flags import refusals

logger = logging.getLogger(__name__)

SAVE_STEPS, LOGGING_STEPS = 500, 500
"""Where nothing is said, of streams, which have no epochs to count by."""


@dataclass
class AgsspTrainingArguments(TrainingArguments):
    """Arguments of every training command; of transformers' Trainer those that do something here, see `trainer_flags`.

    Raises:
        InputError: a value that cannot be used here, or a flag of transformers' that would do nothing.
    """

    flag_groups: ClassVar[dict[str, tuple[str, ...]]] = GROUPS
    rare_flags: ClassVar[tuple[str, ...]] = RARE
    flag_help: ClassVar[dict[str, str]] = HELP
    refused_flags: ClassVar[dict[str, str]] = refusals(
        (each.name for each in fields(TrainingArguments)), transformers.__version__
    )

    per_device_train_batch_size: int = field(default=16, metadata={"help": "images a step and device"})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "images a step in evaluation"})
    learning_rate: float | None = field(default=None, metadata={"help": "default: chosen with the optimizer"})  # type: ignore[assignment]
    nominal_batch: int | None = field(
        default=None,
        metadata={
            "help": "global batch that the learning rate is meant for: the rate is scaled linearly by batch / "
            "nominal batch; 0: not scaled; default: chosen with the learning rate, 0 for one that is given"
        },
    )
    weight_decay: float | None = field(default=None, metadata={"help": "default: chosen with the optimizer"})  # type: ignore[assignment]
    optimizer: str = field(default="auto", metadata={"help": "sgd (Nesterov, momentum), adamw, or auto"})
    momentum: float = field(default=0.9, metadata={"help": "of SGD"})
    schedule: str = field(
        default="cosine",
        metadata={"help": "cosine, linear, multistep (a tenth after 30, 45 and 90 percent) or constant"},
    )
    final_rate: float = field(
        default=0.01, metadata={"help": "cosine, linear: last learning rate as a share of the first"}
    )
    warmup_epochs: float = field(default=1.0, metadata={"help": "epochs over which the learning rate rises"})
    max_grad_norm: float = field(default=10.0, metadata={"help": "gradients are clipped to this norm; 0: not clipped"})
    ema_decay: float = field(default=0.9999, metadata={"help": "of the moving average of the weights; 0: no average"})
    ema_ramp: float = field(default=200.0, metadata={"help": "steps over which the average's decay rises"})
    train_sampling_strategy: str = field(
        default="random", metadata={"help": "order of the images", "choices": list(flag_checks.SAMPLING)}
    )
    eval_every: int = field(default=1, metadata={"help": "epochs between evaluations; the last is always evaluated"})
    checkpoint_every: int = field(default=1, metadata={"help": "epochs between checkpoints"})
    save_steps: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "save within epochs too, every so many steps; below 1: a share of the run; default of streams: 500"
        },
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "checkpoints kept, 2 at least; 0: all"})
    save_strategy: str = "no"
    dataloader_num_workers: int = field(
        default=-1, metadata={"help": "processes that load images; default: cores, 8 at most"}
    )
    logging_strategy: str = field(default="epoch", metadata={"help": "when losses are logged: epoch, steps or no"})
    logging_steps: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "log losses by steps, every so many; below 1: a share of the run; default of streams: 500"},
    )
    remove_unused_columns: bool = False
    report_to: str | None = field(
        default="none", metadata={"help": "trackers, for instance tensorboard", "metavar": "TRACKER"}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "not needed: unused weights are frozen"}
    )
    seed: int = field(default=0, metadata={"help": "of the order, the augmentation and new weights"})
    push_to_hub: str | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "publish the result there once, at the end, with its card, as `agssp push` does",
            "metavar": "OWNER/NAME",
        },
    )

    def __post_init__(self) -> None:
        left_open = [each.name for each in fields(self) if each.init and getattr(self, each.name) == each.default]
        flag_checks.check_refused(self, self.refused_flags)
        flag_checks.check_values(self)
        handed_on = flag_checks.given_to_transformers(self)
        self.accelerator_config = flag_checks.accelerator_settings(self.accelerator_config)
        if self.dataloader_num_workers < 0:
            self.dataloader_num_workers = min(8, os.cpu_count() or 1)
        self._choose_steps()
        self._limit_checkpoints()
        self._check_trackers()
        # Trainer itself would push every checkpoint, optimizer states included, under a card that it makes up.
        self.publish_to = self._published_name()
        self.push_to_hub = None
        with flag_checks.transformers_errors(handed_on):
            super().__post_init__()
        flag_checks.check_machine(self)
        # Without a GPU there is nothing to pin for, and torch would warn of it at every epoch.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        # Workers keep the images they have decoded from epoch to epoch.
        self.dataloader_persistent_workers = self.dataloader_num_workers > 0
        if self.n_gpu > 1:
            # transformers would split batches over the GPUs of one process, which detectors' labels do not survive.
            logger.info(f"using one of {self.n_gpu} GPUs; for all of them: accelerate launch -m agssp COMMAND ...")
            self._n_gpu = 1
        # Streams are split over ranks by our own data set, and items of other lengths could not be dispatched.
        accelerator: Any = self.accelerator_config
        accelerator.dispatch_batches = False
        # What defaults have become, so that the record of a command leaves out what nobody asked for.
        self.rewritten_defaults = {name: getattr(self, name) for name in left_open}

    @property
    def global_batch(self) -> int:
        """Images behind one step of the optimizer: of all processes and all accumulated batches."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.world_size

    @property
    def scaled_learning_rate(self) -> float:
        """The learning rate for the global batch, which is what the optimizer gets."""
        rate = float(self.learning_rate or 0)
        return rate * self.global_batch / self.nominal_batch if self.nominal_batch else rate

    def steps_an_epoch(self, images: int) -> int:
        """Steps of the optimizer in one pass over so many images, of which each process sees its share."""
        whole = math.floor if self.dataloader_drop_last else math.ceil
        batches = whole(images / (self.per_device_train_batch_size * self.world_size))
        return max(math.ceil(batches / self.gradient_accumulation_steps), 1)

    def total_steps(self, images: int) -> int:
        """Steps of the optimizer in the whole run on so many images."""
        if self.max_steps > 0:
            return self.max_steps
        return math.ceil(self.num_train_epochs * self.steps_an_epoch(images))

    def epochs_begun(self, images: int) -> int:
        """Passes over so many images that the whole run begins; the last may end early."""
        return math.ceil(self.total_steps(images) / self.steps_an_epoch(images))

    def _choose_steps(self) -> None:
        """Log and save by steps where these are given, as whoever gives them means it."""
        if self.logging_steps is not None:
            self.logging_strategy = "steps"
        if self.save_steps is not None:
            self.save_strategy = "steps"
        self.logging_steps = LOGGING_STEPS if self.logging_steps is None else self.logging_steps
        self.save_steps = SAVE_STEPS if self.save_steps is None else self.save_steps

    def _limit_checkpoints(self) -> None:
        """The newest may be incomplete, so one alone could leave none to go on from."""
        if self.save_total_limit == 1:
            logger.warning("--save-total-limit 1: keeps 2, since the newest may be incomplete")
        self.save_total_limit = max(self.save_total_limit, 2) if self.save_total_limit else None

    def _published_name(self) -> str | None:
        """The repository that the result goes to: of `--push-to-hub`, or, transformers' way, of `--hub-model-id`."""
        asked = str(self.push_to_hub) if self.push_to_hub is not None else None
        if asked is None or asked.lower() == "false":
            return None
        name = self.hub_model_id if asked.lower() == "true" else asked
        if name is None or not is_hub_id(name):
            raise InputError(f"--push-to-hub {asked}: expected OWNER/NAME, such as me/my-detector")
        return name

    def _check_trackers(self) -> None:
        from transformers.integrations import get_available_reporting_integrations

        asked = [self.report_to] if isinstance(self.report_to, str) else list(self.report_to or [])
        available = get_available_reporting_integrations()
        missing = [name for name in asked if name not in ("none", "all") and name not in available]
        if missing:
            raise InputError(
                f"--report-to {' '.join(missing)}: not installed (pip install {' '.join(missing)}) or no tracker that "
                f"transformers knows; installed are {', '.join(available) or 'none'}"
            )
