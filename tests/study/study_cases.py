"""A study that trains in seconds, and plans of stages that take no time."""

import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from chain_cases import write_all

from agssp.study.plan import make_plan
from agssp.study.stage import Cell, Output, Plan, Stage
from agssp.study.study_file import read_study

__all__ = ["Output", "quick_plan", "stage", "tiny", "tiny_plan", "write_all", "write_study"]

TRAINING = {
    "use_cpu": True,
    "val_fraction": 0,
    "dataloader_num_workers": 0,
    "disable_tqdm": True,
    "num_train_epochs": 1,
}


def tiny(root: Path) -> dict:
    """A study of what `write_all` wrote: every kind of start, with maps and boxes that are there already."""
    return {
        "title": "tiny",
        "starts": {"imagenet": "backbone", "coco": "detector"},
        "groups": {
            "ResNet": {"backbone": "test_resnet", "detector": "yolov8n"},
            "CSPDarknet": {"backbone": "yolov8n", "detector": "yolov8n"},
        },
        "rows": [
            {"label": "scratch", "group": "ResNet", "start": "scratch"},
            {"label": "+AGBP", "group": "ResNet", "start": "imagenet", "pretrain_backbone": {"objective": "none"}},
            {"label": "+AGSSP", "group": "ResNet", "start": "imagenet", "pretrain_backbone": {"objective": "none"},
             "pretrain_detector": {}},
            {"label": "COCO", "group": "CSPDarknet", "start": "coco"},
        ],
        "scales": {
            "full": {
                "seeds": [0],
                "corpus": {"dataset": str(root / "images"), "maps": str(root / "maps"), "boxes": str(root / "boxes")},
                "data": {"squares": {"dataset": str(root / "labelled"), "subset": {"per_class": 2}}},
                "weights": {"imagenet": "stand_in", "coco": "stand_in"},
                "flags": {
                    "pretrain_backbone": {"image_size": 32, "per_device_train_batch_size": 4, **TRAINING},
                    "pretrain_detector": {"image_size": 64, "per_device_train_batch_size": 4, **TRAINING},
                    "finetune": {"image_size": 64, "per_device_train_batch_size": 2, **TRAINING},
                },
            }
        },
    }  # fmt: skip


def write_study(root: Path, table: dict, name: str = "tiny") -> str:
    """Write a study file; its path."""
    path = root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(table, sort_keys=False))
    return str(path)


def tiny_plan(root: Path, table: dict, **options) -> Plan:
    """The plan of a study without faults."""
    faults: list[str] = []
    study = read_study(write_study(root, table), "full", faults, **options)
    plan = make_plan(study, faults)
    assert faults == []
    return plan


def stage(key: str, command: str, **flags) -> Stage:
    """A stage made by hand."""
    return Stage(key, command, key, tuple(flags.items()))


def quick_plan(count: int = 6) -> Plan:
    """Synthetic images and a few splits of them, each of which is a cell."""
    surfaces = stage("surfaces", "make-surfaces", unlabelled=0, labelled=6, normal=0, size=64)
    stages = [surfaces]
    for seed in range(count):
        dataset = Output("surfaces", "labelled")
        stages.append(stage(f"split-{seed}", "split", dataset=dataset, count=2, seed=seed))
    cells = tuple(Cell("split", "", "surfaces", seed, ("surfaces", f"split-{seed}")) for seed in range(count))
    return Plan({entry.key: entry for entry in stages}, cells)
