"""`pretrain-detector --start --backbone`: neck and head of one, the backbone of the other."""

import re

import pytest
import torch
from chain_cases import detector_arguments
from safetensors.torch import save_file
from test_commands import run_facts

from agssp import AgsspBackbone, YoloForObjectDetection
from agssp.commands import pretrain_detector
from agssp.errors import InputError
from agssp.models.detection import YoloConfig
from agssp.models.detection.start import replace_backbone, start_detector


@pytest.fixture
def start(root):
    """A detector of two classes with ultralytics' names, as COCO's comes."""
    torch.manual_seed(1)
    model = YoloForObjectDetection(YoloConfig(variant="yolov8n", id2label={0: "cat", 1: "dog"}, image_size=64))
    save_file(model.to_ultralytics(), root / "start.safetensors")
    return model


@pytest.fixture
def backbone(root):
    torch.manual_seed(2)
    model = AgsspBackbone.from_architecture("yolov8n", image_mean=[0.1, 0.2, 0.3])
    model.save_pretrained(root / "backbone")
    return model


def part(model, name):
    return {key.removeprefix(f"{name}."): value for key, value in model.state_dict().items() if key.startswith(name)}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_each_part_comes_from_where_the_report_says(root, start, backbone):
    file, folder = str(root / "start.safetensors"), str(root / "backbone")
    model, report = start_detector(file, "yolov8s", ["defect"], 64, 4)
    text = replace_backbone(model, report, file, folder)
    assert equal(part(model, "backbone"), backbone.state_dict())
    assert equal(part(model, "neck"), part(start, "neck"))
    fresh = {"cv3.0.2.weight", "cv3.0.2.bias", "cv3.1.2.weight", "cv3.1.2.bias", "cv3.2.2.weight", "cv3.2.2.bias"}
    ours, theirs = ({key: value for key, value in part(each, "head").items() if key not in fresh}
                    for each in (model, start))  # fmt: skip
    assert equal(ours, theirs)
    assert model.config.backbone_config.image_mean == [0.1, 0.2, 0.3]
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())

    kept, taken = text.split("\nbackbone of ")
    assert kept.startswith(f"neck and head of {file}: weights from yolov8n with 2 classes")
    loaded = len(part(start, "neck")) + len(ours)
    assert re.search(rf"loaded +{loaded} tensors", kept)
    assert all(f"head.{name}" in kept for name in fresh)
    assert taken.startswith(f"{folder}: weights from backbone yolov8n")
    assert re.search(rf"loaded +{len(backbone.state_dict())} tensors", taken)


@pytest.mark.slow
def test_the_command_trains_it_and_keeps_the_report(root, start, backbone, capsys):
    changes = {"start": str(root / "start.safetensors"), "backbone": str(root / "backbone"), "num_train_epochs": 1}
    pretrain_detector.main(*detector_arguments(root, "detector", **changes))
    trained = YoloForObjectDetection.from_pretrained(root / "detector")
    assert equal(part(trained, "backbone"), backbone.state_dict())
    assert not equal(part(trained, "neck"), part(start, "neck"))
    written = (root / "detector/transfer.txt").read_text()
    assert written.strip() == run_facts(root / "detector")["start"]
    assert written in capsys.readouterr().out

    AgsspBackbone.from_architecture("yolov8n").save_pretrained(root / "backbone")
    with pytest.raises(InputError, match="fingerprint of backbone"):
        pretrain_detector.main(*detector_arguments(root, "detector", **changes))


def test_from_scratch_and_a_backbone(root, backbone):
    model, report = start_detector("scratch:yolov8n", "yolov8n", ["defect"], 64, 0)
    text = replace_backbone(model, report, "scratch:yolov8n", str(root / "backbone"))
    assert equal(part(model, "backbone"), backbone.state_dict())
    assert text.splitlines()[0] == "neck and head of scratch:yolov8n: weights from scratch"


def test_another_architecture_is_named(root, start):
    AgsspBackbone.from_architecture("test_resnet").save_pretrained(root / "other")
    changes = {"start": str(root / "start.safetensors"), "backbone": str(root / "other")}
    given = r"--backbone .*other is not the backbone of --start .*start\.safetensors"
    with pytest.raises(InputError, match=rf"{given}: .*this detector has yolov8n, the source has test_resnet"):
        pretrain_detector.main(*detector_arguments(root, "detector", **changes))
