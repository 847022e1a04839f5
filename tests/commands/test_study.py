"""`agssp study` on a study of seconds: its results, what it refuses, and that it goes on wherever it was killed."""

import csv
import hashlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from warm_python import python

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from study_cases import tiny, write_all, write_study

from agssp.cli import run
from agssp.study.tables import packaged_studies


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a study that has been run without interruption, to `whole`."""
    torch.set_num_threads(1)
    root = write_all(tmp_path_factory.mktemp("study"))
    run("study", [write_study(root, tiny(root)), "--output", str(root / "whole")])
    return root


def weights(output):
    """Hash of the weights that every stage wrote."""
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((output / "stages").glob("*/model.safetensors"))}  # fmt: skip


def rows(output):
    with (output / "table.csv").open() as file:
        return list(csv.DictReader(file))


def began(output):
    path = output / "attempts.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [entry["stage"] for line in lines if (entry := json.loads(line))["event"] == "began"]


def test_an_empty_study_has_an_empty_table(tmp_path, capsys):
    file = write_study(tmp_path, {"title": "nothing", "scales": {"full": {}}})
    run("study", [file, "--output", str(tmp_path / "out")])
    assert rows(tmp_path / "out") == []
    assert "Of 0 cells: none" in (tmp_path / "out/table.md").read_text()
    assert "0 of 0 stages finished" in capsys.readouterr().out


@pytest.mark.slow
def test_every_row_is_in_the_results(finished):
    found = rows(finished / "whole")
    assert [(row["group"], row["row"], row["state"]) for row in found] == [
        ("ResNet", "scratch", "done"), ("ResNet", "+AGBP", "done"), ("ResNet", "+AGSSP", "done"),
        ("CSPDarknet", "COCO", "done"),
    ]  # fmt: skip
    for row in found:
        last = finished / "whole/stages" / row["stages"].split()[-1]
        tested = json.loads((last / "run.json").read_text())["results"]["test"]
        assert (float(row["map_50"]), float(row["map_50_95"])) == (tested["map_50"], tested["map_50_95"])
    text = (finished / "whole/table.md").read_text()
    assert text.count("| 1 |") == 4
    assert "Of 4 cells: 4 done" in text
    assert "image size 64" in text
    page = (finished / "whole/study.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    facts = json.loads((finished / "whole/study.json").read_text())
    assert [torch.__version__.split("+")[0]] == facts["made_with"]["torch"]
    assert len(facts["stages"]) == len(began(finished / "whole")) == 10
    for stage in facts["stages"].values():
        assert stage["seconds"] >= 0
        assert stage["command"].split()[0] in ("agssp", "python:")


def test_running_again_runs_nothing(finished, capsys):
    before = began(finished / "whole")
    run("study", [str(finished / "tiny.yaml"), "--output", str(finished / "whole")])
    assert began(finished / "whole") == before
    assert "10 of 10 stages finished" in capsys.readouterr().out


def test_a_plan_is_shown_without_touching_anything(finished, capsys):
    run("study", [str(finished / "tiny.yaml"), "--output", str(finished / "dry"), "--dry-run"])
    output = capsys.readouterr().out
    assert "[10/10] missing" in output
    assert output.count("agssp finetune") == 4
    assert not (finished / "dry").exists()
    run("study", [str(finished / "tiny.yaml"), "--output", str(finished / "whole"), "--dry-run", "--seeds", "0", "1"])
    output = capsys.readouterr().out
    assert output.count(" finished ") == 10
    assert output.count(" missing ") == 6


def test_all_faults_stop_it_before_anything_is_written(finished, capsys):
    words = ["--data", "square=x", "nothing", "squares=gone", "--weights", "coco/yolov8n=gone.safetensors"]
    words += ["--only", "VGG", "COCO", "--output", str(finished / "bad")]
    with pytest.raises(SystemExit, match=r"^2$"):
        run("study", [str(finished / "tiny.yaml"), *words])
    lines = capsys.readouterr().err.splitlines()
    assert "cannot be run as it is" in lines[0]
    for fault in (
        "--data 'nothing': expected NAME=VALUE", "--data square=...: no data set of this name", "--only 'VGG'",
        "data set squares: gone: no such file or folder", "weights coco/yolov8n: gone.safetensors: no such file",
    ):  # fmt: skip
        assert sum(line.startswith(f"  - {fault}") for line in lines) == 1, (fault, lines)
    assert not (finished / "bad").exists()


def test_a_folder_with_other_things_is_left_alone(finished, capsys):
    (finished / "thesis").mkdir()
    (finished / "thesis/thesis.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"^2$"):
        run("study", [str(finished / "tiny.yaml"), "--output", str(finished / "thesis")])
    assert "thesis.txt" in capsys.readouterr().err
    assert len(list((finished / "thesis").iterdir())) == 1


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_table(finished):
    """SIGKILL in the middle of two stages, as a power cut does it; which ones is drawn anew every time."""
    output = finished / "killed"
    stages = began(finished / "whole")
    victims = [stages[index] for index in sorted(random.sample(range(len(stages)), 2))]
    words = [python(), "-m", "agssp", "study", str(finished / "tiny.yaml"), "--output", str(output)]
    for victim in victims:
        process = subprocess.Popen(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
        # Its own command line, printed when it begins, is the first that names it.
        assert any(victim in line for line in process.stdout), victims
        process.kill()
        process.communicate()
        assert not (output / f"records/{victim}.json").exists(), victims
    run("study", [str(finished / "tiny.yaml"), "--output", str(output)])
    assert (output / "table.csv").read_bytes() == (finished / "whole/table.csv").read_bytes(), victims
    assert weights(output) == weights(finished / "whole"), victims
    assert sorted(began(output)) == sorted([*stages, *victims])


@pytest.mark.slow
def test_a_failing_cell_is_shown_and_the_others_go_on(finished, capsys):
    table = tiny(finished)
    # Too many images a class: found out only when the images are divided.
    table["scales"]["full"]["data"] |= {"many": {"dataset": str(finished / "labelled"), "subset": {"per_class": 11}}}
    table["rows"] = table["rows"][3:]
    words = [write_study(finished, table, "failing"), "--output", str(finished / "failing")]
    with pytest.raises(SystemExit, match=r"^2$"):
        run("study", words)
    said = capsys.readouterr()
    assert "1 of 5 stages failed: split-many_0" in said.err
    assert "the same command tries them again" in said.err
    done, failed = rows(finished / "failing")
    assert (done["data"], done["state"], failed["data"], failed["state"]) == ("squares", "done", "many", "failed")
    assert "11 a class were asked for" in failed["error"]
    text = (finished / "failing/table.md").read_text()
    assert re.search(r"\| COCO \|.*\| failed \| failed \| 0 of 1 \|", text)
    assert "- CSPDarknet / COCO / many, seed 0: split-many_0" in text
    with pytest.raises(SystemExit, match=r"^2$"):
        run("study", words)
    assert [stage.rpartition("-")[0] for stage in began(finished / "failing")].count("split-many_0") == 2
    # The faulty data set is taken out of the study: what it shares with the old one is kept.
    del table["scales"]["full"]["data"]["many"]
    run("study", [write_study(finished, table, "mended"), "--output", str(finished / "failing")])
    assert [row["state"] for row in rows(finished / "failing")] == ["done"]


def test_names_of_packaged_studies_are_in_the_error(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        run("study", ["tabel"])
    assert packaged_studies()[-1] in capsys.readouterr().err
