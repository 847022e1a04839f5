"""Folders of small models as the training commands leave them, and code that real clients run on them."""

import json
import sys
from pathlib import Path

import torch

from agssp import AgsspBackbone, YoloForObjectDetection

sys.path.insert(0, str(Path(__file__).parents[1] / "commands"))

from detector_cases import CLASSES, detector, make_images, save_detector

__all__ = [
    "CLASSES",
    "backbone_folder",
    "detector",
    "detector_folder",
    "finetune_record",
    "make_images",
    "save_detector",
]

VERSIONS = {"agssp": "0.1.0", "torch": "2.14.1"}


def backbone_record(root: Path) -> dict:
    """run.json of `agssp pretrain-backbone` on this machine."""
    return {
        "command": f"agssp pretrain-backbone --dataset {root}/steel --maps {root}/maps --output {root}/backbone",
        "arguments": {"dataset": f"{root}/steel", "maps": f"{root}/maps", "output": f"{root}/backbone",
                      "start": f"{root}/start.safetensors", "image_size": 96, "distillation": True, "split": None},
        "epochs": 3.0,
        "steps": 30,
        "seed": 7,
        "dataset": {"source": f"{root}/steel", "name": "steel", "fingerprint": "0" * 16, "images": 1234,
                    "categories": ["plate", "strip"]},
        "teacher": {"teacher": "ViT-B-16-plus-240", "pretrained": "laion400m_e32", "licence": "MIT"},
        "start": f"weights from {root}/start.safetensors: 10 tensors loaded",
        "start_licences": ["mit"],
        "optimizer": {"optimizer": "adamw", "scaled_learning_rate": 1e-4, "global_batch": 32, "schedule": "cosine"},
        "objective": "classification",
        "distill_loss": "l2",
        "lambda": 4.25,
        "results": {"held_out": 60, "starting_weights": {"alignment": 0.25}, "final": "last", "best": None,
                    "last": {"eval_alignment": 0.75, "epoch": 3.0, "step": 30}},
        "skipped": {f"{root}/steel/bad.png": "cannot be read"},
        "versions": VERSIONS,
        "hardware": "CPU, 1 threads",
    }  # fmt: skip


def finetune_record(root: Path, test: str = "me/defects") -> dict:
    """run.json of `agssp finetune` on a detector that was pretrained from that backbone."""
    backbone = {name: backbone_record(root)[name] for name in ("command", "dataset", "teacher", "epochs", "lambda")}
    pretrained = {"command": f"agssp pretrain-detector --output {root}/d", "epochs": 2.0, "origins": [backbone],
                  "boxes": {"teacher": "ViT-B-16-plus-240", "images": 900, "boxes": 1500}}  # fmt: skip
    return {
        "command": f"agssp finetune {root}/detector --dataset {root}/few --output {root}/mine",
        "arguments": {"model": f"{root}/detector", "dataset": f"{root}/few", "output": f"{root}/mine"},
        "epochs": 40.0,
        "seed": 1,
        "origins": [pretrained],
        "dataset": {"source": f"{root}/few", "name": "few", "images": 12, "classes": list(CLASSES)},
        "test_dataset": {"name": test, "images": 50} | ({"hub_id": test} if "/" in test else {}),
        "start": "weights from yolov8n with 1 classes (defect)\n  loaded 348 tensors",
        "results": {"final": "last", "best": None, "last": None, "test": {"map_50": 0.5, "map_50_95": 0.25}},
        "skipped": {},
        "versions": VERSIONS,
        "hardware": "CPU, 1 threads",
    }


LOG = [
    {"loss": 3.0 / epoch, "eval_alignment": epoch / 4, "epoch": float(epoch), "step": 10 * epoch} for epoch in (1, 2, 3)
]


def backbone_folder(folder: Path, architecture: str = "test_resnet", **config) -> AgsspBackbone:
    """A timm backbone with everything that its training writes around it."""
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture(architecture, **config)
    backbone.save_pretrained(folder)
    _write_run(folder, backbone_record(folder.parent))
    return backbone


def detector_folder(folder: Path) -> YoloForObjectDetection:
    """A finetuned YOLO likewise."""
    save_detector(folder)
    _write_run(folder, finetune_record(folder.parent))
    return detector()


def _write_run(folder: Path, record: dict) -> None:
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in LOG))
    (folder / "settings.json").write_text("{}")
    (folder / "transfer.txt").write_text(f"from {folder.parent}")
    checkpoint = folder / "checkpoint-30"
    checkpoint.mkdir()
    for name in ("optimizer.pt", "rng_state.pth", "model.safetensors"):
        (checkpoint / name).write_bytes(b"never published")
