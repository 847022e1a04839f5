"""Every flag of transformers' Trainer: that the run changes, that the value arrives, or that it is refused by name."""

import logging
import os
import re
import socket
from dataclasses import MISSING, fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from accelerate.state import AcceleratorState
from torch import nn
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback, TrackioCallback
from transformers.trainer_callback import ProgressCallback

from agssp.commands import push
from agssp.errors import InputError
from agssp.training import flag_checks
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.flag_help import GROUPS, HELP, RARE, USUAL
from agssp.training.trainer import AgsspTrainer
from agssp.training.trainer_flags import FORMER, HANDED_ON, REFUSED, WORKS, refusals

PLAIN = {
    "use_cpu": True, "dataloader_num_workers": 0, "disable_tqdm": True, "per_device_train_batch_size": 2,
    "num_train_epochs": 2, "optimizer": "sgd", "learning_rate": 0.1, "nominal_batch": 0, "weight_decay": 0.0,
    "warmup_epochs": 0.0,
}  # fmt: skip


class Line(nn.Module):
    """Fits y = 3x; says whether it was asked to recompute its activations."""

    supports_gradient_checkpointing = True

    def __init__(self):
        super().__init__()
        self.layer, self.recomputes = nn.Linear(1, 1), False
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x, labels):
        return SimpleNamespace(loss=((self.layer(x) - labels) ** 2).mean())

    def gradient_checkpointing_enable(self, **kwargs):
        self.recomputes = True

    activation_checkpointing_enable = gradient_checkpointing_enable


class Points(torch.utils.data.Dataset):
    """Eight points, and which of them were asked for; one may be no number."""

    def __init__(self, nan=False):
        self.x = torch.linspace(-1, 1, 8).reshape(8, 1)
        self.y = 3 * self.x
        if nan:
            self.y[0] = torch.nan
        self.seen = []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        self.seen.append(index)
        return {"x": self.x[index], "labels": self.y[index]}

    def set_epoch(self, epoch):
        pass


def arguments(output, **flags):
    return AgsspTrainingArguments(output_dir=str(output), **PLAIN | flags)


def trainer_of(output, nan=False, **flags):
    return AgsspTrainer(
        model=Line(),
        args=arguments(output, **flags),
        train_dataset=Points(nan),
        evaluator=lambda model: {"weight": model.layer.weight.item()},
        save=lambda model, folder: None,
    )


def run(output, **flags):
    """A finished run of eight steps, unless the flags say otherwise: 4 in each of 2 epochs."""
    trainer = trainer_of(output, **flags)
    trainer.train()
    return trainer


def steps(trainer):
    return trainer.state.global_step


def weight(trainer):
    return trainer.model.layer.weight.item()


def seen(trainer):
    return trainer.train_dataset.seen


def logged(trainer, key="loss"):
    """Steps at which something was logged."""
    return [entry["step"] for entry in trainer.state.log_history if key in entry]


def last_loss(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1]


def checkpoints(trainer):
    return sorted(int(path.name.split("-")[1]) for path in Path(trainer.args.output_dir).glob("checkpoint-*"))


def loader(trainer):
    return trainer.get_train_dataloader()


def differs(look):
    """A check that a run is another one to look at than the plain run."""
    return lambda trainer, plain: look(trainer) != look(plain)


def gives(look, expected, before):
    """A check that something is as expected, and was otherwise in the plain run."""
    return lambda trainer, plain: look(trainer) == expected and look(plain) == before


RUNS = {
    "per_device_train_batch_size": (4, gives(steps, 4, 8)),
    "num_train_epochs": (1, gives(steps, 4, 8)),
    "max_steps": (3, gives(steps, 3, 8)),
    "gradient_accumulation_steps": (2, gives(steps, 4, 8)),
    "learning_rate": (0.01, differs(weight)),
    "weight_decay": (0.5, differs(weight)),
    "max_grad_norm": (1e-3, differs(weight)),
    "gradient_checkpointing": (True, gives(lambda trainer: trainer.model.recomputes, True, False)),
    "activation_checkpointing": (True, gives(lambda trainer: trainer.model.recomputes, True, False)),
    "logging_strategy": ("no", gives(logged, [], [4, 8])),
    "logging_steps": (3, gives(logged, [3, 6], [4, 8])),
    "logging_first_step": (True, gives(logged, [1, 4, 8], [4, 8])),
    "eval_on_start": (True, gives(lambda trainer: logged(trainer, "eval_weight"), [0, 4, 8], [4, 8])),
    "save_steps": (3, gives(checkpoints, [6, 8], [4, 8])),
    "save_total_limit": (0, lambda trainer, plain: trainer.args.save_total_limit is None),
    "seed": (1, differs(seen)),
    "data_seed": (1, differs(seen)),
    "train_sampling_strategy": ("sequential", lambda trainer, plain: seen(trainer) == [*range(8)] * 2 != seen(plain)),
}  # fmt: skip
"""Name -> a value, and what must be true of the run with it and of the plain one."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run(tmp_path_factory.mktemp("plain"))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_run_changes(name, plain, tmp_path):
    if name not in {field.name for field in fields(TrainingArguments)}:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    value, check = RUNS[name]
    assert check(run(tmp_path, **{name: value}), plain)


@pytest.mark.slow
def test_all_checkpoints_are_kept_or_two_of_them(tmp_path, caplog):
    assert checkpoints(run(tmp_path / "two", num_train_epochs=3)) == [8, 12]
    assert checkpoints(run(tmp_path / "all", num_train_epochs=3, save_total_limit=0)) == [4, 8, 12]
    with caplog.at_level(logging.WARNING, "agssp"):
        assert arguments(tmp_path, save_total_limit=1).save_total_limit == 2
    assert "--save-total-limit 1: keeps 2" in caplog.text


@pytest.mark.slow
def test_a_batch_that_is_not_full_is_left_out_also_where_steps_are_reckoned(tmp_path):
    flags = {"per_device_train_batch_size": 3}
    whole, cut = run(tmp_path / "whole", **flags), run(tmp_path / "cut", **flags, dataloader_drop_last=True)
    assert (steps(whole), steps(cut)) == (6, 4)
    assert (whole.args.total_steps(8), cut.args.total_steps(8)) == (6, 4)
    with pytest.raises(InputError, match="--dataloader-drop-last: 8 images do not fill one batch of 9"):
        run(tmp_path / "none", per_device_train_batch_size=9, dataloader_drop_last=True)


@pytest.mark.slow
def test_losses_that_are_no_numbers(tmp_path):
    filtered, told = (run(tmp_path / str(flag), nan=True, logging_nan_inf_filter=flag) for flag in (True, False))
    assert torch.tensor(last_loss(filtered)).isfinite()
    assert torch.tensor(last_loss(told)).isnan()


class Stop(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise KeyboardInterrupt("at step 2")


@pytest.mark.slow
@pytest.mark.parametrize("anew", [False, True])
def test_a_run_goes_on_within_its_epoch_or_begins_it_anew(tmp_path, anew):
    first = trainer_of(tmp_path, save_steps=2)
    first.add_callback(Stop())
    with pytest.raises(KeyboardInterrupt, match="at step 2"):
        first.train()
    # Transformers collects the batches of a step before it begins.
    trained = seen(first)[:4]
    second = trainer_of(tmp_path, save_steps=2, ignore_data_skip=anew)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert steps(second) == 8
    assert (sorted(seen(second)[:8]) == [*range(8)]) == anew
    assert (sorted([*trained, *seen(second)[:4]]) == [*range(8)]) == (not anew)


def test_the_progress_bar_and_trackers_are_callbacks(tmp_path):
    def kinds(**flags):
        return {type(callback) for callback in trainer_of(tmp_path, **flags).callback_handler.callbacks}

    assert ProgressCallback not in kinds()
    assert ProgressCallback in kinds(disable_tqdm=False)
    assert TensorBoardCallback not in kinds()
    assert TensorBoardCallback in kinds(report_to="tensorboard")


def test_levels_of_messages(tmp_path, monkeypatch):
    before = transformers.logging.get_verbosity()
    try:
        trainer_of(tmp_path, log_level="error")
        assert transformers.logging.get_verbosity() == logging.ERROR
    finally:
        transformers.logging.set_verbosity(before)
    monkeypatch.setattr(AgsspTrainingArguments, "process_index", 1)
    monkeypatch.setattr(AgsspTrainingArguments, "local_process_index", 0)
    levels = {"log_level": "info", "log_level_replica": "critical"}
    assert arguments(tmp_path, **levels).get_process_log_level() == logging.INFO
    assert arguments(tmp_path, **levels, log_on_each_node=False).get_process_log_level() == logging.CRITICAL


def test_the_cpu_is_used_where_it_is_asked_for(tmp_path):
    assert arguments(tmp_path, bf16=True).device.type == "cpu"
    with pytest.raises(InputError, match=r"--bf16: this machine has no GPU .* add --use-cpu"):
        arguments(tmp_path, bf16=True, use_cpu=False)


def test_what_the_hub_is_told(tmp_path, monkeypatch):
    told = {}
    monkeypatch.setattr("agssp.hub.publishing.collect", lambda *given: None)
    monkeypatch.setattr("agssp.hub.publishing.publish", lambda _, name, **options: told.update(name=name, **options))
    push.publish_result("out", arguments(tmp_path))
    assert told == {}
    flags = {"hub_private_repo": True, "hub_revision": "v2", "hub_token": "hf_x"}
    options = {"private": True, "revision": "v2", "token": "hf_x"}
    push.publish_result("out", arguments(tmp_path, push_to_hub="me/x", **flags))
    assert told == {"name": "me/x", **options}
    push.publish_result("out", arguments(tmp_path, push_to_hub="true", hub_model_id="me/y", **flags))
    assert told == {"name": "me/y", **options}


HUB = ("push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision", "hub_token")
ELSEWHERE = (
    "dataloader_drop_last", "dataloader_num_workers", "disable_tqdm", "ignore_data_skip", "log_level",
    "log_level_replica", "log_on_each_node", "logging_nan_inf_filter", "per_device_eval_batch_size", "report_to",
    "use_cpu",
)  # fmt: skip
"""Those that work and have a test of their own."""


def accelerated(name):
    return lambda trainer: getattr(trainer.accelerator.dataloader_config, name)


def distributed(name):
    return lambda trainer: getattr(trainer.accelerator.ddp_handler, name)


def compiled(name):
    return lambda trainer: getattr(trainer.accelerator.state.dynamo_plugin, name)


WORKER = {"dataloader_num_workers": 1}
COMPILE = {"torch_compile": True, "torch_compile_backend": "eager"}
ARRIVALS = {
    "accelerator_config": ({"accelerator_config": '{"even_batches": false}'}, accelerated("even_batches"), False),
    "bf16": ({"bf16": True}, lambda trainer: trainer.accelerator.mixed_precision, "bf16"),
    "data_seed": ({"data_seed": 7}, accelerated("data_seed"), 7),
    "dataloader_num_workers": (WORKER, lambda trainer: loader(trainer).num_workers, 1),
    "dataloader_in_order": (
        WORKER | {"dataloader_in_order": False}, lambda trainer: loader(trainer).in_order, False,
    ),
    "dataloader_multiprocessing_context": (
        WORKER | {"dataloader_multiprocessing_context": "spawn"},
        lambda trainer: type(loader(trainer).multiprocessing_context).__name__, "SpawnContext",
    ),
    "dataloader_prefetch_factor": (
        WORKER | {"dataloader_prefetch_factor": 5}, lambda trainer: loader(trainer).prefetch_factor, 5,
    ),
    "ddp_broadcast_buffers": ({"ddp_broadcast_buffers": False}, distributed("broadcast_buffers"), False),
    "ddp_bucket_cap_mb": ({"ddp_bucket_cap_mb": 3}, distributed("bucket_cap_mb"), 3),
    "ddp_find_unused_parameters": (
        {"ddp_find_unused_parameters": True}, distributed("find_unused_parameters"), True,
    ),
    "ddp_static_graph": ({"ddp_static_graph": True}, distributed("static_graph"), True),
    "torch_compile": ({"torch_compile": True}, compiled("backend"), "INDUCTOR"),
    "torch_compile_backend": (COMPILE, compiled("backend"), "EAGER"),
    "torch_compile_mode": (COMPILE | {"torch_compile_mode": "max-autotune"}, compiled("mode"), "max-autotune"),
}  # fmt: skip
"""Name -> flags, where to look, and what must have arrived there, which is something else without the flags."""


@pytest.mark.parametrize("name", ARRIVALS)
def test_the_value_arrives(name, tmp_path):
    flags, look, expected = ARRIVALS[name]
    # One after the other: all trainers of a process share accelerate's state.
    workers = {"dataloader_num_workers": 2} if name.startswith("dataloader") else {}
    assert look(trainer_of(tmp_path, **workers)) != expected
    assert look(trainer_of(tmp_path, **flags)) == expected


@pytest.mark.parametrize("pin", [False, True])
def test_batches_are_pinned_where_there_is_a_gpu_to_pin_for(tmp_path, pin):
    trainer = trainer_of(tmp_path)
    assert not trainer.args.dataloader_pin_memory
    trainer.args.dataloader_pin_memory = pin
    assert loader(trainer).pin_memory == pin


def test_half_precision_goes_to_accelerate_and_is_for_gpus(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--fp16: float16 needs a GPU"):
        arguments(tmp_path, fp16=True)
    monkeypatch.setattr(flag_checks, "check_machine", lambda arguments: None)
    assert trainer_of(tmp_path, fp16=True).accelerator.mixed_precision == "fp16"


def test_the_cache_of_the_gpu_is_emptied_by_steps(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--torch-empty-cache-steps: this run is on the CPU"):
        arguments(tmp_path, torch_empty_cache_steps=3)
    emptied = []
    monkeypatch.setattr(flag_checks, "check_machine", lambda arguments: None)
    monkeypatch.setattr("transformers.trainer.clear_device_cache", lambda: emptied.append(1))
    run(tmp_path, torch_empty_cache_steps=3)
    assert len(emptied) == 3, "at steps 0, 3 and 6"


def test_tensor_float_32_is_of_torch_and_of_gpus_that_have_it(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--tf32: this machine has no GPU that computes in TensorFloat32"):
        arguments(tmp_path, tf32=True)
    asked = []
    monkeypatch.setattr("transformers.training_args.is_torch_tf32_available", lambda: True)
    monkeypatch.setattr("transformers.training_args.enable_tf32", asked.append)
    arguments(tmp_path, tf32=True)
    arguments(tmp_path, tf32=False)
    assert asked == [True, False]


def test_full_determinism_is_of_torch(tmp_path, monkeypatch):
    before = dict(os.environ)
    try:
        trainer_of(tmp_path, full_determinism=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
        for name in set(os.environ) - set(before):
            del os.environ[name]


def test_processes_talk_as_they_are_told(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"LOCAL_RANK": 0, "RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in alone.items():
        monkeypatch.setenv(name, str(value))
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        arguments(tmp_path, use_cpu=False, ddp_backend="gloo", ddp_timeout=77)
        assert torch.distributed.get_backend() == "gloo"
        group = torch.distributed.distributed_c10d._get_default_group()
        assert group._get_backend(torch.device("cpu")).options._timeout.total_seconds() == 77
    finally:
        torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(InputError, match="--ddp-timeout: transformers hands it on without --use-cpu alone"):
        arguments(tmp_path, ddp_timeout=77)


TRACKIO = {
    "run_name": "seven", "project": "steel", "trackio_space_id": "me/space", "trackio_bucket_id": "me/bucket",
    "trackio_static_space_id": "me/static",
}  # fmt: skip


def test_what_a_tracker_is_told(tmp_path, monkeypatch):
    for name, value in TRACKIO.items():
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: is for --report-to"):
            arguments(tmp_path, report_to="tensorboard", **{name: value})
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: ["trackio"])
    told, config = {}, {}
    space = SimpleNamespace(current_space_id=SimpleNamespace(get=lambda: None))
    callback = TrackioCallback.__new__(TrackioCallback)
    callback._trackio = SimpleNamespace(init=told.update, context_vars=space, config=Settings(config))
    training = arguments(tmp_path, report_to="trackio", **TRACKIO)
    callback.setup(training, SimpleNamespace(is_world_process_zero=True), Line())
    names = ("run_name", "project", "trackio_space_id", "trackio_bucket_id")
    assert [told[key] for key in ("name", "project", "space_id", "bucket_id")] == [TRACKIO[name] for name in names]
    assert {name: config[name] for name in TRACKIO} == TRACKIO


class Settings(dict):
    """What trackio keeps of a run's settings, written through to another dictionary."""

    def __init__(self, kept):
        self.kept = kept

    def update(self, values, **options):
        self.kept.update(values)


ALONE = (
    "dataloader_pin_memory", "ddp_backend", "ddp_timeout", "fp16", "full_determinism", "tf32",
    "torch_empty_cache_steps", *TRACKIO,
)  # fmt: skip
"""Those that are handed on and have a test of their own."""


def test_every_flag_is_in_one_table_and_has_its_test():
    tables = [set(WORKS), set(HANDED_ON), set(REFUSED), set(FORMER)]
    assert sum(map(len, tables)) == len(set().union(*tables))
    assert {*RUNS, *ELSEWHERE, *HUB} - {"data_seed"} == set(WORKS)
    assert {*ARRIVALS, *ALONE} - {"dataloader_num_workers"} == set(HANDED_ON)
    # Fields of a newer transformers are in none, which is no fault; those that were in 5.17 cannot go unnoticed.
    assert {field.name for field in fields(TrainingArguments)} - set().union(*tables) == set(
        AgsspTrainingArguments.refused_flags
    ) - set(REFUSED) - set(FORMER)


def test_every_flag_of_the_help_is_in_one_group_and_says_what_it_does():
    shown = [name for names in GROUPS.values() for name in names]
    ours = {field.name for field in fields(AgsspTrainingArguments)} - set(AgsspTrainingArguments.refused_flags)
    assert len(shown) == len(set(shown))
    assert ours <= set(shown) <= ours | {"activation_checkpointing"}
    assert set(USUAL) | set(RARE) == set(shown)
    defined = {name for name in AgsspTrainingArguments.__annotations__ if name in WORKS or name in HANDED_ON}
    assert set(HELP) == {*WORKS, *HANDED_ON} - defined


def other_value(field):
    """A value that is not the field's default."""
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, int | float) else "other"


@pytest.mark.parametrize(
    "field",
    [field for field in fields(AgsspTrainingArguments) if field.name in REFUSED and field.name != "output_dir"],
    ids=lambda f: f.name,
)
def test_what_does_nothing_is_refused_with_what_to_use(field):
    message = f"--{field.name.replace('_', '-')}: {REFUSED[field.name]}"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        AgsspTrainingArguments(use_cpu=True, **{field.name: other_value(field)})


def test_what_nobody_has_looked_at_is_refused_where_it_is_given():
    assert refusals([], "9.9") == FORMER | REFUSED
    found = refusals(["bf16", "optim", "brand_new"], "9.9")
    assert found["optim"] == REFUSED["optim"]
    assert found["brand_new"].startswith("is new in transformers 9.9")
    assert "bf16" not in found
