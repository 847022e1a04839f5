"""`agssp profile`: one table for detectors and backbones of every kind, and what it refuses."""

import json

import pytest
import torch

from agssp import AgsspBackbone
from agssp.arguments import parse_arguments
from agssp.commands import profile
from agssp.errors import InputError
from agssp.report.profile import markdown


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def arguments(*models, **changes):
    fast = {"image_size": 64, "batch_sizes": [1, 2], "repeats": 2, "device": "cpu"}
    return profile.ProfileArguments([*models], **fast | changes)


def test_an_empty_table_has_its_head():
    assert "| model | network | parameters |" in markdown([], "a machine")


def test_the_command_line_takes_several_models():
    words = ["scratch:dino", "backbone", "--batch-sizes", "4"]
    (parsed,) = parse_arguments("profile", profile.ARGUMENTS, words, positional=profile.POSITIONAL)
    assert (parsed.models, parsed.batch_sizes) == (["scratch:dino", "backbone"], [4])


@pytest.mark.slow
def test_detectors_and_a_backbone_in_one_table(tmp_path, capsys):
    folder = str(tmp_path / "backbone")
    AgsspBackbone.from_architecture("test_resnet").save_pretrained(folder)
    output = tmp_path / "out"
    results = profile.main(
        arguments("scratch:faster_rcnn", "scratch:dino", folder, backbone=folder, output=str(output))
    )
    printed = capsys.readouterr().out

    detector, alone, backbone = results
    assert detector["home"].startswith("torchvision")
    ours, theirs = detector["networks"]["agssp"], detector["networks"]["home"]
    assert ours["parameters"] == theirs["parameters"] > 1e6
    assert ours["flops"] == theirs["flops"] > 1e9
    assert ours["bytes"]["2"] > ours["bytes"]["1"] > 4 * ours["parameters"]
    for batch in ("1", "2"):
        low, middle, high = detector["ratio"][batch]
        assert 0 < low <= middle <= high
        assert ours["images_per_second"][batch] > 0
    assert detector["end_to_end"] > 0
    # There is no other library's DINO, and a backbone finds no boxes.
    assert list(alone["networks"]) == ["agssp"]
    assert alone["home"].startswith("none: ")
    assert backbone["home"].startswith("timm")
    assert backbone["end_to_end"] is None

    saved = json.loads((output / "profile.json").read_text())
    assert saved["models"] == results
    assert "torch" in saved["hardware"]
    table = (output / "profile.md").read_text()
    assert table in printed
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert len(rows) == 2 + 3 + 2 + 3


@pytest.mark.parametrize(
    ("models", "changes", "message"),
    [
        (["scratch:yolov9"], {}, "detector 'yolov9': expected one of"),
        (["gone"], {}, "gone: no such folder"),
        (["scratch:faster_rcnn"], {"image_size": 50}, "image.size.50"),
        (["scratch:faster_rcnn"], {"batch_sizes": [0]}, "--batch-sizes 0: expected 1 or more"),
        (["scratch:faster_rcnn"], {"batch_sizes": []}, "--batch-sizes 0: expected 1 or more"),
        (["scratch:faster_rcnn"], {"repeats": 0}, "--repeats 0: expected 1 or more"),
        (["gone"], {"backbone": "resnet18"}, "--backbone resnet18: is for scratch:DETECTOR, .*; gone has its own"),
        (["scratch:dino"], {"backbone": "resnet_18"}, "no network 'resnet_18'"),
        (["scratch:dino"], {"device": "tpu9"}, "--device tpu9"),
    ],
)
def test_refused_before_anything_is_measured(tmp_path, models, changes, message):
    with pytest.raises(InputError, match=message):
        profile.main(arguments(*models, **changes, output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
