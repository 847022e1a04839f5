"""How `--help` and `--help-all` show the flags of training commands."""

GROUPS: dict[str, tuple[str, ...]] = {
    "training": (
        "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
        "optimizer", "learning_rate", "nominal_batch", "weight_decay", "momentum", "schedule", "final_rate",
        "warmup_epochs", "max_grad_norm", "ema_decay", "ema_ramp", "seed", "data_seed", "train_sampling_strategy",
        "dataloader_drop_last",
    ),
    "measuring": ("eval_every", "eval_on_start", "per_device_eval_batch_size"),
    "output": (
        "checkpoint_every", "save_steps", "save_total_limit", "ignore_data_skip", "logging_strategy",
        "logging_steps", "logging_first_step", "logging_nan_inf_filter", "report_to",
        "run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "push_to_hub",
        "hub_model_id", "hub_private_repo", "hub_revision", "hub_token", "disable_tqdm", "log_level",
        "log_level_replica", "log_on_each_node",
    ),
    "machine": (
        "use_cpu", "bf16", "fp16", "tf32", "activation_checkpointing", "gradient_checkpointing", "torch_compile",
        "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps", "full_determinism",
        "dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory", "dataloader_in_order",
        "dataloader_multiprocessing_context", "accelerator_config", "ddp_backend", "ddp_timeout",
        "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_find_unused_parameters",
    ),
}  # fmt: skip
"""Titles, and what comes under each; all flags of `AgsspTrainingArguments` are here."""

USUAL = (
    "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "optimizer",
    "learning_rate", "schedule", "warmup_epochs", "seed", "eval_every", "checkpoint_every", "report_to",
    "push_to_hub", "use_cpu", "bf16", "dataloader_num_workers",
)  # fmt: skip
"""What `--help` shows of them."""

RARE = tuple(name for names in GROUPS.values() for name in names if name not in USUAL)

HELP = {
    "accelerator_config": "JSON or a file of it: even_batches, use_seedable_sampler, non_blocking of accelerate",
    "activation_checkpointing": "compute activations twice instead of keeping them: less memory, slower",
    "bf16": "mixed precision in bfloat16",
    "data_seed": "of the order of the images alone; default: --seed",
    "dataloader_drop_last": "leave out the last batch of an epoch where it is not full",
    "dataloader_in_order": "take batches as they come, whichever worker is first: a run is then no longer repeatable",
    "dataloader_multiprocessing_context": "how workers are started: fork, spawn or forkserver",
    "dataloader_pin_memory": "do not keep batches in pinned memory, from which a GPU copies faster",
    "dataloader_prefetch_factor": "batches that each worker loads in advance; default: 2",
    "ddp_backend": "how processes talk: nccl, gloo ...; default: what fits the device",
    "ddp_broadcast_buffers": "send the buffers of process 0 to the others before each forward pass",
    "ddp_bucket_cap_mb": "size in MB of the parts in which gradients are exchanged",
    "ddp_static_graph": "promise that the same weights are used in every step",
    "ddp_timeout": "seconds after which a process gives the others up",
    "disable_tqdm": "print the log instead of a progress bar",
    "eval_on_start": "measure before the first step too",
    "fp16": "mixed precision in float16, on GPUs without bfloat16",
    "full_determinism": "deterministic operations alone: slower",
    "gradient_accumulation_steps": "batches whose gradients make one step",
    "gradient_checkpointing": "the former name of --activation-checkpointing",
    "hub_model_id": "OWNER/NAME, where --push-to-hub is given without one",
    "hub_private_repo": "--push-to-hub makes a private repository",
    "hub_revision": "branch that --push-to-hub pushes to",
    "hub_token": "for --push-to-hub; default: that of `hf auth login`",
    "ignore_data_skip": "where a run goes on within an epoch, begin that epoch anew: other images than without a break",
    "log_level": "of transformers' messages",
    "log_level_replica": "the same on all processes but the first",
    "log_on_each_node": "the first process of each node does not count as a first one",
    "logging_first_step": "log the losses of the first step too",
    "logging_nan_inf_filter": "log losses that are no numbers as they are, not the mean of those before",
    "max_steps": "steps of the whole run, in place of --num-train-epochs",
    "num_train_epochs": "passes over the images",
    "project": "of trackio",
    "run_name": "what the tracker calls the run",
    "tf32": "matrix products in TensorFloat32, on NVIDIA GPUs since Ampere",
    "torch_compile": "compile the model",
    "torch_compile_backend": "backend of --torch-compile; default: inductor",
    "torch_compile_mode": "of --torch-compile: default, reduce-overhead, max-autotune ...",
    "torch_empty_cache_steps": "empty the GPU's cache every so many steps",
    "trackio_bucket_id": "bucket of trackio's Space",
    "trackio_space_id": "Space that trackio logs to",
    "trackio_static_space_id": "read-only Space that trackio writes at the end",
    "use_cpu": "train on the CPU though there is a GPU",
}
"""What flags of transformers' own do, in a line; those that this package defines anew say it themselves."""
