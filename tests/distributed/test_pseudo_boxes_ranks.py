"""Two processes that share the shards of a store find the thresholds and write the boxes of one process."""

from pathlib import Path

import numpy as np
import pytest
from warm_python import torchrun

from agssp.cli import run
from agssp.maps.store import MapStore

SCRIPT = Path(__file__).parents[2] / "scripts" / "pseudo_boxes.py"


@pytest.fixture
def store(tmp_path):
    """Three shards whose maxima differ so much that the mean of a rank's own shards would be another threshold."""
    generator = np.random.default_rng(0)
    store = MapStore.create(
        tmp_path / "maps", {"categories": ["plate", "strip"], "teacher": "timm:test", "grid_size": 8}
    )
    for shard in range(3):
        rows = [
            {
                "image_id": f"{shard}-{index}",
                "category": index % 2,
                "is_normal": None,
                "width": 60,
                "height": 40,
                "anomaly_score": 0.5,
                "map_max": 0.5,
            }
            for index in range(5)
        ]
        maps = generator.random((5, 8, 8)).astype(np.float16) * (1 + shard)
        store.write_shard(store.shard_path(shard, 3), rows, maps, [])
    return store


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path, store):
    flags = ["--maps", str(store.path), "--coco", "--output"]
    run("pseudo-boxes", [*flags, str(tmp_path / "one")])
    done = torchrun(SCRIPT, *flags, tmp_path / "two")
    one, two = (
        {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert len(one) == 3 + 2
    # The main process speaks for both.
    assert done.stdout.count("42 boxes on 9 of 15 images") == 1
