"""Every family of detectors goes through the same commands: pretrain, finetune, evaluate, predict, profile, export."""

import json
import sys
from pathlib import Path

import pytest
import torch
from chain_cases import detector_arguments, finetune_arguments
from safetensors.torch import save_file
from test_commands import run_facts
from transformers import AutoModelForObjectDetection

sys.path.append(str(Path(__file__).parents[1] / "hub" / "export"))
from export_cases import detector

from agssp import AgsspBackbone
from agssp.commands import evaluate, export, finetune, predict, pretrain_detector, profile
from agssp.errors import InputError
from agssp.evaluation.inference import load_detector
from agssp.hub.export import OnnxDetector
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.detection import any_detector, catalogue
from agssp.models.detection.start import start_detector
from agssp.models.detection.transfer import detector_backbone

YOLOS = ("yolov8n", "yolo11n", "yolo12n", "yolo26n", "slf_yolon")
OTHERS = ("faster_rcnn", "dino", "rtdetr_v2_s", "dfine_s")
# To trace a network for ONNX takes as long as all else here; most ONNX files are compared in tests/hub/export.
EXPORTS = {
    **dict.fromkeys(("yolov8n", "yolo11n", "yolo12n", "yolo26n"), "ultralytics"),
    **dict.fromkeys(("faster_rcnn", "dino", "rtdetr_v2_s", "dfine_s"), "timm"),
}


class Hidden:
    """A finder that has no ultralytics."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ultralytics":
            raise ModuleNotFoundError(f"{name} is hidden", name=name)


@pytest.fixture
def without_ultralytics(monkeypatch):
    """As if it were not installed, whatever was imported before."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])


def save_backbone(root, name):
    """Folder of a small backbone, its own for YOLO."""
    torch.manual_seed(3)
    architecture = name if name in catalogue.VARIANTS else "test_resnet"
    AgsspBackbone.from_architecture(architecture).save_pretrained(root / "backbone")
    return str(root / "backbone")


@pytest.mark.parametrize("name", YOLOS)
@pytest.mark.slow
def test_yolos_from_pseudo_boxes_to_exports(root, name, capsys):
    backbone = save_backbone(root, name)
    through_the_chain(root, name, start=None, backbone=backbone, detector=name)
    assert f"licence: {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.slow
def test_the_others_go_the_same_way_without_ultralytics(root, name, capsys, without_ultralytics):
    start = detector(name, 64, {0: "hole"})
    any_detector.save(start, root / "start")
    backbone = save_backbone(root, name)
    through_the_chain(root, name, start=str(root / "start"), backbone=backbone)
    assert "\nlicence:" not in capsys.readouterr().out
    assert not any(module.split(".")[0] == "ultralytics" for module in sys.modules)


def assert_same_weights(model, expected):
    weights = expected.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def through_the_chain(root, name, **beginning):
    """pretrain-detector, finetune, evaluate, predict, profile, export."""
    once = {"num_train_epochs": 1, "per_device_train_batch_size": 9}
    pretrain_detector.main(*detector_arguments(root, "agdp", val_fraction=0, **beginning, **once))
    # The backbone was frozen, and is what was given.
    pretrained = catalogue.open_folder(root / "agdp")
    place, kept = detector_backbone(pretrained)
    assert_same_weights(kept, AgsspBackbone.from_pretrained(beginning["backbone"]))
    assert pretrained.config.id2label == {0: "defect"}

    finetune.main(*finetune_arguments(root, "finetuned", model=str(root / "agdp"), **once))
    facts = run_facts(root / "finetuned")
    assert facts["dataset"]["classes"] == ["pit", "scratch"]
    assert "belongs to the source's classes" in facts["start"]
    assert f"{place}." not in facts["start"]
    log = [json.loads(line) for line in (root / "finetuned/log.jsonl").read_text().splitlines()]
    losses = [entry for entry in log if "loss" in entry]
    assert losses
    parts = [value for key, value in losses[0].items() if key.startswith("loss_")]
    assert len(parts) >= 3
    assert sum(parts) == pytest.approx(losses[0]["loss"], rel=1e-2)

    for folder in ("finetuned", "finetuned/best"):
        opened = load_detector(root / folder)
        assert opened.config.id2label == {0: "pit", 1: "scratch"}
        auto = AutoModelForObjectDetection.from_pretrained(root / folder)
        assert type(auto) is type(opened) is catalogue.family_of(opened).model_class
        assert_same_weights(opened, auto)
        assert (root / folder / "preprocessor_config.json").is_file()

    model, images = str(root / "finetuned"), str(root / "images")
    metrics = evaluate.main(evaluate.EvaluateArguments(model, str(root / "labelled"), device="cpu")).numbers
    assert 0 <= metrics["map_50_95"] <= metrics["map_50"] <= 1
    predict.main(predict.PredictArguments(model, images, str(root / "found"), threshold=0.0, device="cpu"))
    found = json.loads((root / "found/predictions.json").read_text())
    assert len(found["images"]) == 12
    for box in found["annotations"]:
        x, y, width, height = box["bbox"]
        assert min(x, y) >= 0
        assert max(x + width, y + height) <= 64.001
    assert found["annotations"]

    (row,) = profile.main(profile.ProfileArguments([model], batch_sizes=[1], repeats=1, device="cpu"))
    assert row["networks"]["agssp"]["parameters"] == sum(each.numel() for each in opened.parameters())
    assert ("home" in row["networks"]) == (not row["home"].startswith("none: ")) == (name not in ("dino", "slf_yolon"))

    kind = EXPORTS.get(name, "onnx")
    output = root / "exported" / {"onnx": "detector.onnx", "ultralytics": "detector.pt", "timm": "backbone"}[kind]
    exported = export.main(export.ExportArguments(model, kind, str(output)))
    description = json.loads(exported.with_name(exported.name + ".json").read_text())
    assert description["check"]["against"].split()[0] == {"onnx": "onnxruntime"}.get(kind, kind)
    for entry in found["images"][:2] if kind == "onnx" else []:
        (boxes,) = OnnxDetector(exported).detect([str(root / "images" / entry["file_name"])], threshold=0.0)
        scores = [box["score"] for box in found["annotations"] if box["image_id"] == entry["id"]]
        # Far down, scores are too small to be told from none.
        assert sorted(scores)[:-31:-1] == pytest.approx(boxes["scores"][:30].tolist(), abs=1e-3)


@pytest.mark.parametrize("name", ["faster_rcnn", "dfine_s"])
@pytest.mark.slow
def test_a_start_and_a_backbone(root, name):
    """Neck and head go on from the start, or afresh; the backbone is the given one, whatever its architecture."""
    backbone = AgsspBackbone.from_pretrained(save_backbone(root, name))
    start, folder = str(root / "start"), str(root / "backbone")
    torch.manual_seed(4)
    donor = catalogue.build(name, AgsspBackboneConfig(architecture="test_resnet"), {0: "hole"}, 64)
    any_detector.save(donor, start)
    for source in (start, f"scratch:{name}"):
        model, report = start_detector(source, None, ["pit", "scratch"], 96, 4, folder)
        place, own = detector_backbone(model)
        assert_same_weights(own, backbone)
        assert not any(parameter.requires_grad for parameter in own.parameters())
        assert str(report).startswith(f"neck and head of {source}: ")
        assert f"backbone of {folder}: weights from backbone test_resnet" in str(report)
        assert (model.config.image_size, model.config.num_labels) == (96, 2)
        state, theirs = model.state_dict(), donor.state_dict()
        carried = [key for key, value in theirs.items() if value.shape == state[key].shape
                   and not key.startswith(place) and len(value.unique()) > 1]  # fmt: skip
        equal = [torch.equal(state[key], theirs[key]) for key in carried]
        assert (sum(equal) > 0.9 * len(equal)) == (source == start)


@pytest.mark.slow
def test_a_file_of_torchvision_starts_a_detector(root):
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    save_file(theirs.state_dict(), root / "coco.safetensors")
    model, report = start_detector(str(root / "coco.safetensors"), "faster_rcnn", ["defect"], 64, 0)
    assert torch.equal(model.fpn.inner_blocks[0][0].weight, theirs.backbone.fpn.inner_blocks[0][0].weight)
    assert set(report.left_out) == {key for key in model.state_dict() if "box_predictor" in key}
    assert load_detector(root / "coco.safetensors", ["pit", "scratch"]).config.id2label == {0: "pit", 1: "scratch"}
    with pytest.raises(InputError, match="is a Faster R-CNN, --detector dino is a DINO: leave --detector out"):
        start_detector(str(root / "coco.safetensors"), "dino", ["defect"], 64, 0)


@pytest.mark.parametrize(
    ("source", "named", "message"),
    [
        ("scratch:yolov9", None, "detector 'yolov9': expected one of yolov8n, .*faster_rcnn, dino"),
        ("scratch:dino", "yolov8n", "scratch:dino is a DINO, --detector yolov8n is a YOLO: leave --detector out"),
        ("backbone", "fcos", "detector 'fcos': expected one of"),
        ("vit", "dino", "--detector dino does not fit this backbone: .*test_vit has features at strides .16."),
        ("vit", "faster_rcnn", "--detector faster_rcnn does not fit this backbone: .*Choose a backbone"),
        ("dfine", "rtdetr_v2_s", "dfine is a D-FINE, --detector rtdetr_v2_s is a RT-DETR v2: leave --detector out"),
        ("weights.safetensors", None, "no tensor model.0.conv.weight or roi_heads"),
        ("weights.pt", None, "pickled .pt files are never opened"),
        ("gone.safetensors", None, "no such file"),
    ],
)
def test_what_does_not_fit_is_named_before_training(tmp_path, monkeypatch, source, named, message):
    monkeypatch.chdir(tmp_path)
    if source in ("backbone", "vit"):
        AgsspBackbone.from_architecture("test_vit" if source == "vit" else "test_resnet").save_pretrained(source)
    elif source == "dfine":
        any_detector.save(catalogue.build("dfine_s", AgsspBackboneConfig(architecture="test_resnet"), None, 64), source)
    elif source == "weights.safetensors":
        save_file({"x": torch.zeros(1)}, source)
    elif source == "weights.pt":
        (tmp_path / source).write_bytes(b"pickle")
    with pytest.raises(InputError, match=message):
        start_detector(source, named, ["pit"], 64, 0)


@pytest.mark.slow
def test_small_inputs_have_fewer_queries_and_large_ones_get_them_back():
    """RT-DETR's queries are cells of its feature maps, of which there are 84 at 64 px and 336 at 128 px."""
    small = catalogue.build("rtdetr_v2_s", AgsspBackboneConfig(architecture="test_resnet"), None, 64)
    assert small.config.num_queries == 84
    large, _ = catalogue.for_classes(small, {0: "pit"}, 128, 0)
    assert large.config.num_queries == 300
    assert catalogue.for_classes(large, {0: "pit"}, 64, 0)[0].config.num_queries == 84


@pytest.mark.slow
def test_overlapping_boxes_are_kept_where_the_detector_is_meant_so():
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.42]]])
    outputs = {"logits": torch.tensor([[[2.0], [1.0]]]), "pred_boxes": boxes}
    options = {"threshold": 0.25, "target_sizes": [(64, 64)], "input_size": (64, 64)}
    for name, kept in (("dino", 2), ("dfine_s", 2), ("yolov8n", 1)):
        architecture = name if name == "yolov8n" else "test_resnet"
        model = catalogue.build(name, AgsspBackboneConfig(architecture=architecture), None, 64)
        assert len(any_detector.post_process(model, outputs, **options)[0]["boxes"]) == kept
        assert len(any_detector.post_process(model, outputs, **options, iou_threshold=0.99)[0]["boxes"]) == 2
        assert len(any_detector.post_process(model, outputs, **options, iou_threshold=0.5)[0]["boxes"]) == 1


def test_without_ultralytics_yolo_is_a_named_error(root, without_ultralytics):
    save_backbone(root, "faster_rcnn")
    for source in ("scratch:yolov8n", str(root / "backbone")):
        with pytest.raises(InputError, match=r"pip install ultralytics.*AGPL-3\.0.*faster_rcnn"):
            finetune.main(*finetune_arguments(root, "yolo", model=source, detector="yolov8n"))
    assert not (root / "yolo").exists()
