"""The page about a pretraining run holds what the run has logged, and leaves out what it has not."""

import json

import pytest
import torch

from agssp.report import pretraining
from agssp.training.attention_snapshots import Snapshot, write_examples, write_snapshot
from agssp.training.health import RunHealth

START = {"alignment": 0.1, "distillation_loss": 0.9, "task_loss": 1.1, "feature_rank": 20.0}
LEVELS = {"constant_map": {"alignment": 0.0, "distillation_loss": 0.2}, "mean_map": {"alignment": 0.3}}


def run(step=4, start=START, levels=LEVELS, **changes):
    """A run of 4 steps, an evaluation at each second one."""
    log = []
    for now in range(2, step + 1, 2):
        place = {"epoch": now / 2, "step": now}
        log.append({"loss": 2.0, "loss_task": 1.0, "loss_distillation": 0.5, "learning_rate": 0.1, **place})
        log.append({"eval_alignment": 0.5, "eval_task_loss": 1.0, "eval_feature_rank": 9.0, **place, **changes})
    return RunHealth(log, start, levels, 20 if start else 0, step, 4)


def titles(health):
    return [picture.content.axes[0].get_title(loc="left") for picture in pretraining.curves(health)]


def test_before_the_first_step_there_is_a_page_already(tmp_path):
    page = pretraining.write_pretraining_page(tmp_path, RunHealth([], {}, {}, 0, 0, 4), "`yolov8n`").read_text()
    assert "Not measured" in page
    assert "This is step 0 of 4. It goes on" in page
    assert pretraining.attention_sheet(tmp_path) is None
    page = pretraining.write_pretraining_page(tmp_path, run(step=0), "`yolov8n`").read_text()
    assert "Too early to say" in page


@pytest.mark.slow
def test_the_page_says_what_looks_wrong(tmp_path):
    page = pretraining.write_pretraining_page(tmp_path, run(), "`yolov8n`").read_text()
    assert "Healthy." in page
    assert "This is epoch 2 of 2.</p>" in page
    assert "20 held-out images" in page
    page = pretraining.write_pretraining_page(tmp_path, run(eval_alignment=0.2), "`yolov8n`").read_text()
    assert "Healthy." not in page
    assert "Something looks wrong.</strong> One map for all images" in page
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_curves_begin_with_the_starting_weights_and_stand_before_their_levels():
    alignment = pretraining.curves(run(), ("alignment",))[0].content.axes[0]
    lines = {line.get_label(): line for line in alignment.lines}
    assert set(lines) == {"own map", "starting weights", "constant map", "mean map"}
    assert lines["own map"].get_xydata().tolist() == [[0, 0.1], [1, 0.5], [2, 0.5]]
    assert set(lines["mean map"].get_ydata()) == {0.3}


def test_curves_of_a_stream_go_along_its_steps():
    health = run()
    stream = RunHealth(health.history, health.start, health.levels, 20, 4, 4, "step")
    axes = pretraining.curves(stream, ("task_loss",))[0].content.axes[0]
    assert axes.get_xlabel() == "step"
    lines = {line.get_label(): line.get_xdata().tolist() for line in axes.lines}
    assert lines == {"training": [2, 4], "held-out images": [0, 2, 4]}


def test_what_was_not_logged_is_left_out():
    assert titles(run(step=0, start={}, levels={})) == []
    assert titles(run()) == ["Task loss", "Distillation loss", "Alignment with the maps",
                             "Effective rank of the features", "Learning rate"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("with_maps", [True, False])
def test_the_sheet_shows_each_image_with_its_map_and_each_layer_at_each_moment(tmp_path, with_maps):
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 4, 4, generator=generator)
    images = torch.randint(0, 256, (2, 16, 16, 3), generator=generator, dtype=torch.uint8)
    write_examples(tmp_path, images, maps if with_maps else None, ["a_b", "c"])
    for step, moment in ((0, "start"), (3, "epoch 1")):
        attention = {"stage9": maps * (1 + step), "stage10": maps.flip(0) ** 2}
        write_snapshot(tmp_path, Snapshot(step, moment, attention))
    sheet = pretraining.attention_sheet(tmp_path)
    assert len(sheet.axes) == 2 * (5 + with_maps)
    words = [text.get_text() for text in sheet.texts]
    columns = ["image"] + ["anomaly map"] * with_maps
    columns += ["stage9\nstart", "stage9\nepoch 1", "stage10\nstart", "stage10\nepoch 1"]
    assert [word for word in words if word in columns] == columns
    assert {"a b", "c"} <= set(words)
    assert words.count("1.00") == (4 if with_maps else 0)


def test_a_finished_run_is_read_from_its_files(tmp_path):
    health = run()
    results = {"starting_weights": START, "levels": LEVELS, "held_out": 20}
    record = {"arguments": {"streaming": False}, "results": results}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in health.history))
    assert pretraining.read_health(tmp_path) == health
