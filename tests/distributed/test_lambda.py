"""Lambda of Eq. 8 on two processes equals lambda on one that sees both halves of the batch."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name("lambda_worker.py")


def test_two_ranks_equal_one(tmp_path):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", WORKER, tmp_path]
    subprocess.run(two, env=env, check=True, capture_output=True)
    runpy.run_path(str(WORKER))["main"](tmp_path)
    one, first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("1-0.pt", "2-0.pt", "2-1.pt"))
    assert torch.equal(first["lambda"], second["lambda"])
    assert first["lambda"].item() == pytest.approx(one["lambda"].item(), rel=1e-5)
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-4)
    for name, value in one["state"].items():
        torch.testing.assert_close(first["state"][name], value, rtol=1e-3, atol=1e-5)
        assert torch.equal(first["state"][name], second["state"][name])
