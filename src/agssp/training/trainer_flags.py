"""What becomes of each flag of transformers' Trainer here: it works, is handed on, or is refused by name.

A field of `TrainingArguments` is in exactly one of the three tables. One that is in none, of a newer transformers, is
refused as well where somebody gives it, since nobody has looked yet at what it does here.
"""

from collections.abc import Iterable

WORKS = (
    "activation_checkpointing", "dataloader_drop_last", "dataloader_num_workers", "disable_tqdm", "eval_on_start",
    "gradient_accumulation_steps", "gradient_checkpointing", "hub_model_id", "hub_private_repo", "hub_revision",
    "hub_token", "ignore_data_skip", "learning_rate", "log_level", "log_level_replica", "log_on_each_node",
    "logging_first_step", "logging_nan_inf_filter", "logging_steps", "logging_strategy", "max_grad_norm", "max_steps",
    "num_train_epochs", "per_device_eval_batch_size", "per_device_train_batch_size", "push_to_hub", "report_to",
    "save_steps", "save_total_limit", "seed", "train_sampling_strategy", "use_cpu", "weight_decay",
)  # fmt: skip
"""They change what a run computes, logs or writes."""

HANDED_ON = {
    "accelerator_config": "accelerate",
    "bf16": "accelerate",
    "data_seed": "accelerate",
    "dataloader_in_order": "torch's DataLoader",
    "dataloader_multiprocessing_context": "torch's DataLoader",
    "dataloader_pin_memory": "torch's DataLoader",
    "dataloader_prefetch_factor": "torch's DataLoader",
    "ddp_backend": "torch.distributed",
    "ddp_broadcast_buffers": "torch's DistributedDataParallel",
    "ddp_bucket_cap_mb": "torch's DistributedDataParallel",
    "ddp_find_unused_parameters": "torch's DistributedDataParallel",
    "ddp_static_graph": "torch's DistributedDataParallel",
    "ddp_timeout": "torch.distributed",
    "fp16": "accelerate",
    "full_determinism": "torch",
    "project": "trackio",
    "run_name": "the tracker",
    "tf32": "torch",
    "torch_compile": "torch.compile",
    "torch_compile_backend": "torch.compile",
    "torch_compile_mode": "torch.compile",
    "torch_empty_cache_steps": "torch",
    "trackio_bucket_id": "trackio",
    "trackio_space_id": "trackio",
    "trackio_static_space_id": "trackio",
}
"""Name -> whose business it is; the value arrives there as it is."""

_ADAM = "AdamW runs with betas 0.9 and 0.999 and epsilon 1e-8; give --optimizer, --learning-rate or --weight-decay"
_BEST = "what is best is chosen by mAP on --validation or --val-fraction, of backbones by alignment, and kept in best/"
_EVALUATION = "evaluation is this package's own; --per-device-eval-batch-size says how many images it takes at a time"
_FLOAT32 = "evaluation is in float32, so that results can be compared; for mixed precision in training give --bf16"
_LANGUAGE = "is for models of language; leave it out"
_PARALLEL = (
    "weights are averaged and runs resumed with whole copies alone: accelerate launch --num_processes N -m agssp ..."
)
_PUSH = "the finished result is pushed once, with its card, by --push-to-hub OWNER/NAME"
_RESUME = "the same command with the same --output goes on from the last checkpoint"
_SCHEDULE = "give --schedule cosine, linear, multistep or constant instead, and --final-rate"
_STEP = "give --optimizer sgd, adamw or auto instead"
_TRAINS = "the command trains, measures --validation and --test and needs no word for it; leave it out"
_WARMUP = "give --warmup-epochs instead"
_WHEN_MEASURED = "give --eval-every EPOCHS instead"

REFUSED = {
    "activation_checkpointing_kwargs": "backbones recompute as timm does, which takes none; leave it out",
    "adam_beta1": _ADAM,
    "adam_beta2": _ADAM,
    "adam_epsilon": _ADAM,
    "auto_find_batch_size": "the learning rate goes with the batch; lower --per-device-train-batch-size and raise "
    "--gradient-accumulation-steps",
    "average_tokens_across_devices": _LANGUAGE,
    "batch_eval_metrics": _EVALUATION,
    "dataloader_persistent_workers": "workers always stay from epoch to epoch, with the images that they have decoded",
    "debug": "in Python, transformers.debug_utils.DebugUnderflowOverflow(model) does the same",
    "deepspeed": _PARALLEL,
    "do_eval": _TRAINS,
    "do_predict": _TRAINS,
    "do_train": _TRAINS,
    "enable_jit_checkpoint": f"its checkpoints lack the averaged weights; give --save-steps: {_RESUME}",
    "eval_accumulation_steps": _EVALUATION,
    "eval_delay": _WHEN_MEASURED,
    "eval_do_concat_batches": _EVALUATION,
    "eval_steps": _WHEN_MEASURED,
    "eval_strategy": _WHEN_MEASURED,
    "eval_use_gather_object": _EVALUATION,
    "fp16_full_eval": _FLOAT32,
    "bf16_full_eval": _FLOAT32,
    "fsdp": _PARALLEL,
    "fsdp_config": _PARALLEL,
    "gradient_checkpointing_kwargs": "backbones recompute as timm does, which takes none; leave it out",
    "greater_is_better": _BEST,
    "hub_always_push": _PUSH,
    "hub_strategy": _PUSH,
    "include_for_metrics": _EVALUATION,
    "include_num_input_tokens_seen": _LANGUAGE,
    "label_names": "labels are called `labels`; leave it out",
    "label_smoothing_factor": "the losses of detectors and of distillation have no smoothing; leave it out",
    "length_column_name": "images have no length; leave it out",
    "liger_kernel_config": _LANGUAGE,
    "load_best_model_at_end": _BEST,
    "local_rank": "start several processes with accelerate launch or torchrun, which tell each its own",
    "lr_scheduler_kwargs": _SCHEDULE,
    "lr_scheduler_type": _SCHEDULE,
    "metric_for_best_model": _BEST,
    "neftune_noise_alpha": _LANGUAGE,
    "optim": _STEP,
    "optim_args": _STEP,
    "optim_target_modules": _STEP,
    "output_dir": "give --output instead",
    "parallelism_config": _PARALLEL,
    "prediction_loss_only": _EVALUATION,
    "remove_unused_columns": "must stay off: items are tensors already",
    "restore_callback_states_from_checkpoint": _RESUME,
    "resume_from_checkpoint": _RESUME,
    "save_on_each_node": "all nodes read checkpoints from one folder; put --output where every node sees it",
    "save_only_model": f"checkpoints hold the optimizer, so that {_RESUME}",
    "save_strategy": "give --checkpoint-every EPOCHS or --save-steps STEPS instead",
    "skip_memory_metrics": "it keeps a core busy; `agssp profile` tells how much memory training takes",
    "use_cache": _LANGUAGE,
    "use_liger_kernel": _LANGUAGE,
    "warmup_steps": _WARMUP,
}
"""Name -> what to use instead."""

FORMER = {
    "evaluation_strategy": _WHEN_MEASURED,
    "group_by_length": "images have no length; leave it out",
    "logging_dir": "trackers write into --output; the variable TENSORBOARD_LOGGING_DIR names another folder",
    "no_cuda": "give --use-cpu instead",
    "overwrite_output_dir": f"{_RESUME}; for a new run give another --output",
    "warmup_ratio": _WARMUP,
}
"""What earlier versions of transformers had and people still type, as in `REFUSED`."""


def refusals(names: Iterable[str], version: str) -> dict[str, str]:
    """What is refused of the fields of transformers' `TrainingArguments`, and of what they were called before.

    Args:
        names: of the fields that the installed version has.
        version: which that is.

    Returns:
        Name -> what to use instead, or that nobody has looked at it yet.
    """
    unknown = f"is new in transformers {version}, and what it does here is not known; leave it out"
    new = {name: unknown for name in names if name not in WORKS and name not in HANDED_ON}
    return new | FORMER | REFUSED
