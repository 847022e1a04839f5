"""A checkpoint written here and opened by ultralytics: its outputs, boxes and metrics, and its training."""

import json
import os
import pickletools
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from warm_python import python

from agssp.data.letterbox import letterbox_geometry
from agssp.errors import InputError
from agssp.evaluation.detection_metrics import DetectionMetrics
from agssp.hub.export.ultralytics import export_ultralytics
from agssp.hub.export.ultralytics_graph import CHILDREN, RESNETS, describe
from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
from agssp.models.detection import DinoConfig, YoloConfig, YoloForObjectDetection, YoloImageProcessor
from agssp.models.detection.yolo.neck_and_head import class_convolutions
from agssp.models.ultralytics import import_ultralytics

NAMES = {0: "scratch", 1: "pit", 2: "rolled-in scale"}
OWN = ["yolov8n", "yolov8m", "yolo11n", "yolo11s", "yolo12n", "yolo26n"]


def build(variant="yolov8n", backbone=None, **config):
    """A detector with random weights whose many small boxes and scores depend on the image.

    Norms with a variance near one let nearly nothing of an image through so many random layers.
    """
    torch.manual_seed(0)
    if backbone is not None:
        config["backbone_config"] = AgsspBackboneConfig(**{"architecture": variant} | backbone)
    model = YoloForObjectDetection(YoloConfig(variant=variant, id2label=NAMES, image_size=64, **config))
    least, most = (0.5, 1.5) if "resnet" in model.config.backbone_config.architecture else (0.1, 0.3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(least, most)
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(0, 0.1)
        for _, convolution in class_convolutions(model.head):
            convolution.weight.normal_(0, 0.3)
            convolution.bias.normal_(-1, 0.5)
        if model.head.reg_max > 1:
            for branch in model.head.cv2:
                branch[-1].bias.copy_(-torch.arange(model.head.reg_max).repeat(4))  # near bins are likely
    return model.eval()


def opened(file):
    """What ultralytics makes of a checkpoint."""
    return import_ultralytics().YOLO(file)


def drawn_images():
    """Noise with bright and dark squares, of sizes that letterboxes treat differently."""
    generator = np.random.default_rng(0)
    images = []
    for height, width in ((64, 64), (50, 80), (97, 40), (131, 97), (200, 200)):
        image = generator.integers(90, 160, (height, width, 3), dtype=np.uint8)
        image[height // 4 : height // 2, width // 5 : width // 2] = 250
        image[height // 2 : -3, width // 2 : -2] = 10
        images.append(Image.fromarray(image))
    return images


def detections(model, image, **options):
    """Boxes, scores and labels that this package finds in one image."""
    with torch.no_grad():
        outputs = model(**model.image_processor()(image, return_tensors="pt"))
    sizes = [(image.height, image.width)]
    (found,) = model.post_process_object_detection(outputs, target_sizes=sizes, **options)
    return found["boxes"], found["scores"], found["labels"]


def assert_same_raw_outputs(model, theirs):
    """Class logits and boxes of the predicting branch are equal on the same images in 0..1."""
    processor = YoloImageProcessor({"height": 64, "width": 96})
    images = processor(drawn_images(), return_tensors="pt")["pixel_values"]
    config, head = model.config.backbone_config, theirs.model[-1]
    mean, std = (torch.tensor(value)[:, None, None] for value in (config.image_mean, config.image_std))
    with torch.no_grad():
        outputs = model((images - mean) / std)
        _, raw = theirs.eval()(images)
        decoded, _ = theirs(images)
    assert outputs.logits.std(0).mean() > 2e-4  # images differ by more than the tolerance
    raw = raw.get("one2one", raw)
    torch.testing.assert_close(raw["scores"].transpose(1, 2), outputs.logits, rtol=1e-5, atol=1e-5)
    assert head.end2end == model.config.variant.startswith("yolo26")
    if not head.end2end:
        height, width = images.shape[2:]
        pixels = outputs.pred_boxes * torch.tensor([width, height, width, height])
        torch.testing.assert_close(decoded[:, :4].transpose(1, 2), pixels, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("variant", OWN)
@pytest.mark.slow
def test_raw_outputs_are_equal(variant, tmp_path):
    model = build(variant)
    export_ultralytics(model, tmp_path / "x.pt")
    yolo = opened(tmp_path / "x.pt")
    assert yolo.names == NAMES
    assert yolo.task == yolo.model.task == "detect"
    assert yolo.model.nc == yolo.model.yaml["nc"] == yolo.model.model[-1].nc == 3
    assert yolo.overrides["imgsz"] == yolo.model.args["imgsz"] == 64
    assert yolo.model.stride.tolist() == [8, 16, 32]
    assert all(value.dtype != torch.float16 for value in yolo.model.state_dict().values())
    assert_same_raw_outputs(model, yolo.model)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("variant", ["yolov8n", "yolo26n"])
@pytest.mark.slow
def test_resnet_with_its_normalisation(variant, tmp_path):
    model = build(variant, {"architecture": "resnet18", "model_args": {"drop_path_rate": 0.1}})
    export_ultralytics(model, tmp_path / "x.pt")
    theirs = opened(tmp_path / "x.pt").model
    assert_same_raw_outputs(model, theirs)
    again = type(theirs)(theirs.yaml, nc=3, verbose=False)  # as training does
    again.load(theirs, verbose=False)
    again.end2end = theirs.end2end
    assert_same_raw_outputs(model, again)


@pytest.mark.slow
def test_normalisation_of_an_own_backbone_is_exact_at_the_border(tmp_path):
    model = build("yolo11n", {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]})
    export_ultralytics(model, tmp_path / "x.pt")
    assert_same_raw_outputs(model, opened(tmp_path / "x.pt").model)


@pytest.mark.parametrize("architecture", RESNETS)
@pytest.mark.slow
def test_torchvision_has_the_same_network(architecture):
    import timm
    import torchvision

    with torch.device("meta"):
        ours = timm.create_model(architecture, num_classes=0)
        theirs = torchvision.models.get_model(architecture)
    shapes = {name: value.shape for name, value in ours.state_dict().items()}
    expected = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: shape for name, shape in expected.items() if not name.startswith("fc.")} == shapes
    assert tuple(name for name, _ in theirs.named_children())[:-2] == CHILDREN


@pytest.mark.slow
def test_description_stays_free_of_the_model(tmp_path):
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    describe(model)["head"][0][3].append("changed")
    export_ultralytics(model.half(), tmp_path / "x.pt")
    assert model.dtype == torch.float16
    assert all(torch.equal(value.float(), before[name].half().float()) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_the_pickle_names_ultralytics_and_torch_alone(tmp_path):
    export_ultralytics(build("yolo26n"), tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        operations = list(pickletools.genops(archive.read(name)))
    packages = {argument.split(" ")[0].split(".")[0] for code, argument, _ in operations if code.name == "GLOBAL"}
    assert packages <= {"torch", "ultralytics", "collections", "__builtin__"}
    import_ultralytics()
    from ultralytics.nn.tasks import torch_safe_load

    checkpoint, _ = torch_safe_load(tmp_path / "x.pt", safe_only=True)
    assert checkpoint["license"].startswith("AGPL-3.0")


@pytest.mark.parametrize("variant", ["yolov8n", "yolo26n"])
@pytest.mark.slow
def test_predictions_are_equal(variant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = build(variant)
    export_ultralytics(model, "x.pt")
    yolo, end_to_end, seen = opened("x.pt"), variant == "yolo26n", 0
    for image in drawn_images():
        # An end-to-end head of theirs gives every class of a place, and as many boxes as there are places at most.
        options = {"multi_label": True, "max_detections": 84} if end_to_end else {}
        boxes, scores, labels = detections(model, image, **options)
        (result,) = yolo.predict(image, rect=False, nms=False if end_to_end else None, verbose=False)
        theirs = result.boxes.data
        theirs = theirs[(theirs[:, 2:4] > theirs[:, :2]).all(1)]  # what lies in the grey bars is dropped here
        # Near equal scores may change places.
        same = (theirs[:, None, 5] == labels) & ((theirs[:, None, 4] - scores).abs() < 1e-3)
        same &= (theirs[:, None, :4] - boxes).abs().amax(2) < 1
        assert len(theirs) == len(boxes)
        assert same.any(0).all()
        assert same.any(1).all()
        seen += len(boxes)
    assert seen > 50


TRAINING = """
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from ultralytics import YOLO
from ultralytics.utils import USER_CONFIG_DIR

quiet = {"workers": 0, "device": "cpu", "plots": False, "exist_ok": True, "data": "data.yaml"}
quiet["project"] = str(Path.cwd() / "runs")
(USER_CONFIG_DIR / "Arial.ttf").touch()  # or it is looked for in the network
validated = YOLO("x.pt").val(batch=4, conf=0.001, max_det=100, rect=False, name="val", **quiet).box
begun = {}

def keep(trainer):
    begun.update({name: value.clone() for name, value in trainer.model.state_dict().items()})

yolo = YOLO("x.pt")
yolo.add_callback("on_train_start", keep)
yolo.train(epochs=2, batch=4, imgsz=64, name="train", **quiet)
save_file(begun, "begun.safetensors")
best, last = YOLO("runs/train/weights/best.pt"), YOLO("runs/train/weights/last.pt")
save_file(best.model.state_dict(), "trained.safetensors")
image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    save_file({"scores": best.model.eval()(image)[1]["scores"].contiguous(), "image": image}, "outputs.safetensors")
print(json.dumps({"map_50_95": validated.map, "map_50": validated.map50, "names": last.names, "nc": last.model.nc}))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A detector, labelled images, and what ultralytics' validation and two epochs of its training make of it.

    The labels are most of the boxes off the border that the detector finds itself, a little moved.
    """
    folder = tmp_path_factory.mktemp("ultralytics")
    model = build(class_channels=80)
    export_ultralytics(model, folder / "x.pt")
    generator = np.random.default_rng(3)
    targets = []
    for part in ("images", "labels", "settings/Ultralytics", "home"):
        (folder / part).mkdir(parents=True)
    for index, image in enumerate(drawn_images() + drawn_images()):
        image = image.rotate(180) if index > 4 else image
        image.save(folder / "images" / f"{index}.png")
        boxes, _, labels = (value.numpy() for value in detections(model, image, threshold=0.3))
        inside = (boxes[:, :2] > 1).all(1) & (boxes[:, 2:] < [image.width - 1, image.height - 1]).all(1)
        kept = inside & (generator.random(len(boxes)) < 0.8)
        boxes, labels = boxes[kept], labels[kept]
        boxes = (boxes + generator.normal(0, 0.05, boxes.shape) * (boxes[:, 2:] - boxes[:, :2])[:, [0, 1, 0, 1]]).clip(
            0, [image.width, image.height] * 2
        )
        targets.append((image, boxes, labels))
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        relative = np.hstack((centres, sizes)) / ([image.width, image.height] * 2)
        lines = [" ".join(map(str, (label, *box))) for label, box in zip(labels, relative, strict=True)]
        (folder / "labels" / f"{index}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(json.dumps({"path": str(folder), "train": "images", "val": "images"} |
                                                 {"names": NAMES}))  # fmt: skip
    settings = {"YOLO_CONFIG_DIR": str(folder / "settings"), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false",
                "HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}  # fmt: skip
    done = subprocess.run([python(), "-c", TRAINING], cwd=folder, env=os.environ | settings, text=True,
                          capture_output=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return model, folder, targets, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_validation_agrees(trained):
    model, _, targets, theirs = trained
    metrics = DetectionMetrics(list(NAMES.values()))
    for index, (image, boxes, labels) in enumerate(targets):
        with torch.no_grad():
            outputs = model(**model.image_processor()(image, return_tensors="pt"))
        # ultralytics compares boxes in the input, not clipped to the image.
        (found,) = model.post_process_object_detection(outputs, threshold=0.001, max_detections=100, multi_label=True)
        place = letterbox_geometry((image.height, image.width), (64, 64))
        boxes = boxes * ([*place.scale[::-1]] * 2) + [place.left, place.top] * 2
        metrics.update(index, found["boxes"] * 64, found["scores"], found["labels"], boxes, labels)
    ours = metrics.compute()
    assert 0.1 < ours["map_50_95"] < 0.9
    # COCO takes the highest precision at a recall or more, ultralytics a line between the steps of the curve.
    assert abs(ours["map_50"] - theirs["map_50"]) < 0.01
    assert abs(ours["map_50_95"] - theirs["map_50_95"]) < 0.01


def test_training_begins_from_our_weights(trained):
    from safetensors.torch import load_file

    model, folder, *_ = trained
    begun, ours = load_file(folder / "begun.safetensors"), model.to_ultralytics()
    assert set(begun) == set(ours)
    assert all(torch.equal(begun[name], value) for name, value in ours.items())
    assert begun["model.22.cv3.0.2.weight"].shape == (3, 80, 1, 1)


@pytest.mark.slow
def test_trained_weights_come_back(trained):
    from safetensors.torch import load_file

    model, folder, _, theirs = trained
    assert theirs["names"] == {str(index): name for index, name in NAMES.items()}
    assert theirs["nc"] == 3
    back = YoloForObjectDetection.from_ultralytics(folder / "trained.safetensors", id2label=NAMES, image_size=64)
    outputs = load_file(folder / "outputs.safetensors")
    with torch.no_grad():
        logits = back(outputs["image"]).logits
        assert not torch.allclose(logits, model(outputs["image"]).logits, atol=1e-3)
    torch.testing.assert_close(logits.transpose(1, 2), outputs["scores"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "backbone", "message"),
    [
        ("slf_yolon", None, "slf_yolon has modules that ultralytics does not know.*--format onnx"),
        ("yolov8n", {"architecture": "test_resnet"}, "backbone test_resnet.*yolov8n's own or one of resnet18.*onnx"),
        ("yolov8n", {"architecture": "resnet18", "model_args": {"stem_type": "deep"}}, "built with stem_type"),
    ],
)
@pytest.mark.slow
def test_what_ultralytics_cannot_build_is_refused(variant, backbone, message, tmp_path):
    with pytest.raises(InputError, match=message):
        export_ultralytics(build(variant, backbone), tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_other_names_and_models_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"x.onnx: expected a name that ends in .pt"):
        export_ultralytics(build(), tmp_path / "x.onnx")

    class Detector:
        config = DinoConfig()

    with pytest.raises(InputError, match=r"type 'agssp_dino', expected a YOLO.*--format onnx"):
        export_ultralytics(Detector(), tmp_path / "x.pt")


def test_missing_ultralytics_is_named(tmp_path, monkeypatch):
    model = build()
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(InputError, match="pip install ultralytics"):
        export_ultralytics(model, tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_interrupted_export_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "x.pt").write_bytes(b"old")

    def interrupted(*_):
        raise KeyboardInterrupt("while saving")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt, match="while saving"):
        export_ultralytics(build(), tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_bytes() == b"old"


@pytest.mark.slow
def test_importing_the_exporter_imports_no_ultralytics():
    code = "import sys, agssp.hub.export.ultralytics; print('ultralytics' in sys.modules)"
    done = subprocess.run([python(), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
