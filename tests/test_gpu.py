"""The commands on a GPU, where there is one: every one runs there, and finds the boxes that it finds on the CPU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from random_weights import enliven

from agssp.data.synthetic import make_surfaces
from agssp.models.detection import any_detector, catalogue

ROOT = Path(__file__).parents[1]
# Without TF32, whose convolutions have ten bits.
OF_A_GPU = {"CUDA_VISIBLE_DEVICES": os.environ["VISIBLE_GPUS"], "NVIDIA_TF32_OVERRIDE": "0", "OMP_NUM_THREADS": "1"}
ENVIRONMENT = os.environ | OF_A_GPU
DETECTORS = ("yolov8n", "faster_rcnn", "dino", "rtdetr_v2_s", "dfine_s")


def no_gpu():
    program = "import torch; raise SystemExit(not torch.cuda.is_available())"
    return not shutil.which("nvidia-smi") or subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT).returncode


pytestmark = pytest.mark.skipif(bool(no_gpu()), reason="there is no GPU")


def run(*words):
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def found(folder):
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["image_id"]: line for line in map(json.loads, lines)}


@pytest.mark.parametrize("name", DETECTORS)
def test_every_command_runs_there(tmp_path, name):
    words = ("--unlabelled", 24, "--labelled", 24, "--per-class", 3, "--image-size", 64, "--backbone-epochs", 1)
    words += ("--detector-epochs", 1, "--finetune-epochs", 2, "--backbone", "test_resnet", "--output", tmp_path / "out")
    run("scripts/detectors.py", "--only", name, *words)
    (row,) = json.loads((tmp_path / "out" / "table.json").read_text(encoding="utf-8"))["rows"]
    assert row["problem"] == ""
    assert "CUDA" in row["hardware"]
    facts = json.loads((tmp_path / "out" / name / "finetuned" / "run.json").read_text(encoding="utf-8"))
    assert facts["hardware"].startswith("1 x NVIDIA"), facts["hardware"]


def pixels_of(model, folder):
    files = [path for path in sorted(folder.glob("*/*.png")) if path.parent.name != "masks"]
    return model.image_processor()([*map(Image.open, files)], return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_are_those_of_the_cpu(tmp_path, name):
    make_surfaces(tmp_path / "images", unlabelled=0, labelled=6, normal=0, size=96)
    torch.manual_seed(0)
    model = catalogue.build(name, id2label={0: "pit", 1: "scratch"}, image_size=96).eval()
    if name == "yolov8n":
        enliven(model, pixels_of(model, tmp_path / "images" / "labelled"))
    any_detector.save(model, tmp_path / "model")
    for device in ("cpu", "cuda"):
        # The highest scores: of near ones either device may leave out another.
        run("-m", "agssp", "predict", tmp_path / "model", tmp_path / "images" / "labelled", "--device", device,
            "--threshold", 0.0, "--no-pictures", "--output", tmp_path / device)  # fmt: skip
    cpu, gpu = found(tmp_path / "cpu"), found(tmp_path / "cuda")
    assert sorted(cpu) == sorted(gpu)
    assert len(cpu) == 6
    best = [line["scores"][0] for line in cpu.values()]
    assert max(best) - min(best) > 1e-3, "not of the image"
    for image_id in cpu:
        for one, other in ((cpu[image_id], gpu[image_id]), (gpu[image_id], cpu[image_id])):
            assert len(one["boxes"]) > 0
            boxes, scores, labels = (torch.tensor(other[column]) for column in ("boxes", "scores", "labels"))
            for box, score, label in list(zip(one["boxes"], one["scores"], one["labels"], strict=True))[:20]:
                near = ((boxes - torch.tensor(box)).abs().amax(1) < 1.0) & (labels == label)
                assert (near & ((scores - score).abs() < 1e-4 + 0.02 * score)).any(), (image_id, box, score)
