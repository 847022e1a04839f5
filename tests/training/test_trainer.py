"""The Trainer's clockwork: epochs, steps, streams, the claim on a folder, and what a run records."""

import errno
import json
import math
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from chain_cases import backbone_arguments, detector_arguments, finetune_arguments
from safetensors.torch import load_file
from test_commands import interrupted, losses, run_facts

from agssp.arguments import parse_arguments
from agssp.boxes.store import THRESHOLDS
from agssp.commands import finetune, pretrain_backbone, pretrain_detector
from agssp.data.training_sets import DetectionImages, PretrainingImages
from agssp.errors import InputError
from agssp.training.run import content_fingerprint
from agssp.training.trainer import AgsspTrainer, last_checkpoint


@pytest.fixture
def epochs(monkeypatch):
    """The epoch that the training images were asked for, item by item."""
    seen = []
    for kind in (PretrainingImages, DetectionImages):
        original = kind.__getitem__

        def record(self, index, original=original):
            if not self.evaluation:
                seen.append(self.epoch)
            return original(self, index)

        monkeypatch.setattr(kind, "__getitem__", record)
    return seen


@pytest.mark.slow
def test_every_epoch_has_its_own_augmentation(root, epochs):
    pretrain_backbone.main(*backbone_arguments(root, "backbone"))
    assert epochs == [epoch for epoch in range(4) for _ in range(9)]


@pytest.mark.slow
def test_a_run_resumed_within_an_epoch_goes_on_in_that_epoch(pretrained, epochs, monkeypatch):
    cut = backbone_arguments(pretrained, "within", save_steps=5, checkpoint_every=9)
    interrupted(pretrain_backbone, cut, 5, monkeypatch)
    assert last_checkpoint(pretrained / "within").name == "checkpoint-5"
    epochs.clear()
    pretrain_backbone.main(*cut)
    assert epochs == [1] * 3 + [2] * 9 + [3] * 9
    first, second = (load_file(pretrained / name / "model.safetensors") for name in ("whole", "within"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def streamed(root, output, **changes):
    steps = {"max_steps": 10, "save_steps": 4, "logging_steps": 2, "streaming": True, "val_fraction": 0.3}
    return backbone_arguments(root, output, **steps | changes)


@pytest.mark.slow
def test_a_stream_is_measured_and_goes_on_exactly_after_an_interruption(root, monkeypatch):
    pretrain_backbone.main(*streamed(root, "whole"))
    interrupted(pretrain_backbone, streamed(root, "cut"), 6, monkeypatch)
    assert last_checkpoint(root / "cut").name == "checkpoint-4"
    pretrain_backbone.main(*streamed(root, "cut"))
    first, second = (load_file(root / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(root / "cut") == losses(root / "whole")
    measured = [entry for entry in losses(root / "whole") if "eval_alignment" in entry]
    assert len(measured) == 3, "at steps 4, 8 and 10"


@pytest.mark.slow
def test_a_stream_in_which_no_worker_finds_an_image_ends_the_run_and_lists_them(root):
    for path in (root / "images").rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="no image to train on"):
        pretrain_backbone.main(*streamed(root, "empty", val_fraction=0, dataloader_num_workers=2))
    assert len((root / "empty/skipped.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize(
    ("command", "arguments", "wrong", "right", "message"),
    [
        (
            pretrain_backbone,
            backbone_arguments,
            {"backbone": "test_resnett"},
            {},
            "no network 'test_resnett': expected one of",
        ),
        (
            finetune,
            finetune_arguments,
            {"gradient_checkpointing": True},
            {"gradient_checkpointing": False},
            "a YoloForObjectDetection recomputes no activations",
        ),
    ],
)
@pytest.mark.slow
def test_a_corrected_command_may_use_the_folder_of_the_wrong_one(root, command, arguments, wrong, right, message):
    with pytest.raises(InputError, match=message):
        command.main(*arguments(root, "run", num_train_epochs=1, **wrong))
    command.main(*arguments(root, "run", num_train_epochs=1, **right))
    assert run_facts(root / "run")


@pytest.mark.slow
def test_boxes_remade_under_the_same_name_are_not_taken_for_those_before(root):
    pretrain_detector.main(*detector_arguments(root, "detector", num_train_epochs=1))
    (root / "boxes" / THRESHOLDS).write_text('{"delta": 1}')
    with pytest.raises(InputError, match="fingerprint of boxes"):
        pretrain_detector.main(*detector_arguments(root, "detector", num_train_epochs=1))


@pytest.mark.slow
def test_labels_corrected_under_the_same_name_are_other_labels(root):
    finetune.main(*finetune_arguments(root, "detector", num_train_epochs=1))
    table = root / "labelled/metadata.jsonl"
    table.write_text(table.read_text().replace("24, 24", "20, 24"))
    with pytest.raises(InputError, match="fingerprint of labels"):
        finetune.main(*finetune_arguments(root, "detector", num_train_epochs=1))


def test_fingerprints(tmp_path):
    assert content_fingerprint(None) is content_fingerprint("scratch") is content_fingerprint("owner/name") is None
    (tmp_path / "a.safetensors").write_bytes(b"a")
    before = content_fingerprint(str(tmp_path))
    assert content_fingerprint(str(tmp_path / "a.safetensors")) == before
    (tmp_path / "a.safetensors").write_bytes(b"b")
    assert content_fingerprint(str(tmp_path)) != before


def test_warm_up_is_counted_in_epochs_also_where_steps_rule(root, monkeypatch):
    """12 images, a quarter held out, 3 a step: 3 steps an epoch."""
    rates = []
    original = AgsspTrainer.create_scheduler

    def keep(self, *args, **kwargs):
        scheduler = original(self, *args, **kwargs)
        rates.append([scheduler.lr_lambdas[0](step) for step in range(8)])
        return scheduler

    monkeypatch.setattr(AgsspTrainer, "create_scheduler", keep)
    changes = {"max_steps": 40, "num_train_epochs": 200, "warmup_epochs": 2, "schedule": "constant"}
    with monkeypatch.context() as patch:
        patch.setattr(AgsspTrainer, "train", lambda self, **kwargs: self.create_optimizer_and_scheduler(40))
        pretrain_backbone.main(*backbone_arguments(root, "backbone", **changes))
    assert rates[0] == pytest.approx([1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 1, 1])


@pytest.mark.parametrize(("command", "arguments"), [(pretrain_backbone, backbone_arguments),
                                                    (finetune, finetune_arguments)])  # fmt: skip
@pytest.mark.slow
def test_the_recorded_command_can_be_run(root, command, arguments):
    given = arguments(root, "run", num_train_epochs=1, seed=3, learning_rate=0.002)
    command.main(*given)
    _, name, *words = shlex.split(run_facts(root / "run")["command"])
    parsed = parse_arguments(name, command.ARGUMENTS, words, positional=command.POSITIONAL)
    assert parsed[0] == given[0]
    for field in ("num_train_epochs", "seed", "learning_rate", "per_device_train_batch_size", "use_cpu"):
        assert getattr(parsed[1], field) == getattr(given[1], field)


@pytest.mark.slow
def test_trackers(root):
    with pytest.raises(InputError, match=r"--report-to no_such_tracker: not installed"):
        backbone_arguments(root, "run", report_to="no_such_tracker")
    pretrain_backbone.main(*backbone_arguments(root, "run", num_train_epochs=1, report_to="tensorboard"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = list((root / "run").rglob("events.out.tfevents*"))
    events = EventAccumulator(str(files[0].parent)).Reload()
    assert {"train/loss_task", "train/loss_distillation", "eval/alignment"} <= set(events.Tags()["scalars"])


@pytest.mark.slow
def test_sgd_losses_are_logged_without_their_scale(root):
    finetune.main(*finetune_arguments(root, "sgd", optimizer="sgd", learning_rate=1e-5, num_train_epochs=1))
    entries = [json.loads(line) for line in (root / "sgd/log.jsonl").read_text().splitlines()]
    epoch, whole = (next(entry[key] for entry in entries if key in entry) for key in ("loss", "train_loss"))
    assert whole == pytest.approx(epoch, rel=1e-3)


def keep_best(output, value, save):
    """What a trainer does after measuring `value`."""
    trainer = SimpleNamespace(
        best_metric="map", is_world_process_zero=lambda: True, state=SimpleNamespace(global_step=8, epoch=value),
        args=SimpleNamespace(output_dir=str(output)), save_to=save,
    )  # fmt: skip
    AgsspTrainer._keep_best(trainer, None, {"map": value})


def test_the_best_weights_stay_while_better_ones_cannot_be_saved(tmp_path):
    def save(name):
        return lambda model, folder: (Path(folder) / "model.safetensors").write_text(name)

    def fail(model, folder):
        save("half of the second")(model, folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    def best():
        return {
            path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()
        }

    keep_best(tmp_path, math.nan, fail)
    assert best() == {}
    keep_best(tmp_path, 0.1, save("first"))
    first = best()
    assert first.keys() == {"best/model.safetensors", "best/complete.json"}
    assert first["best/model.safetensors"] == "first"
    with pytest.raises(OSError, match="No space left"):
        keep_best(tmp_path, 0.2, fail)
    assert best() == first
    keep_best(tmp_path, 0.1, save("no better"))
    assert best() == first
    keep_best(tmp_path, 0.3, save("third"))
    assert best()["best/model.safetensors"] == "third"
    assert json.loads(best()["best/complete.json"])["value"] == 0.3


@pytest.mark.slow
def test_the_list_of_a_streams_bad_images_goes_on_after_a_line_that_was_cut_off(root, monkeypatch, caplog):
    for path in sorted((root / "images").rglob("*.png"))[::3]:
        path.write_bytes(b"broken")
    interrupted(pretrain_backbone, streamed(root, "cut"), 6, monkeypatch)
    journal = root / "cut" / "skipped.jsonl"
    whole = journal.read_text().splitlines()
    assert whole
    with journal.open("a") as file:
        file.write('{"image_id": "half')
    pretrain_backbone.main(*streamed(root, "cut"))
    assert f"skipped.jsonl, line {len(whole) + 1}: was cut off" in caplog.text
    lines = journal.read_text().splitlines()
    assert lines[: len(whole)] == whole
    assert all(json.loads(line)["image_id"] for line in lines)
