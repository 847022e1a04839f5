"""Refuses training flags that cannot work, each in one sentence, before data are read; Python callers get the same."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Any

import torch
from accelerate.utils import DynamoBackend
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import IntervalStrategy
from transformers.training_args import trainer_log_levels

from agssp.errors import InputError
from agssp.flag_values import (
    COUNT,
    LESS_THAN_ALL,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    Range,
    check_choices,
    check_ranges,
    flag,
)
from agssp.parsing import parse_json, read_json
from agssp.training.trainer_flags import HANDED_ON, WORKS

OPTIMIZERS = ("auto", "sgd", "adamw")
SCHEDULES = ("cosine", "linear", "multistep", "constant")
RANGES = {
    "per_device_train_batch_size": COUNT,
    "per_device_eval_batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "num_train_epochs": POSITIVE,
    "learning_rate": POSITIVE,
    "nominal_batch": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "momentum": Range(0, 1, above=True, below=True),
    "final_rate": SHARE,
    "warmup_epochs": NOT_NEGATIVE,
    "max_grad_norm": NOT_NEGATIVE,
    "ema_decay": LESS_THAN_ALL,
    "ema_ramp": POSITIVE,
    "eval_every": COUNT,
    "checkpoint_every": COUNT,
    "save_steps": POSITIVE,
    "save_total_limit": NOT_NEGATIVE,
    "logging_steps": POSITIVE,
    "seed": SEED,
    "data_seed": SEED,
    "dataloader_num_workers": Range(-1),
    "dataloader_prefetch_factor": COUNT,
    "torch_empty_cache_steps": COUNT,
    "ddp_bucket_cap_mb": COUNT,
    "ddp_timeout": COUNT,
}
SAMPLING = ("random", "sequential")
ACCELERATOR_SETTINGS = ("even_batches", "use_seedable_sampler", "non_blocking", "gradient_accumulation_kwargs")
"""Of `AcceleratorConfig`; by the others batches would be divided otherwise than learning rates are reckoned."""
OF_THE_HUB = ("hub_token", "hub_private_repo", "hub_model_id", "hub_revision")
OF_WORKERS = ("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order")
WITHOUT_ORDER = ("data_seed", "train_sampling_strategy", "dataloader_drop_last")
TRACKERS: dict[str, tuple[str, ...]] = {
    "run_name": ("wandb", "mlflow", "dagshub", "comet_ml", "swanlab", "trackio", "all"),
    "project": ("trackio", "all"),
    "trackio_space_id": ("trackio", "all"),
    "trackio_bucket_id": ("trackio", "all"),
    "trackio_static_space_id": ("trackio", "all"),
}
"""Which trackers take a flag; without one of them it would do nothing."""
LACKING = {
    "bf16": "this machine has no GPU that computes in bfloat16; add --use-cpu to train on the CPU, or leave it out",
    "tf32": "this machine has no GPU that computes in TensorFloat32 (NVIDIA's, since Ampere); leave it out",
}


def given(arguments: Any, names: Iterable[str] | None = None) -> list[str]:
    """Names of the fields whose value is not the default's, in the order of the fields.

    Args:
        arguments: instance of a dataclass.
        names: look at these alone.
    """
    wanted = None if names is None else set(names)
    found = []
    for each in fields(arguments):
        if each.init and (wanted is None or each.name in wanted):
            default = each.default if each.default_factory is MISSING else each.default_factory()
            value = getattr(arguments, each.name)
            # What is empty is as good as not given: transformers turns "" into [] and back.
            if value != default and (value or default):
                found.append(each.name)
    return found


def check_refused(arguments: Any, refused: Mapping[str, str]) -> None:
    """Refuse flags that would do nothing.

    Raises:
        InputError: one has another value than its default; what to use instead.
    """
    # A Trainer of somebody's own needs a folder to write to.
    for name in given(arguments, refused.keys() - {"output_dir"}):
        raise InputError(f"{flag(name)}: {refused[name]}")


def check_values(arguments: Any) -> None:
    """Refuse values out of range, and flags that would do nothing without another one.

    Args:
        arguments: an `AgsspTrainingArguments` before transformers has looked at it.

    Raises:
        InputError: the flag, what was expected and what came.
    """
    check_ranges(arguments, **{name: legal for name, legal in RANGES.items() if hasattr(arguments, name)})
    if arguments.max_steps < 1 and arguments.max_steps != -1:
        raise InputError(f"--max-steps {arguments.max_steps}: expected at least 1, or -1 to go by epochs")
    check_choices(
        arguments,
        optimizer=OPTIMIZERS,
        schedule=SCHEDULES,
        train_sampling_strategy=SAMPLING,
        logging_strategy=[each.value for each in IntervalStrategy],
        log_level=trainer_log_levels,
        log_level_replica=trainer_log_levels,
        dataloader_multiprocessing_context=torch.multiprocessing.get_all_start_methods(),
    )
    trackers = [arguments.report_to] if isinstance(arguments.report_to, str) else arguments.report_to or []
    for name in given(arguments, TRACKERS):
        if not set(trackers) & set(TRACKERS[name]):
            raise InputError(f"{flag(name)}: is for --report-to {' or '.join(TRACKERS[name])}; leave it out")
    if arguments.push_to_hub is None and "trackio" not in trackers:
        for name in given(arguments, OF_THE_HUB):
            raise InputError(f"{flag(name)}: give --push-to-hub OWNER/NAME too")
    if arguments.dataloader_num_workers == 0:
        for name in given(arguments, OF_WORKERS):
            raise InputError(f"{flag(name)}: is of the processes that load images; give --dataloader-num-workers too")
    if arguments.use_cpu and given(arguments, ["ddp_timeout"]):
        raise InputError("--ddp-timeout: transformers hands it on without --use-cpu alone; leave one of them out")
    if arguments.logging_strategy == "no" and arguments.logging_steps is not None:
        raise InputError("--logging-steps: --logging-strategy no logs nothing; leave one of them out")


def accelerator_settings(told: Any) -> Any:
    """`--accelerator-config` as a dictionary; None and objects of transformers' own are given back.

    Args:
        told: None, JSON, the path of a file of it, a dictionary or an `AcceleratorConfig`.

    Raises:
        InputError: it is none of these, or holds a setting that is not handed on.
    """
    where = f"--accelerator-config {told}"
    if isinstance(told, str):
        try:
            told = parse_json(told, "it") if told.lstrip().startswith("{") else read_json(told)
        except InputError as error:
            raise InputError(
                f"{where}: expected JSON such as '{{\"even_batches\": false}}' or a file: {error}"
            ) from error
    settings = told if isinstance(told, dict) else {name: value for name, value in _settings(told) if value}
    others = [name for name in settings if name not in ACCELERATOR_SETTINGS]
    if "num_steps" in (settings.get("gradient_accumulation_kwargs") or {}):
        raise InputError(f"{where}: accumulate with --gradient-accumulation-steps, and leave num_steps out")
    if others:
        raise InputError(f"{where}: {others[0]} is not handed on; known are {', '.join(ACCELERATOR_SETTINGS)}")
    return told


def _settings(told: Any) -> Iterable[tuple[str, Any]]:
    return vars(told).items() if isinstance(told, AcceleratorConfig) else ()


def check_stream(training: Any) -> None:
    """Refuse flags that do nothing for a stream, which has no epochs and an order of its own.

    Args:
        training: an `AgsspTrainingArguments`.

    Raises:
        InputError: how long to train is not said, or one of these flags is given.
    """
    if training.max_steps <= 0:
        raise InputError("--streaming: the length of a stream is not known; say how long to train with --max-steps")
    for name in given(training, ("eval_every", "checkpoint_every")):
        raise InputError(f"{flag(name)}: a stream has no epochs; --save-steps says how often it is measured and saved")
    for name in given(training, WITHOUT_ORDER):
        raise InputError(f"{flag(name)}: a stream has an order of its own, by --seed, and whole batches; leave it out")


def check_measuring(training: Any, *, measured: bool, tested: bool = False, how: str) -> None:
    """Refuse flags of evaluation in a run that measures nothing.

    Args:
        training: an `AgsspTrainingArguments`.
        measured: whether anything is held out to measure on while it trains.
        tested: whether the end result is measured on a test set, which takes the same batch size.
        how: the flags that hold something out.

    Raises:
        InputError: the flag, and what to give too.
    """
    names = [] if measured else ["eval_every", "eval_on_start"]
    if not (measured or tested):
        names.append("per_device_eval_batch_size")
    for name in given(training, names):
        raise InputError(f"{flag(name)}: this run measures nothing; give {how}, or leave it out")


def check_optimizer_flags(training: Any) -> None:
    """Refuse what the chosen optimizer and schedule do not use.

    Args:
        training: an `AgsspTrainingArguments` in which they are chosen.

    Raises:
        InputError: the flag, and what uses it.
    """
    if training.optimizer == "adamw" and given(training, ["momentum"]):
        raise InputError("--momentum: is of SGD, and this run takes AdamW; give --optimizer sgd or leave it out")
    if training.schedule in ("multistep", "constant") and given(training, ["final_rate"]):
        raise InputError(f"--final-rate: --schedule {training.schedule} ends at its own; leave one of them out")


@contextmanager
def transformers_errors(names: Iterable[str]) -> Iterator[None]:
    """Name the flag in whatever transformers and accelerate raise over a value.

    Args:
        names: what was given of their flags.

    Raises:
        InputError: in one line; the flags that the error speaks of, or else all that were given.
    """
    names = list(names)
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        blamed = [name for name in names if re.search(rf"\b{name}\b", text)] or names
        if not blamed:
            raise
        told = LACKING.get(blamed[0], text) if len(blamed) == 1 else text
        raise InputError(f"{', '.join(map(flag, blamed))}: {told}") from error


def check_machine(arguments: Any) -> None:
    """Refuse what this machine, or the libraries on it, cannot do.

    Args:
        arguments: an `AgsspTrainingArguments` whose device is known.

    Raises:
        InputError: the flag, and what to do.
    """
    on_cpu = arguments.device.type == "cpu"
    if arguments.fp16 and on_cpu:
        raise InputError(
            "--fp16: float16 needs a GPU, and this run is on the CPU; give --bf16 --use-cpu or leave it out"
        )
    if arguments.torch_empty_cache_steps is not None and on_cpu:
        raise InputError("--torch-empty-cache-steps: this run is on the CPU, which has no such cache; leave it out")
    if not arguments.torch_compile:
        return
    backends = [each.value.lower() for each in DynamoBackend if each is not DynamoBackend.NO]
    if arguments.torch_compile_backend not in backends:
        raise InputError(
            f"--torch-compile-backend {arguments.torch_compile_backend}: expected one of {', '.join(backends)}"
        )
    if arguments.torch_compile_mode is not None:
        modes = list(torch._inductor.list_mode_options())
        if arguments.torch_compile_mode not in modes:
            raise InputError(f"--torch-compile-mode {arguments.torch_compile_mode}: expected one of {', '.join(modes)}")


@contextmanager
def machine_errors(arguments: Any) -> Iterator[None]:
    """Name the flag where a machine turns out in the first step to lack what was asked of it.

    Args:
        arguments: an `AgsspTrainingArguments`.

    Raises:
        InputError: the model cannot be compiled here, or has an operation that is not deterministic.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        if arguments.torch_compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise InputError(
                f"--torch-compile: backend {arguments.torch_compile_backend} cannot compile the model on this machine; "
                f"leave it out or give another --torch-compile-backend: {text[:300]}"
            ) from error
        if arguments.full_determinism and "deterministic" in text:
            raise InputError(
                f"--full-determinism: an operation of the model has no such form on this machine; leave it out: {text}"
            ) from error
        raise


def given_to_transformers(arguments: Any) -> list[str]:
    """What was given of the flags that transformers looks at."""
    return given(arguments, {*WORKS, *HANDED_ON})
