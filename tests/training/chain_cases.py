"""Small images, maps, boxes and labels, and arguments that train on them in seconds."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from agssp.boxes.store import THRESHOLDS, pseudo_objects, write_boxes
from agssp.commands.finetune import DetectorTrainingArguments, FinetuneArguments
from agssp.commands.pretrain_backbone import BackboneTrainingArguments, PretrainBackboneArguments
from agssp.commands.pretrain_detector import PretrainDetectorArguments, PretrainDetectorTrainingArguments
from agssp.data.readers import read_dataset
from agssp.maps.store import MapStore


def write_all(root: Path, count: int = 12) -> Path:
    """Grey pictures with one bright square each: as labelled images, as a map store and as pseudo boxes."""
    generator = np.random.default_rng(0)
    lines, squares = [], []
    for index in range(count):
        pixels = generator.integers(60, 90, (64, 64, 3), dtype=np.uint8)
        x, y = (int(value) for value in generator.integers(4, 36, 2))
        pixels[y : y + 24, x : x + 24] = 220
        category = "plate" if index % 2 else "strip"
        path = root / "images" / category / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        objects = {"bbox": [[x, y, 24, 24]], "category": ["pit" if index % 3 else "scratch"]}
        lines.append({"file_name": f"{category}/{index:02d}.png", "category": category, "objects": objects})
        squares.append((f"{category}/{index:02d}.png", (x, y, 24, 24)))
    labelled = root / "labelled"
    labelled.mkdir()
    for category in ("plate", "strip"):
        (labelled / category).symlink_to(root / "images" / category)
    (labelled / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))

    rows = {row["image_id"]: row for row in read_dataset(root / "images")}
    categories = read_dataset(root / "images").features["category"].names
    manifest = {"categories": categories, "grid_size": 8, "teacher": "timm:test", "licence": "none"}
    store = MapStore.create(root / "maps", manifest)
    facts, maps, boxes = [], [], []
    for image_id, (x, y, w, h) in sorted(squares):
        anomaly_map = np.full((8, 8), 0.1, np.float16)
        anomaly_map[y // 8 : (y + h) // 8, x // 8 : (x + w) // 8] = 0.9
        common = {
            "image_id": image_id,
            "category": rows[image_id]["category"],
            "is_normal": None,
            "width": 64,
            "height": 64,
        }
        facts.append({**common, "anomaly_score": 0.9, "map_max": 0.9})
        maps.append(anomaly_map)
        objects = pseudo_objects(np.array([[x, y, w, h]]), np.array([0.9]))
        boxes.append({**common, "anomaly_score": 0.9, "objects": objects})
    store.write_shard(store.shard_path(0, 1), facts, np.stack(maps), [])
    write_boxes(root / "boxes/data/boxes-00000-of-00001.parquet", categories, boxes)
    (root / "boxes" / THRESHOLDS).write_text("{}")
    return root


def backbone_arguments(root: Path, output: str, **changes):
    """`pretrain-backbone` on a tiny network."""
    own = {"backbone": "test_resnet", "image_size": 32, "val_fraction": 0.25}
    shared = {"num_train_epochs": 4, "per_device_train_batch_size": 3}
    return _split(PretrainBackboneArguments, BackboneTrainingArguments, own, shared, changes,
                  dataset=str(root / "images"), maps=str(root / "maps"), output=str(root / output))  # fmt: skip


def detector_arguments(root: Path, output: str, **changes):
    """`pretrain-detector` at 64 px."""
    own = {"start": "scratch:yolov8n", "image_size": 64, "val_fraction": 0.25}
    return _split(PretrainDetectorArguments, PretrainDetectorTrainingArguments, own, {"num_train_epochs": 2}, changes,
                  dataset=str(root / "images"), boxes=str(root / "boxes"), output=str(root / output))  # fmt: skip


def finetune_arguments(root: Path, output: str, **changes):
    """`finetune` at 64 px."""
    own = {"model": "scratch:yolov8n", "image_size": 64, "val_fraction": 0.25}
    shared = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "checkpoint_every": 1}
    return _split(FinetuneArguments, DetectorTrainingArguments, own, shared, changes,
                  dataset=str(root / "labelled"), output=str(root / output))  # fmt: skip


def _split(command, training, own, shared, changes, **paths):
    names = set(command.__dataclass_fields__)
    values = {"use_cpu": True, "dataloader_num_workers": 0, "disable_tqdm": True, **shared}
    values |= {key: value for key, value in changes.items() if key not in names}
    return command(**paths | own | {key: value for key, value in changes.items() if key in names}), training(**values)
