"""A step called from Python writes what its command writes; what is given may be open already."""

import json

import pytest
from detector_cases import make_images, save_detector
from map_cases import arguments, contents, write_images, write_teacher

import agssp
from agssp.cli import run
from agssp.errors import InputError


def without_own(metrics):
    return {
        name: value for name, value in metrics.items() if name not in ("seconds", "model", "dataset", "measured_on")
    }


def test_boxes(tmp_path):
    from agssp.commands.anomaly_maps import main

    write_images(tmp_path / "images")
    write_teacher(tmp_path / "teacher.safetensors")
    main(arguments(tmp_path))
    maps, asked = tmp_path / "maps", {"delta": 0.1, "coco": True, "yolo": True, "report": True, "workers": 1}
    result = agssp.cut_boxes(maps, tmp_path / "of-python", **asked)
    flags = ["--delta", "0.1", "--coco", "--yolo", "--report", "--workers", "1"]
    run("pseudo-boxes", ["--maps", str(maps), "--output", str(tmp_path / "of-command"), *flags])
    theirs = contents(tmp_path / "of-command")
    ours = {
        name: value.replace(b"of-python", b"of-command") for name, value in contents(tmp_path / "of-python").items()
    }
    assert {"thresholds.json", "coco.json", "report.html", "yolo/data.yaml"} < ours.keys()
    assert ours == theirs
    assert json.loads(ours["thresholds.json"]) == json.loads(json.dumps(result.numbers))
    assert result.report == tmp_path / "of-python" / "report.html"


def test_evaluation(tmp_path):
    from agssp.evaluation.inference import load_detector

    images, model = make_images(tmp_path / "images"), save_detector(tmp_path / "model")
    run("evaluate", [model, "--dataset", images, "--device", "cpu", "--output", str(tmp_path / "of-command")])
    expected = without_own(json.loads((tmp_path / "of-command" / "metrics.json").read_text()))
    by_name = agssp.evaluate(model, images, tmp_path / "of-python", device="cpu")
    assert without_own(json.loads((tmp_path / "of-python" / "metrics.json").read_text())) == expected
    assert without_own(json.loads(json.dumps(by_name.numbers))) == expected
    # The rows as they were read, and an open detector: the same numbers, and nothing is written.
    opened = agssp.evaluate(load_detector(model), agssp.read_dataset(images), device="cpu")
    mine = without_own(json.loads(json.dumps(opened.numbers)))
    assert {name: mine[name] for name in mine if name != "reading"} == {
        name: expected[name] for name in expected if name != "reading"
    }
    assert (opened.output, opened.report) == (None, None)
    assert opened.numbers["dataset"] == "the given data set"


def test_two_steps_after_one_another_are_two_processes(tmp_path):
    images, model = make_images(tmp_path / "images"), save_detector(tmp_path / "model")
    first, second = (agssp.evaluate(model, images, device=device) for device in ("auto", "cpu"))
    assert without_own(first.numbers) == without_own(second.numbers)


def test_what_is_no_data_set_is_named(tmp_path):
    with pytest.raises(InputError, match="a data set is given as int; expected a path"):
        agssp.evaluate(save_detector(tmp_path / "model"), 3)
    rows = agssp.read_dataset(make_images(tmp_path / "images"))
    with pytest.raises(InputError, match="is one table"):
        agssp.evaluate(save_detector(tmp_path / "model"), rows, split="test")
