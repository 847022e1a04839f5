"""Two processes that share a stream write the store of one process."""

import sys
from pathlib import Path

import pytest
from warm_python import torchrun

sys.path.insert(0, str(Path(__file__).parents[1] / "commands"))
from map_cases import TEACHER, contents, write_images, write_teacher

from agssp.cli import run
from agssp.data.readers import read_dataset

SCRIPT = Path(__file__).parents[2] / "scripts" / "anomaly_maps.py"


@pytest.mark.slow
def test_two_ranks_equal_one_and_pass_over_a_broken_image(tmp_path):
    source = read_dataset(write_images(tmp_path / "images", broken=5))
    embedded = source.map(lambda row: {"image": {"bytes": Path(row["image"]["path"]).read_bytes(), "path": None}})
    (tmp_path / "table").mkdir()
    embedded.to_parquet(tmp_path / "table/train-00000-of-00001.parquet")
    weights = write_teacher(tmp_path / "teacher.safetensors")
    flags = {
        "dataset": tmp_path / "table",
        "teacher": f"timm:{TEACHER}",
        "weights": weights,
        "references": "normal",
        "shots": 2,
        "image-size": 64,
        "layers": 16,
        "batch-size": 2,
        "shard-size": 4,
        "device": "cpu",
    }
    words = ["--streaming", *(str(word) for key, value in flags.items() for word in (f"--{key}", value)), "--output"]
    run("anomaly-maps", [*words, str(tmp_path / "one")])
    done = torchrun(SCRIPT, *words, tmp_path / "two")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert len(contents(tmp_path / "two")) == 6 + 4
    assert "23 maps of 4 x 4" in done.stdout
    assert "1 images skipped" in done.stdout
