"""Two processes that share the shards of a store measure what one process measures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from warm_python import torchrun

from agssp.cli import run
from agssp.maps.store import MapStore

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate_maps.py"


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    generator = np.random.default_rng(0)
    store = MapStore.create(
        tmp_path / "maps", {"categories": ["plate", "strip"], "teacher": "timm:test", "grid_size": 8}
    )
    (tmp_path / "images").mkdir()
    lines = []
    for shard in range(3):
        names = [f"{shard}-{index}.png" for index in range(5)]
        for index, name in enumerate(names):
            mask = (generator.random((40, 60)) < 0.3) & (index > 0)
            Image.new("L", (60, 40)).save(tmp_path / "images" / name)
            (tmp_path / "images/masks").mkdir(exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "images/masks" / name)
            lines.append({"file_name": name, "mask_file_name": f"masks/{name}"})
        common = {"is_normal": None, "width": 60, "height": 40, "map_max": 1.0}
        rows = [
            {**common, "image_id": name, "category": index % 2, "anomaly_score": float(generator.random())}
            for index, name in enumerate(names)
        ]
        store.write_shard(store.shard_path(shard, 3), rows, generator.random((5, 8, 8)) * (1 + shard), [])
    (tmp_path / "images/metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))

    flags = [str(store.path), "--dataset", str(tmp_path / "images"), "--output"]
    run("evaluate-maps", [*flags, str(tmp_path / "one")])
    torchrun(SCRIPT, *flags, tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one == two
    assert (one["images"], one["normal"]) == (15, 3)
    assert one["image_auroc"] is not None
