"""transformers' Trainer with averaged weights, logged loss components and an evaluation of ours."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from agssp.data.training_sets import EMPTY_STREAM
from agssp.errors import InputError
from agssp.files import make_durable, whole_folder, write_json
from agssp.parsing import read_json
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.ema import ExponentialMovingAverage
from agssp.training.norm_statistics import NormStatistics
from agssp.training.parameter_groups import parameter_groups

EMA_FILE = "ema.safetensors"
COMPLETE = "complete.json"
BEST = "best"


class AgsspTrainer(Trainer):
    """Trainer whose model is its moving average.

    Args:
        evaluator: measures a model in eval mode, called on every process; returns numbers without prefix.
        best_metric: the number whose highest value selects `best/`; None: nothing is selected.
        loss_scale: factor on the loss for the optimizer alone, so that a learning rate that was chosen for a loss
            summed over a batch can be used with our mean; see `agssp.training.detector_recipes.loss_scale`.
        save: writes a model to a folder; by default its `save_pretrained`.
        kwargs: of transformers' Trainer.
    """

    args: AgsspTrainingArguments
    train_dataset: Any
    model: nn.Module

    def __init__(
        self,
        *,
        evaluator: Callable[[Any], dict[str, float]] | None = None,
        best_metric: str | None = None,
        loss_scale: float = 1.0,
        save: Callable[[Any, Path], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Under its former name and its present one, of which transformers has had one, both, and will have one.
        recomputes = any(getattr(self.args, f"{name}_checkpointing", False) for name in ("activation", "gradient"))
        if recomputes and not getattr(self.model, "supports_gradient_checkpointing", False):
            raise InputError(
                f"--activation-checkpointing, --gradient-checkpointing: a {type(self.model).__name__} recomputes no "
                "activations; leave it out, or lower --per-device-train-batch-size and raise "
                "--gradient-accumulation-steps"
            )
        self.evaluator, self.best_metric, self.loss_scale = evaluator, best_metric, loss_scale
        self.save_to = save or (lambda model, folder: model.save_pretrained(folder))
        self.ema = ExponentialMovingAverage(self.model, self.args.ema_decay, self.args.ema_ramp)
        self.streaming = isinstance(self.train_dataset, torch.utils.data.IterableDataset)
        self._components: dict[str, torch.Tensor] = {}
        self._component_steps = 0
        self.add_callback(NormStatistics())
        self.add_callback(_Rhythm(self))

    def get_train_dataloader(self) -> DataLoader:
        """Transformers' own, but for a stream, which divides itself among the processes.

        Raises:
            InputError: not one batch is full, and others are to be left out.
        """
        if not self.streaming:
            loader = super().get_train_dataloader()
            if len(loader) == 0:
                raise InputError(
                    f"--dataloader-drop-last: {len(self.train_dataset)} images do not fill one batch of "
                    f"{self.args.per_device_train_batch_size} on each process; leave it out, or lower "
                    "--per-device-train-batch-size"
                )
            return loader
        # Prepared by accelerate it would be divided twice.
        return _EndlessLoader(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            in_order=self.args.dataloader_in_order,
            drop_last=True,
        )

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The model's own loss; its components are gathered for the log."""
        outputs = model(**inputs)
        for name, value in (getattr(outputs, "loss_dict", None) or {}).items():
            total = self._components.get(name)
            self._components[name] = value.detach().float() + (0 if total is None else total)
        self._component_steps += 1
        loss = outputs.loss * self.loss_scale
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the mean of each loss component over steps and processes, and undo the scale of the loss."""
        for name in {"loss", "train_loss"} & set(logs):
            logs[name] = logs[name] / self.loss_scale
        if "loss" in logs:
            for name, total in self._components.items():
                mean = self.accelerator.gather(total.reshape(1).to(self.args.device)).mean() / self._component_steps
                logs[f"loss_{name}"] = float(mean)
            self._components, self._component_steps = {}, 0
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """SGD with Nesterov momentum, or AdamW, over the two parameter groups."""
        if self.optimizer is None:
            groups = parameter_groups(self.model, float(self.args.weight_decay or 0))
            for group in groups:
                group.pop("names")
            rate = self.args.scaled_learning_rate
            if self.args.optimizer == "sgd":
                self.optimizer = torch.optim.SGD(groups, lr=rate, momentum=self.args.momentum, nesterov=True)
            else:
                self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999))
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Linear warm-up, then the schedule of the arguments."""
        if self.lr_scheduler is None:
            steps_per_epoch = num_training_steps / max(float(self.args.num_train_epochs), 1e-9)
            if self.args.max_steps > 0 and not self.streaming:
                steps_per_epoch = len(self.get_train_dataloader()) / self.args.gradient_accumulation_steps
            if self.args.warmup_epochs is None:
                warmup = 0.1 * num_training_steps
            else:
                warmup = min(self.args.warmup_epochs * steps_per_epoch, 0.5 * num_training_steps)
            schedule, final = self.args.schedule, self.args.final_rate

            def rate(step: int) -> float:
                if step < warmup:
                    return (step + 1) / (warmup + 1)
                progress = min((step - warmup) / max(num_training_steps - warmup, 1), 1.0)
                if schedule == "cosine":
                    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2
                if schedule == "linear":
                    return final + (1 - final) * (1 - progress)
                if schedule == "multistep":
                    return 0.1 ** sum(step / max(num_training_steps, 1) >= mark for mark in (0.3, 0.45, 0.9))
                return 1.0

            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.create_optimizer(), rate)
        return self.lr_scheduler

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Measure the averaged weights; keep them in `best/` if they are the best so far."""
        if self.evaluator is None:
            return {}
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        self.ema.synchronise()
        with self.ema.applied(model):
            model.eval()
            measured = self.evaluator(model)
            self._keep_best(model, measured)
        model.train(training)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _keep_best(self, model: Any, measured: dict[str, float]) -> None:
        if self.best_metric is None or not self.is_world_process_zero() or self.state.global_step == 0:
            return
        value = measured.get(self.best_metric)
        assert self.args.output_dir is not None
        folder = Path(self.args.output_dir) / BEST
        record = folder / COMPLETE
        before = -math.inf
        if record.is_file():
            before = read_json(record, keys=("value",), remedy=f"remove {folder}")["value"]
        if value is None or math.isnan(value) or value <= before:
            return
        with whole_folder(folder) as part:
            self.save_to(model, part)
            write_json(part / COMPLETE, {"metric": self.best_metric, "value": value, "epoch": self.state.epoch})


class _EndlessLoader(DataLoader):
    """Loads a stream, which never ends; where it does, no worker of this process has found an image in its part.

    Raised at once, since the other processes already wait for this one's gradients.
    """

    def __iter__(self) -> Any:
        yield from super().__iter__()
        raise InputError(EMPTY_STREAM)


class _Rhythm(TrainerCallback):
    """When to average, evaluate and save: counted in epochs, or in `save_steps` where a stream has none."""

    def __init__(self, trainer: AgsspTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        if hasattr(model, "set_training_progress"):
            model.set_training_progress(min(state.global_step / max(state.max_steps, 1), 1.0))
        # accelerate tells the data set its epoch on one process only, and not after a resume within an epoch.
        if not self.trainer.streaming:
            self.trainer.train_dataset.set_epoch(int((state.epoch or 0) + 1e-6))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        if hasattr(model, "after_optimizer_step"):
            model.after_optimizer_step(state.global_step / max(state.max_steps, 1))
        self.trainer.ema.update(model)
        if self.trainer.streaming and (
            state.global_step % state.save_steps == 0 or state.global_step >= state.max_steps
        ):
            control.should_evaluate = self.trainer.evaluator is not None
            control.should_save = True
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if self.trainer.streaming:
            return control
        epoch = round(state.epoch)
        last = state.global_step >= state.max_steps
        control.should_evaluate = self.trainer.evaluator is not None and (last or epoch % args.eval_every == 0)
        control.should_save = last or epoch % args.checkpoint_every == 0
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The other processes' parts of the checkpoint must be there before it is called complete.
        self.trainer.accelerator.wait_for_everyone()
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            self.trainer.ema.save(folder / EMA_FILE)
            make_durable(folder)
            # Written last: a checkpoint without it was cut off and is not resumed from.
            write_json(folder / COMPLETE, {"step": state.global_step})


def last_checkpoint(output: str | Path) -> Path | None:
    """The latest checkpoint that was written to its end; None if there is none."""
    found = [path for path in Path(output).glob("checkpoint-*") if (path / COMPLETE).is_file()]
    return max(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)
