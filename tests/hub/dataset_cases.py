"""Images with a map store and pseudo boxes as the commands leave them, for the tests of publishing."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agssp.boxes.store import THRESHOLDS, pseudo_objects, write_boxes
from agssp.commands.dataset_push import DatasetPushArguments, main
from agssp.data.readers import read_dataset
from agssp.errors import InputError
from agssp.maps.store import MapStore

sys.path.insert(0, str(Path(__file__).parents[1] / "commands"))

from map_cases import write_images

GRID = 6
FREE = {"name": "free", "title": "Free plates", "licence": "cc-by-sa-4.0", "redistribution": True, "images": 23,
        "home_page": "https://example.org/plates", "citation": "Plates, 2020"}  # fmt: skip
__all__ = ["FREE", "GRID", "images", "labelled", "maps", "refused", "write_boxes_of"]


def images(folder, count=24, broken=None):
    """Two categories of which half is normal; one file may be broken."""
    return write_images(folder, count, broken)


def labelled(folder, splits=("train", "test"), each=6):
    """A folder a split, each with metadata.jsonl, boxes and masks; the test split has a class of its own."""
    generator = np.random.default_rng(1)
    for split in splits:
        rows = []
        for index in range(each):
            for part in ("images", "masks"):
                (folder / split / part).mkdir(parents=True, exist_ok=True)
            name, mask = f"images/{index}.png", f"masks/{index}.png"
            Image.fromarray(generator.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / split / name)
            Image.fromarray(np.eye(40, 48, dtype=np.uint8) * 255).save(folder / split / mask)
            kind = "stain" if split == "test" and index == 0 else "pit"
            objects = {"bbox": [[1, 2, 10, 12]], "category": [kind]}
            rows.append({"file_name": name, "category": "plate", "mask_file_name": mask, "objects": objects})
        (folder / split / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def maps(dataset_folder, output, seed=0, skip=(), only=None, **changes):
    """A finished map store of a folder's images, random but the same for one seed; `skip` could not be read."""
    dataset = read_dataset(dataset_folder)
    manifest = {
        "teacher": "timm:test_resnet",
        "pretrained": "pypi",
        "licence": "Apache-2.0",
        "image_size": 64,
        "grid_size": GRID,
        "categories": dataset.features["category"].names,
        "references": {"chosen": {"plate": {"mode": "mutual", "image_ids": ["a"]}}},
        "source": {"dataset": str(dataset_folder), "split": None, "category": None},
        "version": "0.1.0",
        "seed": seed,
        **changes,
    }
    store = MapStore.create(output, manifest)
    kept = [row for row in dataset if row["image_id"] not in skip][:only]
    values = np.random.default_rng(seed).random((len(kept), GRID, GRID)).astype(np.float16)
    rows = [
        {
            **{name: row[name] for name in ("image_id", "category", "is_normal")},
            "width": 48,
            "height": 40,
            "anomaly_score": float(each.mean()),
            "map_max": float(each.max()),
        }
        for row, each in zip(kept, values, strict=True)
    ]
    skipped = [{"image_id": image_id, "reason": f"{image_id}: the image is damaged"} for image_id in skip]
    store.write_shard(store.shard_path(0, 1), rows, values, skipped)
    return store


def write_boxes_of(store, output):
    """Pseudo boxes of a store: one box on every second image."""
    rows = store.table().to_pylist()
    for index, row in enumerate(rows):
        boxes = [[2.0, 3.0, 10.0, 8.0]] if index % 2 else []
        row["objects"] = pseudo_objects(np.array(boxes).reshape(-1, 4), np.full(len(boxes), 0.5))
        del row["map_max"]
    write_boxes(output / "data/boxes-00000-of-00001.parquet", store.categories, rows)
    (output / THRESHOLDS).write_text(json.dumps({"maps": str(store.path), "rule": "relative", "delta": 0.2}))
    return output


def refused(root, *, folder="images", **changes):
    """The message of a push that is refused without any Hub."""
    given = {"folder": str(root / folder), "repo_id": "agssp/x", "card_only": str(root / "no card")} | changes
    # Nothing is written, whatever the reason: each test looks for its own in the message.
    with pytest.raises(InputError, match=r"\S.* .*\S") as caught:
        main(DatasetPushArguments(**given))
    assert not (root / "no card").exists()
    return str(caught.value)
