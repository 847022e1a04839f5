"""Two gloo ranks run a study together: every stage once, the main process alone writes down what came of it."""

import csv
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from warm_python import torchrun

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from study_cases import tiny, write_all, write_study

SCRIPT = Path(__file__).parents[2] / "scripts/study.py"


@pytest.mark.slow
def test_two_ranks(tmp_path):
    root = write_all(tmp_path)
    table = tiny(root)
    table["rows"] = table["rows"][:2]
    # That there is no GPU is found out without being said.
    del table["scales"]["full"]["flags"]["finetune"]["use_cpu"]
    # A data set whose images do not suffice: all ranks must leave it and go on together.
    table["scales"]["full"]["data"] |= {"many": {"dataset": str(root / "labelled"), "subset": {"per_class": 11}}}
    result = torchrun(SCRIPT, write_study(root, table), "--output", root / "out", check=False)
    assert "1 of 9 stages failed: split-many_0" in result.stderr, result.stderr[-3000:]
    assert result.returncode != 0
    with (root / "out/table.csv").open() as file:
        states = {(row["row"], row["data"]): row["state"] for row in csv.DictReader(file)}
    assert states == {("scratch", "squares"): "done", ("+AGBP", "squares"): "done",
                      ("scratch", "many"): "failed", ("+AGBP", "many"): "failed"}  # fmt: skip
    lines = (root / "out/attempts.jsonl").read_text().splitlines()
    events = Counter((entry["stage"], entry["event"]) for entry in map(json.loads, lines))
    assert set(events.values()) == {1}
    assert sum(event == "finished" for _, event in events) == 6
    settings = json.loads(next((root / "out/stages").glob("finetune-*+agbp*/settings.json")).read_text())
    assert settings["settings"]["processes"] == 2
