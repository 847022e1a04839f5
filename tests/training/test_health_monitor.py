"""What a pretraining run leaves behind for whoever asks whether it is healthy."""

import json

import pytest
import torch
from chain_cases import backbone_arguments
from safetensors.torch import load_file
from test_commands import interrupted, run_facts

from agssp.commands import pretrain_backbone
from agssp.report import pretraining
from agssp.training import health_monitor
from agssp.training.attention_snapshots import read_examples


def page(folder):
    assert not list(folder.rglob("*.partial"))
    return (folder / "report.html").read_text()


def snapshots(folder):
    return {file.name: load_file(file) for file in (folder / "attention").iterdir()}


@pytest.fixture
def steps_of_pages(monkeypatch):
    """The steps at which the page was written."""
    seen, original = [], pretraining.write_pretraining_page

    def write(output, health, about):
        seen.append(health.step)
        return original(output, health, about)

    monkeypatch.setattr(pretraining, "write_pretraining_page", write)
    return seen


@pytest.mark.slow
def test_a_run_leaves_a_page_snapshots_levels_and_a_line_an_evaluation(root, capsys, steps_of_pages):
    """9 images, 3 a step, 4 epochs: 12 steps; 3 held out."""
    pretrain_backbone.main(*backbone_arguments(root, "run"))
    folder, printed = root / "run", capsys.readouterr().out
    examples = read_examples(folder)
    assert [(shot.step, shot.moment) for shot in examples.snapshots] == [(0, "start"), (6, "epoch 2"), (12, "epoch 4")]
    assert [list(shot.attention) for shot in examples.snapshots] == [["stage3", "stage4"]] * 3
    assert examples.images.shape == (3, 32, 32, 3)
    assert len(examples.categories) == len(examples.anomaly_maps) == 3
    results = run_facts(folder)["results"]
    assert results["held_out"] == 3
    assert results["levels"]["constant_map"]["alignment"] == 0
    assert set(results["levels"]) == {"constant_map", "mean_map"}
    assert "This is epoch 4 of 4." in page(folder)
    for epoch in range(1, 5):
        assert f"\nepoch {epoch} of 4: task loss " in printed
    assert f"look at {folder / 'report.html'}" in printed
    assert steps_of_pages == [12], "a run of seconds spends no time on drawing before its end"
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {"eval_task_loss", "eval_distillation_loss", "eval_alignment_elsewhere"} <= set(log[1])


@pytest.mark.slow
def test_the_page_is_written_at_each_evaluation_where_time_allows(root, monkeypatch, steps_of_pages):
    monkeypatch.setattr(health_monitor, "FIRST_REPORT", 0.0)
    monkeypatch.setattr(health_monitor, "REPORT_SHARE", 1e9)
    pretrain_backbone.main(*backbone_arguments(root, "run", eval_every=2))
    assert steps_of_pages == [6, 12]


@pytest.mark.slow
def test_a_resumed_run_keeps_what_it_began_with_and_ends_as_an_uninterrupted_one(pretrained, monkeypatch):
    interrupted(pretrain_backbone, backbone_arguments(pretrained, "followed"), 7, monkeypatch)
    first = pretrained / "followed/attention/step-00000000.safetensors"
    written = first.stat().st_mtime_ns
    pretrain_backbone.main(*backbone_arguments(pretrained, "followed"))
    assert first.stat().st_mtime_ns == written
    whole, cut = snapshots(pretrained / "whole"), snapshots(pretrained / "followed")
    assert whole.keys() == cut.keys()
    for name, tensors in whole.items():
        assert all(torch.equal(tensors[key], cut[name][key]) for key in tensors)
    for key in ("starting_weights", "levels"):
        assert run_facts(pretrained / "followed")["results"][key] == run_facts(pretrained / "whole")["results"][key]


@pytest.mark.slow
def test_a_stream_is_followed_by_steps(root):
    changes = {"max_steps": 10, "save_steps": 4, "logging_steps": 2, "streaming": True, "val_fraction": 0.3}
    pretrain_backbone.main(*backbone_arguments(root, "run", **changes))
    moments = [shot.moment for shot in read_examples(root / "run").snapshots]
    assert moments == ["start", "step 8", "step 10"]
    assert "This is step 10 of 10." in page(root / "run")


@pytest.mark.slow
def test_without_maps_the_page_shows_where_it_looks_and_no_alignment(root):
    pretrain_backbone.main(*backbone_arguments(root, "run", distillation=False, maps=None, num_train_epochs=1))
    examples = read_examples(root / "run")
    assert examples.anomaly_maps is None
    assert [list(shot.attention) for shot in examples.snapshots] == [["stage3", "stage4"]] * 2
    assert "Where it looks" in page(root / "run")
    assert "Task loss" in page(root / "run")
    assert "lignment" not in page(root / "run")
    assert run_facts(root / "run")["results"]["levels"] == {}


@pytest.mark.slow
def test_without_held_out_images_the_page_shows_the_losses(root, capsys):
    pretrain_backbone.main(*backbone_arguments(root, "run", val_fraction=0.0, num_train_epochs=1))
    assert not (root / "run/attention").exists()
    assert "Distillation loss" in page(root / "run")
    assert "Where it looks" not in page(root / "run")
    assert "Not measured" in page(root / "run")
    assert "health: not measured" in capsys.readouterr().out
