"""scripts/detectors.py: its steps parse as commands, finished ones are kept, and its table holds what is known."""

import importlib.util
import json
from pathlib import Path

import pytest

from agssp.arguments import parse_arguments
from agssp.models.detection import catalogue

FILE = Path(__file__).parents[1] / "scripts" / "detectors.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("detectors_script", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_table_of_nothing(script, tmp_path):
    arguments = script.parse(["--output", str(tmp_path)])
    assert arguments.only == list(catalogue.NAMES)
    lines = script.table([], arguments).splitlines()
    assert "synthetic" in lines[0]
    assert lines[-2].startswith("| detector | licence | mAP@.5 |")


def test_a_row_of_a_detector_that_failed_says_why(script, tmp_path):
    arguments = script.parse(["--output", str(tmp_path), "--only", "dino"])
    record = script.Record(tmp_path / "steps.json")
    row = script.row_of("dino", arguments, record, "finetune: no | good")
    assert row["exports"] == []
    assert "map_50" not in row
    assert script.table([row], arguments).splitlines()[-1].endswith("| 0.0 | finetune: no / good |")


def test_the_machine_is_said_once(script, tmp_path):
    arguments = script.parse(["--output", str(tmp_path), "--only", "dino", "dfine_s"])
    record = script.Record(tmp_path / "steps.json")
    network = {"parameters": 7, "images_per_second": {"1": 2.0}}
    facts = {"networks": {"agssp": network}, "ratio": {}}
    for name in arguments.only:
        (tmp_path / name / "profile").mkdir(parents=True)
        content = {"hardware": "an abacus", "models": [facts]}
        (tmp_path / name / "profile" / "profile.json").write_text(json.dumps(content))
        record.seconds[f"{name} profile"] = 1.0
    rows = [script.row_of(name, arguments, record, "") for name in arguments.only]
    assert script.table(rows, arguments).count("Measured on an abacus.") == 1
    assert script.table(rows, arguments).count("abacus") == 1


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_every_step_is_a_command_line_that_parses(script, tmp_path, name):
    arguments = script.parse(["--output", str(tmp_path), "--only", name])
    steps = [*script.shared_steps(arguments), *script.steps_of(name, arguments)]
    assert len({step.name for step in steps}) == len(steps)
    for step in steps:
        command, *words = step.argv
        module = importlib.import_module(f"agssp.commands.{command.replace('-', '_')}")
        parse_arguments(command, module.ARGUMENTS, words, positional=module.POSITIONAL)


def test_finished_steps_are_kept(script, tmp_path):
    done = []
    for _ in range(2):
        script.Record(tmp_path / "steps.json").run("one", lambda: done.append(1))
    assert done == [1]
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        script.Record(tmp_path / "steps.json").run("two", lambda: 1 / 0)
    assert list(script.Record(tmp_path / "steps.json").seconds) == ["one"]


def test_an_unknown_detector_is_named(script, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        script.parse(["--output", str(tmp_path), "--only", "yolov9"])
    assert "--only: detector 'yolov9': expected one of yolov8n" in capsys.readouterr().err
