"""`agssp export`: whole files with their descriptions, or none and a reason."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from detector_cases import make_images, save_detector

from agssp import AgsspBackbone
from agssp.cli import main as agssp
from agssp.commands.export import ExportArguments, main
from agssp.errors import InputError
from agssp.evaluation.inference import detect, load_detector
from agssp.hub.export.description import describe_detector
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.detection import any_detector, catalogue

RUN = {
    "command": "agssp finetune /home/me/agdp --dataset /data/plates --output /home/me/runs",
    "dataset": {"source": "/data/plates", "images": 58},
    "arguments": {"dataset": "/data/plates"},
    "results": {"test": {"map_50": 0.4}},
}

# Runs where neither torch nor what needs it can be imported.
RUNNER = """
import json
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "transformers", "datasets", "timm", "ultralytics", "onnx"):
            raise ImportError(f"{name} is hidden")

sys.meta_path.insert(0, Hidden())
from agssp.hub.export import OnnxDetector

detector = OnnxDetector(sys.argv[1])
found = detector.detect(sys.argv[2:], threshold=0.0, iou_threshold=1.0, batch_size=2)
print(json.dumps([{name: value.tolist() for name, value in each.items()} for each in found]))
"""


@pytest.fixture
def model(tmp_path):
    folder = save_detector(tmp_path / "model")
    (tmp_path / "model/run.json").write_text(json.dumps(RUN))
    return folder


@pytest.fixture
def backbone(tmp_path):
    torch.manual_seed(1)
    AgsspBackbone.from_architecture("test_resnet", image_mean=[0.1, 0.2, 0.3]).save_pretrained(tmp_path / "backbone")
    return str(tmp_path / "backbone")


@pytest.mark.slow
def test_onnx_runs_without_torch_and_finds_what_torch_finds(model, tmp_path, capsys):
    images, output = make_images(tmp_path / "images", labelled=False), tmp_path / "exported/detector.onnx"
    output.parent.mkdir()
    output.with_name("detector.onnx.partial").write_bytes(b"of a killed export")
    agssp(["export", model, "--format", "onnx", "--output", str(output), "--image-size", "96", "--check", images])
    said = capsys.readouterr().out
    assert "licence: yolov8n is made of ultralytics' modules, AGPL-3.0" in said
    assert "comparing it with torch on 5 images" in said
    assert f"removing {output}.partial, which an export that did not finish has left" in said
    assert f"the same boxes by onnxruntime {onnxruntime.__version__}: " in said
    assert "it runs by onnxruntime 1.18 or later" in said
    assert f"detector = OnnxDetector({str(output)!r})" in said
    assert sorted(path.name for path in output.parent.iterdir()) == ["detector.onnx", "detector.onnx.json"]

    described = json.loads((tmp_path / "exported/detector.onnx.json").read_text())
    assert described["format"] == "onnx"
    assert described["labels"] == {"0": "light", "1": "dark"}
    assert described["input"]["shape"] == ["batch", 3, 96, 96]
    assert described["normalisation"] == {
        "rule": "(pixel * scale - mean) / std, pixel in 0..255", "scale": 1 / 255, "mean": [0.0] * 3, "std": [1.0] * 3,
    }  # fmt: skip
    assert described["suppression"]["iou_threshold"] == 0.7
    assert described["licence"].startswith("yolov8n is made of")
    assert (described["opset"], described["ir_version"], described["onnxruntime"]) == (18, 10, ">=1.18")
    assert described["check"]["against"] == f"onnxruntime {onnxruntime.__version__}"
    assert described["check"]["images"] == 5
    assert described["check"]["pixels"] < 1
    assert described["run"]["dataset"] == {"source": "plates", "images": 58}
    assert described["run"]["results"] == RUN["results"]
    assert "/home" not in json.dumps(described)

    files = sorted(str(path) for path in (tmp_path / "images").rglob("*.png"))
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(output), *files], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = [{"image": {"path": file, "bytes": None}, "image_id": file} for file in files]
    # Many of this detector's scores are the same, so their order, and which of them is suppressed, is left to chance.
    expected = list(detect(load_detector(model), rows, threshold=0.0, image_size=96, iou_threshold=1.0))
    assert sum(len(each.scores) for each in expected) > 50
    for ours, theirs in zip(found, expected, strict=True):
        assert sorted(ours["scores"], reverse=True) == ours["scores"]
        table = np.column_stack((100 * np.array(ours["labels"]), ours["scores"], ours["boxes"]))
        reference = np.column_stack((100 * theirs.labels, theirs.scores, theirs.boxes))
        assert table.shape == reference.shape
        distances = np.abs(table[:, None] - reference[None]).max(2)
        assert distances.min(0).max() < 0.05
        assert distances.min(1).max() < 0.05


@pytest.mark.slow
def test_timm_opens_the_backbone_of_a_backbone_and_of_a_detector(backbone, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = AgsspBackbone.from_pretrained(backbone)
    detector = catalogue.build("rtdetr_v2_s", AgsspBackboneConfig(architecture="test_resnet"), {0: "pit"}, 64)
    any_detector.save(detector, tmp_path / "detector")
    left = tmp_path / "detector-timm.partial"
    left.mkdir()
    (left / "config.json").write_text("of a killed export")
    for source, expected in ((backbone, opened), ("detector", detector.model.backbone.model)):
        output = main(ExportArguments(source, "timm"))
        assert output.name == f"{source.split('/')[-1]}-timm"
        pixel_values = torch.rand(1, 3, 64, 64)
        theirs = timm.create_model(
            f"local-dir:{output}", pretrained=True, features_only=True, out_indices=expected.out_indices
        )
        with torch.no_grad():
            for ours, feature in zip(
                expected.eval()(pixel_values).feature_maps, theirs.eval()(pixel_values), strict=True
            ):
                torch.testing.assert_close(feature, ours)
        described = json.loads((tmp_path / f"{output}.json").read_text())
        assert described["backbone"]["architecture"] == "test_resnet"
        assert described["normalisation"]["mean"] == list(expected.config.image_mean)
        assert described["run"] is None
        assert described["check"]["against"] == f"timm {timm.__version__}"
        assert described["check"]["features"] == len(expected.out_indices)
        assert described["check"]["difference"] <= 1e-6
        said = capsys.readouterr().out
        assert f"out_indices={tuple(expected.out_indices)})" in said
        assert f"the same features by timm {timm.__version__} alone: {len(expected.out_indices)} compared" in said
        assert ("removing detector-timm.partial, which an export" in said) == (source == "detector")
    assert not left.exists()


@pytest.mark.slow
def test_a_backbone_keeps_the_licence_of_the_yolo_it_was_trained_in_and_may_be_in_half_precision(tmp_path, capsys):
    yolo = catalogue.build("yolov8n", AgsspBackboneConfig(architecture="test_resnet"), None, 64)
    any_detector.save(yolo, tmp_path / "yolo")
    yolo.backbone.half().save_pretrained(tmp_path / "half")
    for source, licensed in (("yolo", True), ("half", False)):
        main(ExportArguments(str(tmp_path / source), "timm", str(tmp_path / f"{source}-timm")))
        described = json.loads((tmp_path / f"{source}-timm.json").read_text())
        assert ("AGPL-3.0" in str(described["licence"])) == licensed
        assert ("AGPL-3.0" in capsys.readouterr().out) == licensed


def test_ultralytics_gets_a_file_and_what_it_expects_of_its_input(tmp_path, capsys):
    model = catalogue.build("yolov8n", AgsspBackboneConfig(architecture="yolov8n", image_mean=[0.5] * 3), None, 64)
    any_detector.save(model, tmp_path / "model")
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported/a.pt.partial").write_bytes(b"of a killed export")
    output = main(ExportArguments(str(tmp_path / "model"), "ultralytics", str(tmp_path / "exported/a.pt")))
    assert sorted(path.name for path in output.parent.iterdir()) == ["a.pt", "a.pt.json"]
    described = json.loads((tmp_path / "exported/a.pt.json").read_text())
    assert (described["format"], described["normalisation"]["mean"]) == ("ultralytics", [0.0] * 3)
    check = described["check"]
    assert check["against"].startswith("ultralytics 8.")
    assert (check["images"], check["boxes"]) == (3, 3 * 84)
    assert check["pixels"] < 1e-3
    assert check["logit"] < 1e-3
    said = capsys.readouterr().out
    assert "AGPL-3.0" in said
    assert f"the same raw outputs by {check['against']}: 252 boxes compared" in said
    assert "a.pt.partial, which an export that did not finish has left" in said


def test_no_detector_yet(tmp_path):
    with pytest.raises(InputError, match="gone: no such folder"):
        main(ExportArguments(str(tmp_path / "gone"), "onnx", str(tmp_path / "a.onnx")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no config\.json; is its training finished"):
        main(ExportArguments(str(tmp_path / "empty"), "timm", str(tmp_path / "b")))
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"format": "tflite"}, "--format tflite: expected onnx, timm, ultralytics"),
        ({"opset": 11}, "--opset 11: too old; expected 18 to 23"),
        ({"output": "detector.pt"}, r"--output detector.pt: expected a name that ends in .onnx"),
        ({"format": "ultralytics", "output": "a.onnx"}, r"expected a name that ends in .pt"),
        ({"output": "taken.onnx"}, "a file of the name taken.onnx exists"),
        ({"output": "folder.onnx"}, "a folder of the name folder.onnx exists"),
        ({"output": "described.onnx"}, "a file of the name described.onnx.json exists"),
        ({"output": "taken.onnx/a.onnx"}, "lies in a file"),
        ({"image_size": 50}, "--image-size 50: expected a multiple of 32"),
        ({"image_size": 0}, "--image-size 0: expected a multiple of 32"),
        ({"check": "nothing"}, "nothing"),
        ({"format": "timm", "opset": 18}, "--opset: belongs to --format onnx, not timm"),
        ({"format": "ultralytics", "image_size": 64}, "--image-size: belongs to --format onnx, not ultralytics"),
        ({"format": "timm"}, "yolov8n is a YOLO's own backbone, which timm does not have; open it with"),
        ({"model": "backbone"}, "type 'agssp_backbone', expected a detector"),
        ({"model": "taken.onnx", "format": "timm"}, "neither a backbone's nor a detector's folder"),
    ],
)
def test_what_cannot_be_exported_is_named_and_leaves_nothing(flags, message, model, backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    for name in ("taken.onnx", "described.onnx.json"):
        (tmp_path / name).write_text("")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        main(ExportArguments(**{"model": "model", "format": "onnx"} | flags))
    assert sorted(tmp_path.rglob("*")) == before


def test_images_of_the_check_that_cannot_be_read(model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.png: expected an image file"):
        main(ExportArguments(model, "onnx", str(tmp_path / "a.onnx"), check=str(tmp_path / "bad.png")))
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.slow
def test_description_says_what_is_kept_of_overlapping_boxes():
    backbone = AgsspBackboneConfig(architecture="test_resnet")
    for name, expected in (("yolov8n", 0.7), ("yolo26n", None), ("dfine_s", None), ("faster_rcnn", None)):
        model = catalogue.build(name, None if name in catalogue.VARIANTS else backbone, None, 64)
        described = describe_detector(model, 64)
        assert described["suppression"]["iou_threshold"] == expected
        assert (described["licence"] is not None) == (name in catalogue.VARIANTS)
        assert described["detector"]["backbone"] == (name if name in catalogue.VARIANTS else "test_resnet")
