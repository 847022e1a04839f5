"""Metrics of images that two processes share equal those of one process that sees them all."""

import json
import runpy
from pathlib import Path

import pytest
from warm_python import torchrun

WORKER = Path(__file__).with_name("metrics_worker.py")


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    torchrun(WORKER, tmp_path)
    runpy.run_path(str(WORKER))["main"](tmp_path)
    one, first, second = (json.loads((tmp_path / name).read_text()) for name in ("1-0.json", "2-0.json", "2-1.json"))
    assert first == second == one
    assert one["boxes"]["images"] == 9
    assert 0 < one["boxes"]["map_50"] < 1
