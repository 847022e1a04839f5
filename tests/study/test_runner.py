"""Stages are run once each, by whoever comes first; what fails is recorded, stops nothing else, and is tried again."""

import json
import os
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock
from study_cases import quick_plan, stage
from warm_python import python

from agssp.study import runner
from agssp.study.python_stages import run_python_stage
from agssp.study.runner import State, duration, remaining, run_missing
from agssp.study.stage import Output, Plan

WORKER = Path(__file__).with_name("runner_worker.py")


def attempts(output):
    return [json.loads(line) for line in (output / "attempts.jsonl").read_text().splitlines()]


def events(output):
    return Counter((entry["stage"], entry["event"]) for entry in attempts(output))


def plan_of(*stages):
    return Plan({entry.key: entry for entry in stages}, ())


def surfaces(key="surfaces", **changes):
    return stage(key, "make-surfaces", **{"unlabelled": 0, "labelled": 6, "normal": 0, "size": 64} | changes)


def test_nothing_to_do(tmp_path):
    run_missing(State(tmp_path, Plan({}, ())), pytest.fail)
    assert not (tmp_path / "attempts.jsonl").exists()


@pytest.mark.slow
def test_finished_stages_are_kept(tmp_path, capsys):
    state = State(tmp_path, quick_plan(2))
    ended = []
    run_missing(state, lambda: ended.append(state.record("split-1") is not None))
    assert ended == [False, False, True]
    assert "[3/3] split-1\n    agssp split --dataset" in capsys.readouterr().out
    before = (tmp_path / "records/split-1.json").read_bytes()
    run_missing(State(tmp_path, quick_plan(3)), lambda: ended.append(True))
    assert len(ended) == 4
    assert (tmp_path / "records/split-1.json").read_bytes() == before
    assert events(tmp_path) == {(key, event): 1 for key in ("surfaces", "split-0", "split-1", "split-2")
                                for event in ("began", "finished")}  # fmt: skip


@pytest.mark.slow
def test_what_is_deleted_is_made_again(tmp_path):
    run_missing(State(tmp_path, quick_plan(1)), lambda: None)
    for file in sorted((tmp_path / "stages/split-0").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (tmp_path / "stages/split-0").rmdir()
    state = State(tmp_path, quick_plan(1))
    assert state.record("split-0") is None
    run_missing(state, lambda: None)
    assert (tmp_path / "stages/split-0/split.json").is_file()


@pytest.mark.slow
def test_a_failing_stage_stops_only_what_needs_it(tmp_path, capsys):
    late = tmp_path / "late"
    fails = stage("fails", "split", dataset=str(late), count=2, seed=0)
    follows = stage("follows", "split", dataset=Output("fails", "train"), count=1, seed=0)
    plan = plan_of(surfaces(), fails, follows, stage("fine", "split", dataset=Output("surfaces", "labelled"), count=2))
    state = State(tmp_path / "out", plan)
    run_missing(state, lambda: None)
    assert [key for key in plan.stages if state.record(key)] == ["surfaces", "fine"]
    assert (state.blocked_by("follows"), state.blocked_by("fails")) == ("fails", "fails")
    failure = json.loads((tmp_path / "out/failures/fails.json").read_text())
    assert "no such file or folder" in failure["error"]
    assert "Traceback" in failure["traceback"]
    assert failure["command"].startswith("agssp split --dataset")
    assert "other cells go on" in capsys.readouterr().err

    # The cause is gone: what has not been tried comes first, then what failed, then what waited for it.
    (tmp_path / "out/records/fine.json").unlink()
    late.symlink_to(tmp_path / "out/stages/surfaces/labelled")
    again = State(tmp_path / "out", plan)
    run_missing(again, lambda: None)
    assert all(again.record(key) for key in plan.stages)
    order = [entry["stage"] for entry in attempts(tmp_path / "out")[6:] if entry["event"] == "began"]
    assert order == ["fine", "fails", "follows"]
    assert list((tmp_path / "out/failures").iterdir()) == []


@pytest.mark.slow
def test_an_error_that_is_no_input_error_is_recorded_too(tmp_path):
    plan = plan_of(stage("broken", "make-surfaces", unlabelled="many"), surfaces())
    state = State(tmp_path, plan)
    run_missing(state, lambda: None)
    assert state.failure("broken")["error"].startswith("TypeError: ")
    assert state.record("surfaces")


@pytest.mark.slow
def test_interrupting_is_no_failure(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt("in a stage")

    monkeypatch.setattr(runner, "call", interrupt)
    state = State(tmp_path, quick_plan(1))
    with pytest.raises(KeyboardInterrupt, match="in a stage"):
        run_missing(state, lambda: None)
    assert state.failure("surfaces") is None
    monkeypatch.undo()
    run_missing(state, lambda: None)
    assert state.record("split-0")


@pytest.mark.slow
def test_a_stage_that_another_process_runs_is_waited_for_last(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    state = State(tmp_path, quick_plan(3))
    run_missing(State(tmp_path, quick_plan(0)), lambda: None)
    lock = FileLock(tmp_path / "locks/split-0.lock")
    others_done, waiting = threading.Event(), threading.Event()
    monkeypatch.setattr(runner.time, "sleep", lambda _: waiting.set() or others_done.wait())
    with lock:
        thread = threading.Thread(target=run_missing, args=(state, lambda: None))
        thread.start()
        assert waiting.wait(60)
        # Nothing but the locked stage is left, and it has not been touched.
        assert [key for key in state.plan.stages if not state.record(key)] == ["split-0"]
        assert "waiting for split-0" in capsys.readouterr().out
    others_done.set()
    thread.join(60)
    assert state.record("split-0")


@pytest.mark.slow
def test_two_processes_never_run_the_same_stage(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([python(), WORKER, tmp_path, name, "2"], env=environment, stdout=subprocess.DEVNULL)
        for name in ("a", "b")
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    keys = list(quick_plan(16).stages)
    assert events(tmp_path) == {(key, event): 1 for key in keys for event in ("began", "finished")}
    assert len({entry["process"] for entry in attempts(tmp_path)}) == 2


def test_remaining_time_is_that_of_its_like(tmp_path):
    state = State(tmp_path, quick_plan(3))
    assert "0 of 4 stages finished; 4 of a kind not yet seen (make-surfaces, split)" in remaining(state)
    for key, seconds in (("surfaces", 1), ("split-0", 100), ("split-1", 200)):
        (tmp_path / "stages" / key).mkdir(parents=True)
        (tmp_path / "records").mkdir(exist_ok=True)
        (tmp_path / f"records/{key}.json").write_text(json.dumps({"seconds": seconds}))
    assert remaining(state).strip() == (
        "3 of 4 stages finished; about 2.5 minutes of work in 1 more, judging by their like"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 seconds"), (119, "119 seconds"), (150, "2.5 minutes"), (2e4, "5.6 hours"), (3e5, "3.5 days")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_stage_in_python_clears_away_what_a_killed_one_left(tmp_path):
    left = tmp_path / "images" / ".files.elsewhere-1-0.partial"
    left.mkdir(parents=True)
    options = {"unlabelled": 0, "labelled": 0, "normal": 1, "seed": 0, "size": 32}
    run_python_stage("make-surfaces", {"output": str(tmp_path / "images"), **options})
    assert sorted(path.name for path in (tmp_path / "images").iterdir() if path.name.startswith(".")) == []
    assert (tmp_path / "images" / "dataset.json").is_file()
